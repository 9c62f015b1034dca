//! `gateway start`: one address in front of a cluster, beside that of etcd. And what systemd is told.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{PutRequest, RangeRequest};
use keelson_e2e::dns::{self, Dns, Records};
use keelson_e2e::ports::{Ports, Reservation};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use tempfile::TempDir;

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(30);

fn both() -> Result<[Program; 2]> {
    Ok([Program::Etcd, Program::under_test()?])
}

/// Ports that nobody listens on.
fn free() -> Result<Ports> {
    Reservation::new()?.ports()
}

/// A running gateway, and what it has said.
struct Gateway {
    child: Child,
    url: String,
    dir: TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    fn start(program: Program, resolver: Option<&Dns>, flags: &[&str]) -> Result<Self> {
        let port = free()?.client;
        let dir = TempDir::with_prefix("keelson-e2e-gateway-")?;
        let log = File::create(dir.path().join("log"))?;
        let mut command = match resolver {
            None => Command::new(program.path()?),
            Some(resolver) => {
                let script = dns::seeing(&resolver.resolv_conf(), "exec \"$0\" \"$@\"")?;
                let mut own_mounts = Command::new("unshare");
                own_mounts.args(["--mount", "sh", "-c", &script]).arg(program.path()?);
                own_mounts
            }
        };
        let listen = format!("--listen-addr=127.0.0.1:{port}");
        command.args(["gateway", "start", &listen, "--retry-delay=1s"]).args(flags);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Self { child, url: format!("http://127.0.0.1:{port}"), dir })
    }

    fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.log_path())?)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Waits until a write through it goes well.
    async fn passes(&self, value: &str) -> Result<()> {
        let passed = wait::until("a write passes the gateway", LIMIT, async || {
            let Ok(mut kv) = KvClient::connect(self.url.clone()).await else { return Ok(false) };
            let put = PutRequest { key: "k".into(), value: value.to_owned().into(), ..Default::default() };
            let mut request = tonic::Request::new(put);
            request.set_timeout(Duration::from_secs(2));
            Ok(kv.put(request).await.is_ok())
        });
        passed.await.with_context(|| self.log().unwrap_or_default())
    }
}

async fn value_of(url: &str) -> Result<String> {
    let mut kv = KvClient::connect(url.to_owned()).await?;
    let answer = kv.range(RangeRequest { key: "k".into(), ..Default::default() }).await?.into_inner();
    Ok(String::from_utf8_lossy(&answer.kvs.first().context("the key is there")?.value).into_owned())
}

#[tokio::test]
async fn a_gateway_finds_who_lives_and_comes_back_to_who_was_gone() -> Result<()> {
    for program in both()? {
        println!("--- {}", program.name());
        let mut server = Server::start(program, &[]).await?;
        let endpoints = format!("--endpoints=127.0.0.1:{},{}", free()?.client, server.client_url());
        let gateway = Gateway::start(program, None, &[&endpoints])?;
        gateway.passes("first").await?;
        ensure!(value_of(&server.client_url()).await? == "first", "it has written elsewhere");
        ensure!(value_of(&gateway.url).await? == "first", "it has read elsewhere");
        server.kill();
        // Connections that are open end, and new ones, too: nobody takes them.
        wait::until("the gateway has nobody", LIMIT, async || Ok(value_of(&gateway.url).await.is_err())).await?;
        server.restart().await?;
        gateway.passes("second").await?;
        ensure!(value_of(&server.client_url()).await? == "second");
        let log = gateway.log()?;
        ensure!(log.contains("\"deactivated endpoint\"") && log.contains("\"activated\""), "{log}");
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_finds_members_in_dns() -> Result<()> {
    for program in both()? {
        println!("--- {}", program.name());
        let mut server = Server::start(program, &[]).await?;
        let port = server.client_url().rsplit_once(':').context("a port")?.1.parse()?;
        let records = Records {
            addresses: BTreeMap::from([("m.cluster.test".to_owned(), Ipv4Addr::LOCALHOST)]),
            services: BTreeMap::from([(
                "_etcd-client-blue._tcp.cluster.test".to_owned(),
                vec![("m.cluster.test".to_owned(), port)],
            )]),
        };
        let dns = Dns::start(records).await?;
        let flags = ["--discovery-srv=cluster.test", "--discovery-srv-name=blue", "--insecure-discovery"];
        let gateway = Gateway::start(program, Some(&dns), &flags)?;
        gateway.passes("by name").await?;
        ensure!(value_of(&server.client_url()).await? == "by name");
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_to_itself_or_to_nowhere_is_refused() -> Result<()> {
    for program in both()? {
        let own = free()?.client;
        let (listen, itself) = (format!("--listen-addr=127.0.0.1:{own}"), format!("--endpoints=localhost:{own}"));
        for (flags, why) in [
            (vec!["start", listen.as_str(), itself.as_str()], "should not resolve to the gateway listen addr"),
            (vec!["start", "--endpoints=nowhere"], "error parsing endpoint"),
            (vec!["start", "--listen-addr=nowhere"], "failed to validate listen address"),
            (vec!["start", "--nope"], "unknown flag: --nope"),
        ] {
            let output = Command::new(program.path()?).arg("gateway").args(&flags).stdin(Stdio::null()).output()?;
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            ensure!(!output.status.success() && said.contains(why), "{} {flags:?}: {said}", program.name());
        }
    }
    Ok(())
}

#[tokio::test]
async fn systemd_is_told_when_a_member_is_ready() -> Result<()> {
    for program in both()? {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path)?;
        listener.set_read_timeout(Some(LIMIT))?;
        let mut server = Server::member(program, "default", free()?, &[])?;
        server.set_env("NOTIFY_SOCKET", Some(path.to_str().context("a path in UTF-8")?.to_owned()));
        server.spawn()?;
        let told = tokio::task::spawn_blocking(move || -> Result<String> {
            let mut message = [0; 64];
            let length = listener.recv(&mut message)?;
            Ok(String::from_utf8_lossy(&message[..length]).into_owned())
        });
        let told = told.await?.with_context(|| server.log_tail())?;
        ensure!(told == "READY=1", "{} says {told}", program.name());
        server.ready().await?;
        server.stop().await?;
    }
    Ok(())
}
