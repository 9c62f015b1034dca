//! A network for the members of one cluster: each in a namespace of its own, all behind one router. The test
//! itself reaches every member at any time; what members say to each other can be cut per direction.
//!
//! A cut is a routing rule of the router that drops packets silently, as a broken cable does: connections
//! stay open until somebody gives up on them. Needs root.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use super::slow::{Detour, Trouble};
use crate::ports::Ports;

/// Names of namespaces begin so; the process that made them comes next.
const PREFIX: &str = "keelson";
/// The router's own address in each network.
const ROUTER: u8 = 254;
/// The test's address in each network.
const TEST: u8 = 250;
/// Every member has the same ports, as on machines of their own.
const PORTS: Ports = Ports { client: 2379, peer: 2380 };
/// Routing rules are asked in this order, all before the main table.
const CUT: u32 = 100;
const DETOUR: u32 = 200;
/// The routing table in which members' addresses are the router's own.
const DETOUR_TABLE: u32 = 77;

static MADE: AtomicU32 = AtomicU32::new(0);

/// Where one member lives.
#[derive(Clone, Debug)]
pub struct Seat {
    pub namespace: String,
    pub address: String,
    pub ports: Ports,
}

/// The cables, until dropped.
pub struct Network {
    number: u8,
    router: String,
    seats: Vec<Seat>,
    cut: BTreeSet<(usize, usize)>,
    slowed: BTreeSet<(usize, usize)>,
    detour: Option<Detour>,
}

/// Runs `ip` with its lines of commands, in a namespace or outside of all.
fn ip(namespace: Option<&str>, lines: &[String]) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("running ip, of iproute2")?;
    child.stdin.take().context("a pipe to ip")?.write_all((lines.join("\n") + "\n").as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip: {}: {}", lines.join("; "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Removes what tests that died have left: their networks, and the members in them.
fn sweep() {
    let Ok(names) = fs::read_dir("/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)).filter(|pid| pid.parse::<u32>().is_ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

/// Ends all that runs in a namespace, and removes it with all its cables.
fn remove(namespace: &str) {
    let pids = Command::new("ip").args(["netns", "pids", namespace]).output();
    let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    for pid in pids.split_whitespace().filter(|pid| pid.parse() != Ok(process::id())) {
        // It may have ended by itself.
        let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
    }
    // Somebody else may be sweeping, too.
    let _ = ip(None, &[format!("netns del {namespace}")]);
}

impl Network {
    /// Lays the cables for so many members, and for those that may join later.
    pub fn new(members: usize) -> Result<Self> {
        sweep();
        let name = format!("{PREFIX}-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let router = format!("{name}-router");
        ip(None, &[format!("netns add {router}")]).context("making a network namespace: this test needs root")?;
        let mut network =
            Self { number: 0, router, seats: Vec::new(), cut: BTreeSet::new(), slowed: BTreeSet::new(), detour: None };
        network.number = network.find_number()?;
        network.prepare_router()?;
        for member in 0..members {
            network.add(&format!("{name}-m{member}"))?;
        }
        network.detour = Some(Detour::start(&network.router, network.subnet())?);
        Ok(network)
    }

    /// The first three numbers of all addresses.
    fn subnet(&self) -> [u8; 3] {
        [10, 213, self.number]
    }

    fn address(&self, last: u8) -> String {
        let [a, b, c] = self.subnet();
        format!("{a}.{b}.{c}.{last}")
    }

    fn outside(&self) -> String {
        format!("keelson{}", self.number)
    }

    /// The cable between the test and the router: whoever has made it has the number.
    fn find_number(&self) -> Result<u8> {
        let first = u8::try_from(process::id() % 250)?;
        let mut refused = None;
        for number in (0..250).map(|i| (u16::from(first) + i) % 250) {
            match ip(None, &[format!("link add keelson{number} type veth peer name test netns {}", self.router)]) {
                Ok(()) => return Ok(u8::try_from(number)?),
                Err(e) => refused = Some(e),
            }
        }
        Err(refused.context("no number was tried")?)
    }

    fn prepare_router(&self) -> Result<()> {
        let forwarding = "echo 1 > /proc/sys/net/ipv4/ip_forward && \
                          echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter && echo 0 > /proc/sys/net/ipv4/conf/default/rp_filter";
        let status = Command::new("ip").args(["netns", "exec", &self.router, "sh", "-c", forwarding]).status()?;
        if !status.success() {
            bail!("the router cannot forward: {status}");
        }
        let (test, router, outside) = (self.address(TEST), self.address(ROUTER), self.outside());
        ip(
            Some(&self.router),
            &[
                "link set lo up".into(),
                "link set test up".into(),
                format!("addr add {router}/32 dev test"),
                format!("route add {test} dev test"),
            ],
        )?;
        ip(
            None,
            &[
                format!("addr add {test}/32 dev {outside}"),
                format!("link set {outside} up"),
                format!("route add {}/24 via {router} dev {outside} onlink src {test}", self.address(0)),
            ],
        )
    }

    fn add(&mut self, namespace: &str) -> Result<()> {
        let member = self.seats.len();
        let address = self.address(u8::try_from(member + 1)?);
        let router = self.address(ROUTER);
        ip(None, &[format!("netns add {namespace}")])?;
        let ports = PORTS;
        self.seats.push(Seat { namespace: namespace.to_owned(), address: address.clone(), ports });
        ip(
            Some(namespace),
            &[
                "link set lo up".into(),
                format!("link add name eth0 type veth peer name m{member} netns {}", self.router),
                format!("addr add {address}/32 dev eth0"),
                "link set eth0 up".into(),
            ],
        )?;
        ip(
            Some(&self.router),
            &[
                format!("link set m{member} up"),
                format!("route add {address} dev m{member}"),
                format!("route add local {address} dev lo table {DETOUR_TABLE}"),
            ],
        )?;
        ip(
            Some(namespace),
            &[
                format!("route add {router} dev eth0 scope link"),
                format!("route add default via {router} dev eth0 src {address}"),
            ],
        )
    }

    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    fn cut_rule(&self, from: usize, to: usize) -> String {
        format!("priority {CUT} iif m{from} to {} blackhole", self.seats[to].address)
    }

    fn detour_rule(&self, from: usize, to: usize) -> String {
        let (to, port) = (&self.seats[to].address, PORTS.peer);
        format!("priority {DETOUR} iif m{from} to {to} ipproto tcp dport {port} lookup {DETOUR_TABLE}")
    }

    /// Drops what is sent from one member to another. The other direction goes on.
    pub fn cut(&mut self, from: usize, to: usize) -> Result<()> {
        if from != to && self.cut.insert((from, to)) {
            ip(Some(&self.router), &[format!("rule add {}", self.cut_rule(from, to))])?;
        }
        Ok(())
    }

    /// Delays what passes on connections that one member makes to another. Those it has are reset.
    pub fn slow(&mut self, from: usize, to: usize, trouble: Trouble) -> Result<()> {
        if from != to && self.slowed.insert((from, to)) {
            self.detour.as_ref().context("the detour runs")?.set(from, to, trouble);
            ip(Some(&self.router), &[format!("rule add {}", self.detour_rule(from, to))])?;
        }
        Ok(())
    }

    /// All cables are as they were.
    pub fn heal(&mut self) -> Result<()> {
        let cut = std::mem::take(&mut self.cut);
        let slowed = std::mem::take(&mut self.slowed);
        let rules = cut.iter().map(|(from, to)| self.cut_rule(*from, *to));
        let rules = rules.chain(slowed.iter().map(|(from, to)| self.detour_rule(*from, *to)));
        let lines: Vec<String> = rules.map(|rule| format!("rule del {rule}")).collect();
        if !lines.is_empty() {
            ip(Some(&self.router), &lines)?;
        }
        if let Some(detour) = &self.detour {
            detour.clear();
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its thread is in the router's namespace.
        self.detour = None;
        for seat in &self.seats {
            remove(&seat.namespace);
        }
        remove(&self.router);
    }
}
