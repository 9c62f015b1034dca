//! Nodes as machines: one can be lost, and another comes in its place.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

/// A node whose machine is gone. An empty one takes its place when this is dropped: the node is others' too.
pub struct Lost(u8);

impl Lost {
    /// Cuts the power of a node.
    pub fn node(number: u8) -> Result<Self> {
        script("lose", number)?;
        Ok(Self(number))
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        if let Err(error) = script("join", self.0) {
            eprintln!("node{} is left behind: {error:#}", self.0);
        }
    }
}

fn script(what: &str, number: u8) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/node.sh");
    let status = Command::new(script).args([what, &number.to_string()]).status()?;
    ensure!(status.success(), "node.sh {what} {number}: {status}");
    Ok(())
}
