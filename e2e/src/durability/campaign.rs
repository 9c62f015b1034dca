//! Many deaths of one kind of server: start, audit, write, strike, and again, on the same data
//! until it is time for an empty directory.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use tokio::task::JoinSet;

use super::audit::Books;
use super::blow::Blow;
use super::clients::{Clients, Stop};
use super::history::Mix;
use super::load::Writer;
use crate::power::Rig;
use crate::program::Program;
use crate::server::Server;
use crate::wait;

const WRITERS: usize = 8;
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Little is kept and removal goes in small steps, so that all of it happens in a short life.
const FLAGS: &[&str] = &["--log-level", "warn", "--snapshot-count", "50", "--compaction-batch-limit", "25"];

#[derive(Clone, Debug)]
pub struct Campaign {
    pub seed: u64,
    pub deaths: usize,
    pub deaths_per_dir: usize,
    /// Values of every other directory are up to this size, so that tables are flushed under load.
    pub large_value: usize,
    pub flags: Vec<&'static str>,
    /// Power is cut at each death: what was not synced is gone.
    pub power: bool,
    /// Data and log of a failure are kept.
    pub keep: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub deaths: BTreeMap<&'static str, usize>,
    /// Of those that were to die at a named place, how many did. The others were killed before they got there.
    pub reached: BTreeMap<&'static str, usize>,
    pub audits: usize,
    pub mixes: Vec<Mix>,
}

impl Report {
    pub fn total(&self) -> usize {
        self.deaths.values().sum()
    }

    /// How much was done over all directories.
    pub fn sum(&self, of: fn(&Mix) -> usize) -> usize {
        self.mixes.iter().map(of).sum()
    }

    pub fn add(&mut self, other: Self) {
        for (kind, deaths) in other.deaths {
            *self.deaths.entry(kind).or_default() += deaths;
        }
        for (place, deaths) in other.reached {
            *self.reached.entry(place).or_default() += deaths;
        }
        self.audits += other.audits;
        self.mixes.extend(other.mixes);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: fn(&Mix) -> usize| self.sum(of);
        write!(
            f,
            "{} deaths {:?}, at their places {:?}, {} audits; \
             writes: {} acknowledged, {} refused, {} unanswered of which {} were kept; ",
            self.total(),
            self.deaths,
            self.reached,
            self.audits,
            sum(|m| m.acknowledged),
            sum(|m| m.failed),
            sum(|m| m.unknown),
            sum(|m| m.unknown_kept)
        )?;
        write!(
            f,
            "{} compactions, {} revisions watched, {} hashes compared, {} directories",
            sum(|m| m.compactions),
            sum(|m| m.watched),
            sum(|m| m.hashes),
            self.mixes.len()
        )
    }
}

/// A server, what is known about it, and what may happen to it.
struct Life {
    server: Server,
    books: Books,
    rig: Option<Rig>,
    rng: StdRng,
    largest_value: usize,
    has_large_values: bool,
    /// The process may end itself, at a place of its code, and has done so.
    is_armed: bool,
    is_there: bool,
}

/// As failpoints end a process.
fn is_abort(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::ABORT.as_raw())
}

impl Campaign {
    /// Runs to the end or to the first broken promise.
    pub async fn run(&self) -> Result<Report> {
        let mut report = Report::default();
        let mut rng = StdRng::seed_from_u64(self.seed);
        for dir in 0_u64.. {
            let left = self.deaths.saturating_sub(report.total());
            if left == 0 {
                break;
            }
            // Campaigns beside each other have seeds that follow each other.
            let large = self.seed.wrapping_add(dir) % 2 == 1;
            let mut life = self.birth(rng.random(), large).await?;
            for _ in 0..left.min(self.deaths_per_dir) {
                let blow = Blow::draw(&mut life.rng, life.has_large_values);
                if let Err(error) = life.round(Some(blow), &mut report).await {
                    return Err(self.explain(error, life, Some(blow), &report));
                }
            }
            // The last death has to be looked at too.
            if let Err(error) = life.round(None, &mut report).await {
                return Err(self.explain(error, life, None, &report));
            }
            report.mixes.push(life.books.mix());
        }
        Ok(report)
    }

    /// A server that has not been started on its empty directory yet.
    async fn birth(&self, seed: u64, has_large_values: bool) -> Result<Life> {
        let flags: Vec<&str> = FLAGS.iter().chain(&self.flags).copied().collect();
        let mut server = Server::start(Program::Keelson, &flags).await?;
        server.kill();
        std::fs::remove_dir_all(server.data_dir())?;
        let rig = if self.power { Some(Rig::new(&server.data_dir())?) } else { None };
        Ok(Life {
            server,
            books: Books::default(),
            rig,
            rng: StdRng::seed_from_u64(seed),
            largest_value: if has_large_values { self.large_value } else { 200 },
            has_large_values,
            is_armed: false,
            is_there: false,
        })
    }

    fn explain(&self, error: anyhow::Error, mut life: Life, blow: Option<Blow>, report: &Report) -> anyhow::Error {
        life.server.kill();
        if self.keep {
            life.server.keep();
        }
        let tail = life.server.log_tail();
        let rig = life.rig.as_ref().map(Rig::story).unwrap_or_default();
        error.context(format!(
            "after {} deaths, found in the life that was to end by {}\ndata and log were in {}\n{rig}\
             the same dice again: KEELSON_SEED={} (when exactly a process dies is up to the machine)\n{tail}",
            report.total(),
            blow.map_or("nothing".into(), |b| b.to_string()),
            life.server.data_dir().parent().unwrap_or(&life.server.data_dir()).display(),
            self.seed,
        ))
    }
}

impl Life {
    /// One life: start, audit, and unless it dies before that, writes and the blow.
    async fn round(&mut self, blow: Option<Blow>, report: &mut Report) -> Result<()> {
        let failpoint = blow.and_then(Blow::failpoint);
        (self.is_armed, self.is_there) = (failpoint.is_some(), false);
        self.server.set_env("KEELSON_FAILPOINT", failpoint);
        if let Some(rig) = &mut self.rig {
            for (name, value) in rig.plug_in()? {
                self.server.set_env(name, Some(value));
            }
        }
        wait::until("the server's port is free again", SILENCE_LIMIT, async || Ok(self.server.ports_are_free())).await?;
        let mut silent = self.start(blow).await?;
        if !silent {
            silent = self.audit(report).await?;
        }
        if !silent && let Some(blow) = blow {
            self.load(blow).await?;
        }
        self.server.kill();
        self.books.stop_following();
        if let Some(blow) = blow {
            *report.deaths.entry(blow.kind()).or_default() += 1;
            if self.is_there {
                *report.reached.entry(blow.kind()).or_default() += 1;
            }
            if let Some(rig) = &mut self.rig {
                rig.cut(&mut self.rng)?;
            }
        }
        Ok(())
    }

    /// Whether the server has ended, which must be at its failpoint: it may not give up by itself.
    fn has_died(&mut self) -> Result<bool> {
        match self.server.exit_status()? {
            None => Ok(false),
            Some(status) if self.is_armed && is_abort(status) => {
                self.is_there = true;
                Ok(true)
            }
            Some(status) => bail!("the server gave up: {status}"),
        }
    }

    /// Starts the server; true if it is dead already.
    async fn start(&mut self, blow: Option<Blow>) -> Result<bool> {
        if let Some(Blow::KillStarting { after }) = blow {
            // Out of time and started are both fine: it is killed either way.
            return match tokio::time::timeout(after, self.server.restart()).await {
                Ok(Err(error)) => Err(error),
                Err(_) => Ok(true),
                Ok(Ok(())) => Ok(false),
            };
        }
        match self.server.restart().await {
            Ok(()) => Ok(false),
            Err(error) => match self.has_died() {
                Ok(true) => Ok(true),
                Ok(false) => Err(error),
                Err(gave_up) => Err(error.context(gave_up)),
            },
        }
    }

    /// Audits the server; true if it died meanwhile.
    async fn audit(&mut self, report: &mut Report) -> Result<bool> {
        let audited = match Clients::connect(&self.server.client_url()).await {
            Ok(mut clients) => self.books.audit(&mut clients, &mut self.rng).await,
            Err(stop) => Err(stop),
        };
        match audited {
            Ok(()) => {
                report.audits += 1;
                Ok(false)
            }
            Err(Stop::Broken(what)) => Err(anyhow!(what).context("a promise is broken")),
            Err(Stop::Silent(why)) => {
                wait::until("a server that does not answer is dead", SILENCE_LIMIT, async || self.has_died())
                    .await
                    .context(why)?;
                Ok(true)
            }
        }
    }

    async fn load(&mut self, blow: Blow) -> Result<()> {
        let mut writers = JoinSet::new();
        if let Ok(clients) = Clients::connect(&self.server.client_url()).await {
            for _ in 0..WRITERS {
                let writer = Writer {
                    clients: clients.clone(),
                    history: self.books.history.clone(),
                    rng: StdRng::seed_from_u64(self.rng.random()),
                    largest_value: self.largest_value,
                };
                writers.spawn(writer.run());
            }
        }
        match blow {
            Blow::Failpoint { .. } => {
                // Reaching it is likely, not certain.
                let died = wait::until("the failpoint", blow.patience(), async || self.has_died()).await;
                if died.is_err() {
                    self.has_died()?;
                }
            }
            Blow::Kill { after } | Blow::KillStarting { after } => {
                tokio::time::sleep(after).await;
                self.has_died()?;
            }
            Blow::Stop { after, .. } => {
                tokio::time::sleep(after).await;
                // It may be made to die on the way, or before.
                let status = self.server.end().await?;
                self.is_there = self.is_armed && status.is_some_and(is_abort);
            }
        }
        self.server.kill();
        // Every answer that was on its way is taken in; nothing else can come.
        let silent = async { while writers.join_next().await.is_some() {} };
        tokio::time::timeout(SILENCE_LIMIT, silent).await.context("clients of a dead server go on")
    }
}
