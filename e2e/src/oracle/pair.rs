//! Two servers of the oracle's own, which it can empty: revisions are compared as they are, so
//! every sequence needs servers that have seen nothing else.

use anyhow::Result;

use super::play::Sides;
use super::side::Side;
use crate::program::Program;
use crate::server::Server;

/// The oracle never crashes a machine, so it does not wait for disks.
const FLAGS: &[&str] = &["--unsafe-no-fsync", "--log-level", "warn"];

pub struct Pair {
    pub left: Server,
    pub right: Server,
}

impl Pair {
    pub async fn start(left: Program, right: Program) -> Result<Self> {
        let (left, right) = futures::join!(Server::start(left, FLAGS), Server::start(right, FLAGS));
        Ok(Self { left: left?, right: right? })
    }

    pub async fn start_over(&mut self) -> Result<()> {
        let (left, right) = futures::join!(self.left.start_over(), self.right.start_over());
        left.and(right)
    }

    pub async fn connect(&self) -> Result<Sides> {
        Ok(Sides { left: Side::connect(&self.left.client_url()).await?, right: Side::connect(&self.right.client_url()).await? })
    }
}
