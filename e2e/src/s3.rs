//! An S3 server of its own for a test: versitygw, which keeps objects as files of a folder.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::ports::Reservation;
use crate::program::peer;
use crate::wait::until;

const BUCKET: &str = "backups";
const USER: &str = "keelson";
const SECRET: &str = "not-a-secret-of-anybody";
const REGION: &str = "us-east-1";

pub struct S3 {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl S3 {
    pub async fn start() -> Result<Self> {
        let dir = TempDir::with_prefix("keelson-s3-")?;
        for folder in ["root", "meta"] {
            fs::create_dir(dir.path().join(folder))?;
        }
        let mut s3 = Self { dir, port: Reservation::new()?.ports()?.client, child: None };
        fs::create_dir(s3.bucket())?;
        s3.begin().await?;
        Ok(s3)
    }

    /// The files that are the objects of its bucket.
    pub fn bucket(&self) -> PathBuf {
        self.dir.path().join("root").join(BUCKET)
    }

    /// As keelsonctl takes it.
    pub fn address(&self) -> String {
        format!("s3://{BUCKET}/one/cluster")
    }

    /// What keelsonctl has to find in its environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", USER.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
            ("AWS_REGION", REGION.into()),
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".into()),
        ]
    }

    /// It is gone as if its machine were.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// It comes back where it was.
    pub async fn begin(&mut self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log"))?;
        let mut command = Command::new(peer("versitygw")?);
        command.env_clear().current_dir(self.dir.path()).stdin(Stdio::null());
        command.args(["--access", USER, "--secret", SECRET, "--region", REGION, "--quiet"]);
        command.args(["--port", &format!("127.0.0.1:{}", self.port), "posix", "--sidecar"]);
        command.arg(self.dir.path().join("meta")).arg(self.dir.path().join("root"));
        command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = self.child.insert(command.spawn().context("versitygw cannot be started")?);
        let (port, log) = (self.port, self.dir.path().join("log"));
        until("the S3 server listens", Duration::from_secs(30), async || {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("versitygw ended: {status}\n{}", fs::read_to_string(&log)?);
            }
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })
        .await
    }
}
