//! A name server of a few records, and what makes processes ask it: a `resolv.conf` of their own.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rand::Rng;
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const A: u16 = 1;
const SRV: u16 = 33;

/// Records by name, in lower case and without the dot at the end.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub addresses: BTreeMap<String, Ipv4Addr>,
    pub services: BTreeMap<String, Vec<(String, u16)>>,
}

/// A running name server.
pub struct Dns {
    records: Arc<Mutex<Records>>,
    task: JoinHandle<()>,
    dir: TempDir,
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Dns {
    /// Serves on the usual port of some loopback address.
    pub async fn start(records: Records) -> Result<Self> {
        for _ in 0..20 {
            let address = Ipv4Addr::new(127, 53, rand::rng().random(), rand::rng().random_range(1..255));
            let Ok(socket) = UdpSocket::bind((address, 53)).await else { continue };
            let dir = TempDir::with_prefix("keelson-e2e-dns-")?;
            fs::write(dir.path().join("resolv.conf"), format!("nameserver {address}\noptions timeout:2 attempts:2\n"))?;
            let records = Arc::new(Mutex::new(records));
            let asked = records.clone();
            let task = tokio::spawn(async move {
                let mut query = [0; 1500];
                while let Ok((length, from)) = socket.recv_from(&mut query).await {
                    let answer = answer(&asked.lock(), &query[..length]);
                    if let Some(answer) = answer {
                        // Who does not hear it asks again.
                        let _ = socket.send_to(&answer, from).await;
                    }
                }
            });
            return Ok(Self { records, task, dir });
        }
        bail!("no loopback address has a free port 53; binding it needs root")
    }

    /// From now on a host has this address.
    pub fn set_address(&self, host: &str, address: Ipv4Addr) {
        self.records.lock().addresses.insert(host.to_owned(), address);
    }

    /// The file that processes shall see as `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> PathBuf {
        self.dir.path().join("resolv.conf")
    }
}

/// The name that a query asks for, the kind of record, and where the question ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    Some((labels.join("."), kind, at + 4))
}

fn answer(records: &Records, query: &[u8]) -> Option<Vec<u8>> {
    let (name, kind, end) = question(query)?;
    let rows: Vec<Vec<u8>> = match kind {
        A => records.addresses.get(&name).iter().map(|address| address.octets().to_vec()).collect(),
        SRV => records.services.get(&name).into_iter().flatten().map(|(target, port)| service(target, *port)).collect(),
        _ => Vec::new(),
    };
    let known = records.addresses.contains_key(&name) || records.services.contains_key(&name);
    let mut out = query.get(..2)?.to_vec();
    // A response, recursion available, and that there is no such name.
    out.extend([0x81, if known { 0x80 } else { 0x83 }]);
    out.extend([0, 1, 0, u8::try_from(rows.len()).ok()?, 0, 0, 0, 0]);
    out.extend(query.get(12..end)?);
    for row in rows {
        // The name of the question, the kind, the Internet, and a second to live.
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 1]);
        out.extend(u16::try_from(row.len()).ok()?.to_be_bytes());
        out.extend(row);
    }
    Some(out)
}

fn service(target: &str, port: u16) -> Vec<u8> {
    // Priority and weight come first.
    let mut row = vec![0, 0, 0, 1];
    row.extend(port.to_be_bytes());
    for label in target.split('.') {
        row.push(u8::try_from(label.len()).expect("labels are short"));
        row.extend(label.as_bytes());
    }
    row.push(0);
    row
}

/// Words of a shell that run a program which sees another `resolv.conf`.
pub fn seeing(resolv_conf: &std::path::Path, rest: &str) -> Result<String> {
    let path = resolv_conf.to_str().context("a path in UTF-8")?;
    Ok(format!("mount --make-rprivate / && mount --bind '{path}' /etc/resolv.conf && {rest}"))
}
