//! One server process on loopback ports with a data folder of its own: started, stopped, killed and
//! restarted by tests, and never left behind by them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keelson_api::etcdserverpb::RangeRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::chaos::network::Seat;
use crate::dns::{self, Dns};
use crate::pki::Pki;
use crate::ports::{Ports, Reservation};
use crate::program::Program;
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const TAIL_LINES: usize = 40;
const TAIL_COLUMNS: usize = 300;

/// A running (or stopped, or killed) server and everything it owns.
#[derive(Debug)]
pub struct Server {
    program: Program,
    name: String,
    /// Members of its cluster as the flag names them; itself alone if there are no others.
    initial_cluster: Option<String>,
    extra_flags: Vec<String>,
    /// Certificates that it serves with, and that callers are checked by; without them it speaks http.
    pki: Option<Arc<Pki>>,
    env: BTreeMap<&'static str, String>,
    ulimit: Option<&'static str>,
    /// What the process sees as `/etc/resolv.conf`, if not the machine's.
    resolv_conf: Option<PathBuf>,
    /// Where it listens: on loopback, unless it has a network namespace of its own.
    host: String,
    namespace: Option<String>,
    ports: Ports,
    dir: TempDir,
    child: Option<Child>,
}

const LOOPBACK: &str = "127.0.0.1";

impl Server {
    /// Starts a single-member server with an empty data folder and waits until it answers.
    ///
    /// A port can be lost to another process between its reservation and the server's bind; that
    /// shows as a server that ends at once, and is tried again on other ports.
    pub async fn start(program: Program, extra_flags: &[&str]) -> Result<Self> {
        const ATTEMPTS: usize = 3;
        let mut attempt = 1;
        loop {
            let reservation = Reservation::new()?;
            let mut server = Self::member(program, "default", reservation.ports()?, extra_flags)?;
            drop(reservation);
            match server.launch().await {
                Ok(()) => return Ok(server),
                Err(_) if attempt < ATTEMPTS && server.log().contains("address already in use") => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A member of a cluster, not started yet.
    pub fn member(program: Program, name: &str, ports: Ports, extra_flags: &[&str]) -> Result<Self> {
        Ok(Self {
            program,
            name: name.to_owned(),
            initial_cluster: None,
            pki: None,
            extra_flags: extra_flags.iter().map(|flag| flag.to_string()).collect(),
            env: BTreeMap::new(),
            ulimit: None,
            resolv_conf: None,
            host: LOOPBACK.to_owned(),
            namespace: None,
            ports,
            dir: TempDir::with_prefix("keelson-e2e-")?,
            child: None,
        })
    }

    /// Moves to a network namespace, before it is started.
    pub fn sit(&mut self, seat: &Seat) {
        self.host.clone_from(&seat.address);
        self.namespace = Some(seat.namespace.clone());
        self.ports = seat.ports;
    }

    /// Which members the flags name from now on, and whether the cluster is there already.
    pub fn set_cluster(&mut self, initial_cluster: String, exists: bool) {
        self.initial_cluster = Some(initial_cluster);
        self.extra_flags.retain(|flag| !flag.starts_with("--initial-cluster-state="));
        self.extra_flags.push(format!("--initial-cluster-state={}", if exists { "existing" } else { "new" }));
    }

    /// More flags for the next start; they count more than those that came before.
    pub fn add_flags(&mut self, flags: &[&str]) {
        self.extra_flags.extend(flags.iter().map(ToString::to_string));
    }

    /// Where clients find it, if its flags say so.
    pub const fn move_client_port(&mut self, port: u16) {
        self.ports.client = port;
    }

    /// No members are named from now on: it has to find them.
    pub fn find_cluster(&mut self) {
        self.initial_cluster = Some(String::new());
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn program(&self) -> Program {
        self.program
    }

    pub fn client_url(&self) -> String {
        format!("{}://{}:{}", self.scheme(), self.host, self.ports.client)
    }

    pub fn peer_url(&self) -> String {
        format!("{}://{}:{}", self.scheme(), self.host, self.ports.peer)
    }

    const fn scheme(&self) -> &'static str {
        if self.pki.is_some() { "https" } else { "http" }
    }

    /// From the next start on it speaks https, to clients and to members, and demands certificates of both.
    pub fn secure(&mut self, pki: Arc<Pki>) {
        self.extra_flags.extend(pki.flags());
        self.pki = Some(pki);
    }

    /// A connection as clients make them, with a certificate where one is demanded.
    pub async fn channel(&self) -> Result<Channel> {
        let mut endpoint = Endpoint::from_shared(self.client_url())?;
        if let Some(pki) = &self.pki {
            endpoint = endpoint.tls_config(pki.trusting(Some("client"))?)?;
        }
        Ok(endpoint.connect().await?)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Everything the server wrote to stdout and stderr, over all its restarts.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The end of the log, titled, for the report of a failed test.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let mut tail = format!("--- end of the log of {} ---\n", self.program.name());
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            tail.extend(line.chars().take(TAIL_COLUMNS));
            tail.push('\n');
        }
        tail
    }

    /// Ends the process the way an operator does, and waits until it is gone. Keelson says that it went well;
    /// etcd ends by the signal.
    pub async fn stop(&mut self) -> Result<()> {
        match self.end().await?.filter(|status| self.program == Program::Keelson && !status.success()) {
            Some(status) => bail!("{} did not stop well: {status}\n{}", self.program.name(), self.log_tail()),
            None => Ok(()),
        }
    }

    /// Asks the process to end, and waits until it is gone, however it went.
    pub async fn end(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let pid = Pid::from_child(child);
        kill_process(pid, Signal::TERM).context("SIGTERM")?;
        let name = self.program.name();
        let mut status = None;
        wait::until(&format!("{name} ends after SIGTERM"), STOP_LIMIT, async || {
            status = child.try_wait()?;
            Ok(status.is_some())
        })
        .await?;
        self.child = None;
        Ok(status)
    }

    /// Sets or unsets a variable of the processes started from now on.
    pub fn set_env(&mut self, name: &'static str, value: Option<String>) {
        match value {
            Some(value) => self.env.insert(name, value),
            None => self.env.remove(name),
        };
    }

    /// Adds a flag for the processes started from now on.
    pub fn add_flag(&mut self, flag: &str) {
        self.extra_flags.push(flag.to_owned());
    }

    /// A file of this server's own, beside its data; nothing makes it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Limits the processes started from now on, in the words of the shell's `ulimit`.
    pub fn set_ulimit(&mut self, ulimit: &'static str) {
        self.ulimit = Some(ulimit);
    }

    /// The processes started from now on ask this name server.
    pub fn set_resolver(&mut self, dns: &Dns) {
        self.resolv_conf = Some(dns.resolv_conf());
    }

    /// Whether it has been started, and neither stopped nor killed since.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// How the process ended, if it has ended without being asked to.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// Memory of the process, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory that the process ever had, in bytes.
    pub fn peak_resident_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &'static str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.as_ref().context("the server does not run")?.id());
        let status = fs::read_to_string(&path).context(path)?;
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
        Ok(kilobytes.context(field)?.trim().parse::<u64>()? * 1024)
    }

    /// Files and sockets that the process has open.
    pub fn open_files(&self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.child.as_ref().context("the server does not run")?.id());
        Ok(fs::read_dir(&path).context(path)?.count())
    }

    /// Bytes that clients have sent and that the process has not read yet.
    pub fn unread_bytes(&self) -> Result<u64> {
        const LISTENS: &str = "0A";
        // The table of its own network namespace.
        let path = format!("/proc/{}/net/tcp", self.child.as_ref().context("the server does not run")?.id());
        let port = format!(":{:04X}", self.ports.client);
        let mut unread = 0;
        for line in fs::read_to_string(&path).context(path)?.lines().skip(1) {
            // Number, local address, remote address, state, what is queued to be sent and to be read.
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, queues, ..] = fields[..] else { continue };
            if local.ends_with(&port) && state != LISTENS {
                let (_, to_read) = queues.split_once(':').context("two queues")?;
                unread += u64::from_str_radix(to_read, 16)?;
            }
        }
        Ok(unread)
    }

    /// False while another socket, if only an outgoing connection, has one of the ports.
    pub fn ports_are_free(&self) -> bool {
        let free = |port| std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).is_ok();
        free(self.ports.client) && free(self.ports.peer)
    }

    /// Leaves data and log where they are when this is dropped.
    pub fn keep(&mut self) {
        self.dir.disable_cleanup(true);
    }

    /// Ends the process as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the process again on the same ports and data; it must have been stopped or killed.
    pub async fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} still runs", self.program.name());
        }
        self.launch().await
    }

    /// Starts the process without waiting for it to answer.
    pub fn spawn(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} still runs", self.program.name());
        }
        self.execute()
    }

    /// Stops the process where it is, or lets it go on.
    pub fn pause(&self, paused: bool) -> Result<()> {
        let child = self.child.as_ref().context("the server does not run")?;
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(child), signal).context("a signal to the server")
    }

    /// Replaces the process and all its data with a fresh one on the same ports.
    pub async fn start_over(&mut self) -> Result<()> {
        self.kill();
        fs::remove_dir_all(self.data_dir()).context("removing the data folder")?;
        self.launch().await
    }

    async fn launch(&mut self) -> Result<()> {
        self.execute()?;
        self.ready().await.map_err(|error| error.context(self.log_tail()))
    }

    fn execute(&mut self) -> Result<()> {
        // Appended, so that the log of a crashed process is still there after its restart.
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let client_url = self.client_url();
        let peer_url = self.peer_url();
        let cluster = match &self.initial_cluster {
            Some(cluster) if cluster.is_empty() => None,
            Some(cluster) => Some(cluster.clone()),
            None => Some(format!("{}={peer_url}", self.name)),
        };
        let child = self
            .command()?
            .args(["--name", &self.name])
            .args([Path::new("--data-dir"), &self.data_dir()])
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(cluster.iter().flat_map(|cluster| ["--initial-cluster", cluster]))
            .args(&self.extra_flags)
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.program.name()))?;
        self.child = Some(child);
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let path = self.program.path()?;
        if let Some(namespace) = &self.namespace {
            let mut inside = Command::new("ip");
            inside.args(["netns", "exec", namespace]).arg(path);
            return Ok(inside);
        }
        let mut script = "exec \"$0\" \"$@\"".to_owned();
        if let Some(ulimit) = self.ulimit {
            script = format!("ulimit {ulimit} && {script}");
        }
        let mut shell = match &self.resolv_conf {
            None if self.ulimit.is_none() => return Ok(Command::new(path)),
            None => Command::new("sh"),
            Some(resolv_conf) => {
                script = dns::seeing(resolv_conf, &script)?;
                let mut own_mounts = Command::new("unshare");
                own_mounts.args(["--mount", "sh"]);
                own_mounts
            }
        };
        shell.args(["-c", &script]).arg(path);
        Ok(shell)
    }

    /// Ready means that a linearizable read is answered: there is a leader and it applies. Where users are asked for, who
    /// comes without one is told so, after the proof.
    pub async fn ready(&mut self) -> Result<()> {
        let (name, url) = (self.program.name(), self.client_url());
        wait::until(&format!("{name} answers on {url}"), START_LIMIT, async || {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!("{name} ended during its start: {status}");
            }
            let Ok(channel) = self.channel().await else {
                return Ok(false);
            };
            let mut kv = KvClient::new(channel);
            let mut request = tonic::Request::new(RangeRequest { key: "ready".into(), ..Default::default() });
            request.set_timeout(Duration::from_secs(1));
            Ok(match kv.range(request).await {
                Ok(_) => true,
                Err(e) => e.code() == Code::PermissionDenied || e.message() == "etcdserver: user name is empty",
            })
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}
