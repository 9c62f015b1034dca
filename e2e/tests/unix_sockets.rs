//! Clients that come over a unix socket, which is how Kubernetes' integration tests run their store.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_e2e::program::{self, Program};
use keelson_e2e::wait;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

/// Where one server listens.
struct Place {
    program: Program,
    dir: TempDir,
}

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("etcd.sock")
    }

    fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn log(&self, data: &str) -> PathBuf {
        self.dir.path().join(data).with_extension("log")
    }

    /// Starts a process with the flags of those tests, and data of its own.
    fn start(&self, data: &str) -> Result<Process> {
        let log = OpenOptions::new().create(true).append(true).open(self.log(data))?;
        let child = Command::new(self.program.path()?)
            .args([Path::new("--data-dir"), &self.dir.path().join(data)])
            .args(["--listen-client-urls", &self.url(), "--advertise-client-urls", "http://127.0.0.111:0"])
            .args(["--listen-peer-urls", "http://127.0.0.1:0", "-log-level", "warn", "--quota-backend-bytes", "8589934592"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Process(child))
    }

    /// What plain HTTP answers.
    fn http(&self, path: &str) -> Result<String> {
        let mut socket = UnixStream::connect(self.socket())?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    async fn healthy(&self) -> Result<()> {
        let healthy = async || Ok(self.http("/health").is_ok_and(|answer| answer.contains("\"health\":\"true\"")));
        let is_healthy = wait::until("the server is healthy", LIMIT, healthy).await;
        is_healthy.with_context(|| std::fs::read_to_string(self.log("data")).unwrap_or_default())
    }

    fn etcdctl(&self, args: &[&str]) -> Result<String> {
        let output =
            Command::new(program::peer("etcdctl")?).args(["--endpoints", &self.url()]).args(args).env_clear().output()?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

async fn end_of(process: &mut Process) -> Result<ExitStatus> {
    let mut ended = None;
    wait::until("the process ends", LIMIT, async || {
        ended = process.0.try_wait()?;
        Ok(ended.is_some())
    })
    .await?;
    ended.context("it has ended")
}

#[tokio::test]
async fn clients_are_served_on_a_unix_socket_and_again_after_a_crash_has_left_it_behind() -> Result<()> {
    for program in [Program::Etcd, Program::under_test()?] {
        println!("--- {}", program.name());
        let place = Place { program, dir: TempDir::with_prefix("keelson-e2e-")? };
        let first = place.start("data")?;
        place.healthy().await?;
        assert_eq!(place.etcdctl(&["put", "k", "v"])?, "OK\n");
        // Killed: nobody removes the socket.
        drop(first);
        ensure!(place.socket().exists(), "{} has removed its socket", program.name());

        let _again = place.start("data")?;
        place.healthy().await?;
        assert_eq!(place.etcdctl(&["get", "k"])?, "k\nv\n");
        if program == Program::Keelson {
            // etcd would take the socket from the process that has it.
            let mut second = place.start("other")?;
            let status = end_of(&mut second).await?;
            let said = std::fs::read_to_string(place.log("other"))?;
            ensure!(status.code() == Some(1), "{status}: {said}");
            for part in [place.url().as_str(), "address already in use", "stop the process that has it"] {
                ensure!(said.contains(part), "{part:?} is not in {said}");
            }
            assert_eq!(place.etcdctl(&["get", "k"])?, "k\nv\n");
        }
    }
    Ok(())
}
