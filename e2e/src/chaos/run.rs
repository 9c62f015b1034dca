//! One run: a cluster, clients and watchers, faults one after the other until the time is over, then everything is
//! healed and checked.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use super::clients::{Client, TOGETHER};
use super::faults::{Deck, Possible, Step};
use super::record::{Answer, Outcome, Record, Records, Request};
use super::stage::{RECOVERY_LIMIT, Stage};
use super::upkeep::{KEPT_KEY, Upkeep};
use super::watchers::{Watcher, whole_story};
use super::{check, linearizable};
use crate::program::Program;
use crate::wait;

/// Spread over all members.
const CLIENTS: usize = 12;
/// The last of all writes, so that everybody knows what there is to be told.
const END_KEY: &str = "end";

pub struct Chaos {
    pub program: Program,
    pub seed: u64,
    /// It goes on for as long as it takes until each kind of fault has come, if that is asked for.
    pub lasts: Duration,
    pub all_kinds: bool,
}

/// What was done and found to be right.
#[derive(Debug, Default)]
pub struct Report {
    pub answered: usize,
    pub refused: usize,
    pub unknown: usize,
    pub revisions: usize,
    pub streams: usize,
    pub progress: usize,
    pub faults: BTreeMap<String, usize>,
    /// How far history was compacted meanwhile.
    pub compacted: i64,
    pub linearizable: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, refused, unknown, revisions, streams, progress, faults, compacted, linearizable } = self;
        write!(
            f,
            "{answered} requests answered, {refused} refused, {unknown} left open; {revisions} revisions, compacted to {compacted}, \
             told to watchers over {streams} streams with {progress} progress marks; {linearizable}; faults: {faults:?}"
        )
    }
}

/// The load: it ends when it is told to.
struct Load {
    clients: JoinSet<()>,
    watchers: Arc<Vec<Watcher>>,
    records: Records,
    stop: Arc<AtomicBool>,
    begin: Instant,
}

impl Load {
    fn start(urls: &[String], rng: &mut StdRng) -> Result<Self> {
        let (records, stop, begin) = (Records::default(), Arc::new(AtomicBool::new(false)), Instant::now());
        let mut watchers = Vec::new();
        let together = TOGETHER[0].split_inclusive('/').next().context("a prefix")?;
        for (first, prefix) in [(0, ""), (1, ""), (2, ""), (0, together), (1, "register/")] {
            watchers.push(Watcher::start(urls.to_vec(), first, prefix, StdRng::seed_from_u64(rng.random())));
        }
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let member = number % urls.len();
            let client = Client::new((number, member), &urls[member], rng.random(), begin, records.clone(), stop.clone())?;
            clients.spawn(client.run());
        }
        Ok(Self { clients, watchers: Arc::new(watchers), records, stop, begin })
    }

    fn broken(&self) -> Result<()> {
        match self.watchers.iter().find_map(Watcher::broken) {
            Some(broken) => bail!("a watch is wrong: {broken}"),
            None => Ok(()),
        }
    }

    /// Notes a write that was asked for at `call` and has just been acknowledged.
    fn note(&self, key: &str, revision: i64, call: Duration) {
        let request = Request::Put { key: key.to_owned(), value: key.to_owned() };
        let outcome = Outcome::Answered(Answer { revision, done: true, found: BTreeMap::new() });
        let end = self.begin.elapsed();
        // Of a client of its own: no other one has this number.
        self.records.lock().push(Record { client: usize::MAX >> 1, member: 0, request, call, end, outcome });
    }

    async fn finish(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(())
    }
}

impl Chaos {
    /// Odd seeds take five, of which two may fail.
    fn members(&self) -> usize {
        if self.seed.is_multiple_of(2) { 3 } else { 5 }
    }

    pub async fn run(&self) -> Result<Report> {
        let mut stage = Stage::set(self.program, self.members(), self.seed).await?;
        let mut said = Vec::new();
        match self.play(&mut stage, &mut said).await {
            Ok(report) => Ok(report),
            Err(e) => {
                let logs = stage.keep();
                let tails: Vec<String> = stage.cluster.members.iter().map(|m| m.log_tail()).collect();
                Err(e.context(format!(
                    "KEELSON_CHAOS_SEED={}\nfaults:\n{}\n{}\nlogs, with the data beside them: {logs:?}",
                    self.seed,
                    said.join("\n"),
                    tails.join("\n")
                )))
            }
        }
    }

    async fn play(&self, stage: &mut Stage, said: &mut Vec<String>) -> Result<Report> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut load = Load::start(&stage.urls(), &mut StdRng::seed_from_u64(rng.random()))?;
        let call = load.begin.elapsed();
        let (upkeep, kept) = Upkeep::start(stage.urls(), load.watchers.clone()).await?;
        load.note(KEPT_KEY, kept, call);
        let possible = Possible { members: self.members(), shims: self.program == Program::Keelson };
        let mut deck = Deck::new(&mut rng, possible);
        let mut report = Report::default();
        while load.begin.elapsed() < self.lasts || (self.all_kinds && !deck.all_have_come()) {
            let step = deck.deal(&mut rng);
            said.push(format!("{:>6.1} s: {step}", load.begin.elapsed().as_secs_f64()));
            self.step(stage, step).await.with_context(|| step.to_string())?;
            load.broken()?;
            *report.faults.entry(step.fault.kind()).or_default() += 1;
        }
        stage.recovered().await.context("after everything was healed")?;
        upkeep.finish().await?;
        load.finish().await?;
        self.check(stage, &load, &mut report).await?;
        if self.all_kinds {
            ensure!(report.faults.len() == deck.kinds(), "some kinds of faults have not come: {report}");
            ensure!(report.compacted > 0, "nothing was compacted: {report}");
        }
        Ok(report)
    }

    async fn step(&self, stage: &mut Stage, step: Step) -> Result<()> {
        stage.begin(step.fault).await?;
        tokio::time::sleep(step.lasts).await;
        stage.end(step.fault).await?;
        tokio::time::sleep(step.quiet).await;
        Ok(())
    }

    async fn check(&self, stage: &mut Stage, load: &Load, report: &mut Report) -> Result<()> {
        let call = load.begin.elapsed();
        let end = stage.cluster.put(0, END_KEY, END_KEY).await?;
        load.note(END_KEY, end, call);
        let records = std::mem::take(&mut *load.records.lock());

        // The first watcher was told of everything, or so it seems; the others and the members know parts of it.
        let first = load.watchers.first().context("a watcher")?;
        wait::until("the first watcher is told of the end", RECOVERY_LIMIT, async || {
            Ok(first.newest() >= end || first.broken().is_some())
        })
        .await?;
        load.broken()?;
        let story = first.told().events.until(end);
        if let Some(missing) = (2..=end).find(|revision| story.at(*revision).is_none()) {
            bail!("a watcher of everything was told of no change at revision {missing} of {end}");
        }
        for watcher in load.watchers.iter() {
            let expected = story.of(&watcher.prefix);
            wait::until("a watcher is told of everything", RECOVERY_LIMIT, async || {
                Ok(watcher.newest() >= expected.newest() || watcher.broken().is_some())
            })
            .await?;
            let told = watcher.told();
            if let Some(difference) = expected.difference(&told.events.until(end)) {
                bail!("a watcher of {:?} was not told all that was so: {difference}", watcher.prefix);
            }
            report.streams += told.streams;
            report.progress += told.progressed;
        }
        stage.cluster.agree(&stage.all()).await?;
        report.compacted = stage.cluster.hashes(&[0], 0).await?[0].compact_revision.max(0);
        let kept = story.clone().since(report.compacted);
        for url in stage.urls() {
            let told = whole_story(&url, report.compacted, end).await?;
            if let Some(difference) = kept.difference(&told) {
                bail!("{url} tells another story than it told at the time: {difference}");
            }
        }
        ensure!(story.of(KEPT_KEY).len() == 1, "the key whose lease was kept alive is gone: {:?}", story.of(KEPT_KEY));
        load.broken()?;

        let broken = check::broken_promises(&records, &story);
        if !broken.is_empty() {
            bail!("{} promises are broken: {:#?}", broken.len(), &broken[..broken.len().min(5)]);
        }
        let dir = stage.cluster.members[0].log_path().with_file_name("");
        fs::create_dir_all(&dir)?;
        report.linearizable = linearizable::check(&linearizable::history(&records, &story), &dir)?;

        report.revisions = story.len();
        for record in &records {
            match record.outcome {
                Outcome::Answered(_) => report.answered += 1,
                Outcome::Refused => report.refused += 1,
                Outcome::Unknown => report.unknown += 1,
            }
        }
        Ok(())
    }
}
