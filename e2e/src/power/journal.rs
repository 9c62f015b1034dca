//! The journal that `power/shim.c` writes: one record per change, in the order of the changes.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A descriptor was opened; the file may have been created or emptied by that.
    Open {
        handle: u32,
        path: PathBuf,
        created: bool,
        emptied: bool,
    },
    Write {
        handle: u32,
        offset: u64,
        data: Vec<u8>,
    },
    Resize {
        handle: u32,
        size: u64,
    },
    SyncBegins {
        handle: u32,
        sync: u64,
    },
    SyncEnds {
        handle: u32,
        sync: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    MakeDir {
        path: PathBuf,
    },
}

const HEAD: usize = 17;

/// All whole records; the last one may be cut off, as its process was killed.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(HEAD) {
        let handle = u32::from_ne_bytes(head[1..5].try_into()?);
        let arg = u64::from_ne_bytes(head[5..13].try_into()?);
        let size = u32::from_ne_bytes(head[13..17].try_into()?);
        let Some((payload, rest)) = rest.split_at_checked(usize::try_from(size)?) else { break };
        bytes = rest;
        let text = || String::from_utf8(payload.to_vec()).context("a name is not UTF-8");
        let pair = || -> Result<(PathBuf, PathBuf)> {
            let text = text()?;
            let (from, to) = text.split_once('\0').context("two names belong here")?;
            Ok((name(from), name(to)))
        };
        records.push(match head[0] {
            b'O' => Record::Open { handle, path: name(&text()?), created: arg & 1 != 0, emptied: arg & 2 != 0 },
            b'W' => Record::Write { handle, offset: arg, data: payload.to_vec() },
            b'T' => Record::Resize { handle, size: arg },
            b'b' => Record::SyncBegins { handle, sync: arg },
            b'e' => Record::SyncEnds { handle, sync: arg },
            b'R' => pair().map(|(from, to)| Record::Rename { from, to })?,
            b'L' => pair().map(|(from, to)| Record::Link { from, to })?,
            b'U' => Record::Unlink { path: name(&text()?) },
            b'M' => Record::MakeDir { path: name(&text()?) },
            b'!' => bail!("the process used {}, which the journal cannot express", text()?),
            other => bail!("the journal has a record of kind {other}"),
        });
    }
    Ok(records)
}

/// One name per file, however it was spelled.
fn name(path: &str) -> PathBuf {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()
}
