//! One call of a command: what was given to it, and the two things every command does with that: connect and print.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bytes::Bytes;

use super::flag::Values;
use super::{Command, GLOBAL, env, inherited_by};
use crate::client::{Client, Config};
use crate::exit::{BAD_FEATURE, Failure};
use crate::go::number;
use crate::output::{Format, Reply};

pub struct Call {
    /// From the root to the command itself.
    pub path: Vec<&'static Command>,
    /// What is not a flag. Keys and values need not be text.
    pub args: Vec<Vec<u8>>,
    /// Everything, as it was given.
    pub words: Vec<Vec<u8>>,
    pub flags: Values,
}

impl Call {
    pub fn on(&self, flag: &str) -> bool {
        self.flags.on(flag)
    }

    pub fn arg(&self, at: usize) -> Bytes {
        Bytes::copy_from_slice(&self.args[at])
    }

    pub fn word(&self, at: usize) -> String {
        String::from_utf8_lossy(&self.args[at]).into_owned()
    }

    /// The name of a file; it need not be text.
    pub fn file(&self, at: usize) -> PathBuf {
        OsString::from_vec(self.args[at].clone()).into()
    }

    /// Refuses other numbers of arguments.
    pub fn expect(&self, args: usize, message: &str) -> Result<(), Failure> {
        if self.args.len() == args { Ok(()) } else { Err(Failure::args(message)) }
    }

    /// An id of a member.
    pub fn member_id(&self, at: usize) -> Result<u64, Failure> {
        let id = number::uint(&self.word(at), 16);
        id.map_err(|why| Failure::args(format!("bad member ID arg ({why}), expecting ID in Hex")))
    }

    /// An id of a lease.
    pub fn lease_id(&self, at: usize) -> Result<i64, Failure> {
        let id = number::int(&self.word(at), 16);
        id.map_err(|why| Failure::args(format!("bad lease ID arg ({why}), expecting ID in Hex")))
    }

    /// For a command that asks nobody: takes from the environment what every command has, and nothing of its own.
    pub fn alone(&mut self) -> Result<(), Failure> {
        env::apply(&mut self.flags, GLOBAL.iter(), std::env::vars_os())
    }

    /// Takes the environment into account, and refuses what no connection can be made with.
    pub async fn config(&mut self) -> Result<Config, Failure> {
        env::apply(&mut self.flags, inherited_by(&self.path), std::env::vars_os())?;
        if self.on("debug") {
            env::tell(&self.flags, inherited_by(&self.path));
        }
        let config = Config::of(&self.flags).await?;
        self.format()?;
        Ok(config)
    }

    pub async fn client(&mut self) -> Result<Client, Failure> {
        let config = self.config().await?;
        Client::new(config).await
    }

    pub fn format(&self) -> Result<Format, Failure> {
        Format::named(self.flags.text("write-out")).ok_or_else(|| Failure::new(BAD_FEATURE, "unsupported output format"))
    }

    pub fn print(&self, reply: &Reply) -> Result<(), Failure> {
        self.format()?.print(reply, self.on("hex"))
    }

    /// `l` or `s`.
    pub fn serializable(&self) -> Result<bool, Failure> {
        match self.flags.text("consistency") {
            "s" => Ok(true),
            "l" => Ok(false),
            other => {
                let other = crate::go::quote::quote(other.as_bytes());
                Err(Failure::new(BAD_FEATURE, format!("unknown consistency flag {other}")))
            }
        }
    }
}
