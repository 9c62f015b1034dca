//! Commands of keelsonctl that go on: locks and elections beside etcdctl, watches that are typed, kept leases, mirrors. And
//! whom it trusts.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keelson_api::etcdserverpb::RangeRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::pki::Pki;
use keelson_e2e::ports::Reservation;
use keelson_e2e::program::{Program, keelsonctl, peer};
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Longest that anything here is waited for.
const LIMIT: Duration = Duration::from_secs(20);

/// A command that goes on.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(tool: PathBuf, url: &str, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(tool);
        command.env_clear().env("ETCDCTL_ENDPOINTS", url).args(args).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        Ok(Self { child, stdin, lines })
    }

    /// The lines that it prints next.
    async fn prints(&mut self, expected: &[&str]) -> Result<()> {
        for expected in expected {
            let line = self.line().await.with_context(|| format!("waiting for {expected:?}"))?;
            ensure!(line == *expected, "{line:?} instead of {expected:?}");
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String> {
        timeout(LIMIT, self.lines.next_line()).await.context("no line")??.context("no more lines")
    }

    async fn types(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin is open")?;
        stdin.write_all(text.as_bytes()).await?;
        Ok(stdin.flush().await?)
    }

    fn terminate(&self) -> Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).context("it has ended")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    async fn ends_with(&mut self, code: i32) -> Result<()> {
        let status = timeout(LIMIT, self.child.wait()).await.context("it does not end")??;
        ensure!(status.code() == Some(code), "it ended with {status}");
        Ok(())
    }
}

async fn server() -> Result<Server> {
    Server::start(Program::Keelson, &["--log-level", "warn"]).await
}

async fn ctl(url: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(keelsonctl()?).env_clear().env("ETCDCTL_ENDPOINTS", url).args(args).output().await?;
    ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until so many keys begin with the prefix.
async fn keys(server: &Server, prefix: &'static str, wanted: i64) -> Result<()> {
    let mut kv = KvClient::new(server.channel().await?);
    // The prefixes here end with a slash, and so their ranges with what comes after one.
    let end = prefix.replace('/', "0");
    wait::until(&format!("{wanted} keys under {prefix}"), LIMIT, async || {
        let request = RangeRequest { key: prefix.into(), range_end: end.clone().into(), count_only: true, ..Default::default() };
        Ok(kv.range(request).await?.into_inner().count == wanted)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_held_by_one_whichever_program_asks() -> Result<()> {
    let server = server().await?;
    let url = server.client_url();
    for (first, second) in [(keelsonctl()?, peer("etcdctl")?), (peer("etcdctl")?, keelsonctl()?)] {
        let mut holder = Running::start(first, &url, &["lock", "l"])?;
        ensure!(holder.line().await?.starts_with("l/"), "the key of the lock");
        let mut waiter = Running::start(second, &url, &["lock", "l", "/bin/echo", "mine"])?;
        keys(&server, "l/", 2).await?;
        ensure!(waiter.child.try_wait()?.is_none(), "it did not wait");
        holder.terminate()?;
        holder.ends_with(0).await?;
        waiter.prints(&["mine"]).await?;
        waiter.ends_with(0).await?;
        keys(&server, "l/", 0).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_lock_or_an_election_and_is_ended_leaves_the_queue() -> Result<()> {
    let server = server().await?;
    let url = server.client_url();
    for (command, prefix) in [(&["lock", "x"][..], "x/"), (&["elect", "y", "me"][..], "y/")] {
        let mut holder = Running::start(keelsonctl()?, &url, command)?;
        holder.line().await?;
        let mut waiter = Running::start(keelsonctl()?, &url, command)?;
        keys(&server, prefix, 2).await?;
        waiter.terminate()?;
        waiter.ends_with(1).await?;
        keys(&server, prefix, 1).await?;
        holder.terminate()?;
        holder.ends_with(0).await?;
        keys(&server, prefix, 0).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_are_watched_whichever_program_stands() -> Result<()> {
    let server = server().await?;
    let url = server.client_url();
    let mut observer = Running::start(keelsonctl()?, &url, &["elect", "-l", "e"])?;
    for (tool, proposal) in [(peer("etcdctl")?, "one"), (keelsonctl()?, "two")] {
        let mut candidate = Running::start(tool, &url, &["elect", "e", proposal])?;
        let key = candidate.line().await?;
        candidate.prints(&[proposal]).await?;
        observer.prints(&[&key, proposal]).await?;
        candidate.terminate()?;
        candidate.ends_with(0).await?;
        keys(&server, "e/", 0).await?;
    }
    observer.terminate()?;
    observer.ends_with(0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_can_be_typed() -> Result<()> {
    let server = server().await?;
    let url = server.client_url();
    ctl(&url, &["put", "foo", "1"]).await?;
    ctl(&url, &["put", "bar", "2"]).await?;
    let mut watch = Running::start(keelsonctl()?, &url, &["watch", "-i"])?;
    watch.types("watch foo --rev=1\n").await?;
    watch.prints(&["PUT", "foo", "1"]).await?;
    watch.types("watch b --prefix --rev=1 -- /usr/bin/printenv ETCD_WATCH_VALUE\n").await?;
    watch.prints(&["PUT", "bar", "2", "\"2\""]).await?;
    watch.types("nonsense\nprogress\n").await?;
    ensure!(watch.line().await?.starts_with("progress notify: "), "an answer to progress");
    ctl(&url, &["del", "foo"]).await?;
    loop {
        match watch.line().await?.as_str() {
            "DELETE" => break,
            // Each watch tells how far it has got.
            line if line.starts_with("progress notify: ") => {}
            line => bail!("{line:?} instead of DELETE"),
        }
    }
    watch.prints(&["foo", ""]).await?;
    watch.stdin = None;
    watch.ends_with(3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_where_it_was_when_the_server_restarts() -> Result<()> {
    let mut server = server().await?;
    let url = server.client_url();
    let mut watch = Running::start(keelsonctl()?, &url, &["watch", "k", "--rev=1"])?;
    ctl(&url, &["put", "k", "before"]).await?;
    watch.prints(&["PUT", "k", "before"]).await?;
    server.stop().await?;
    server.restart().await?;
    ctl(&url, &["put", "k", "after"]).await?;
    watch.prints(&["PUT", "k", "after"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_kept_until_it_is_revoked() -> Result<()> {
    let server = server().await?;
    let url = server.client_url();
    let granted = ctl(&url, &["lease", "grant", "2"]).await?;
    let id = granted.split(' ').nth(1).context("an id")?.to_owned();
    let mut keeper = Running::start(keelsonctl()?, &url, &["lease", "keep-alive", &id])?;
    // More often than the lease lasts without it.
    let kept = format!("lease {id} keepalived with TTL(2)");
    keeper.prints(&[kept.as_str(); 6]).await?;
    ctl(&url, &["lease", "revoke", &id]).await?;
    loop {
        let line = keeper.line().await?;
        if line == format!("lease {id} expired or revoked.") {
            break;
        }
        ensure!(line == kept, "{line:?}");
    }
    keeper.ends_with(0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_has_the_keys_and_follows_their_changes() -> Result<()> {
    let (from, to) = (server().await?, server().await?);
    let (source, destination) = (from.client_url(), to.client_url());
    ctl(&source, &["put", "a/1", "one"]).await?;
    ctl(&source, &["put", "other", "x"]).await?;
    let args = ["make-mirror", "--prefix=a/", "--dest-prefix=b/", &destination];
    let _mirror = Running::start(keelsonctl()?, &source, &args)?;
    keys(&to, "b/", 1).await?;
    ctl(&source, &["put", "a/2", "two"]).await?;
    ctl(&source, &["put", "a/3", "three"]).await?;
    keys(&to, "b/", 3).await?;
    ctl(&source, &["del", "a/1"]).await?;
    keys(&to, "b/", 2).await?;
    let all = ctl(&destination, &["get", "", "--prefix"]).await?;
    ensure!(all == "b/2\ntwo\nb/3\nthree\n", "{all:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_certificates_are_trusted_only_with_their_authority() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    let reservation = Reservation::new()?;
    let mut server = Server::member(Program::Keelson, "m0", reservation.ports()?, &[])?;
    server.secure(pki.clone());
    drop(reservation);
    server.restart().await?;
    let url = server.client_url();
    let file = |flag: &str, file: &str| format!("--{flag}={}", pki.path(file).display());
    let (authority, cert, key) = (file("cacert", "ca.crt"), file("cert", "client.crt"), file("key", "client.key"));
    ctl(&url, &["put", "k", "v", &authority, &cert, &key]).await?;
    let read = ctl(&url, &["get", "k", "--insecure-skip-tls-verify", &cert, &key]).await?;
    ensure!(read == "k\nv\n", "{read:?}");
    let healthy = ctl(&url, &["endpoint", "health", "--cluster", &authority, &cert, &key]).await?;
    ensure!(healthy.contains("is healthy"), "{healthy:?}");
    for (what, args) in [
        ("an unknown authority", &["get", "k", &cert, &key, "--command-timeout=2s"][..]),
        ("no certificate", &["get", "k", &authority, "--command-timeout=2s"][..]),
    ] {
        ensure!(ctl(&url, args).await.is_err(), "{what}: not refused");
    }
    Ok(())
}
