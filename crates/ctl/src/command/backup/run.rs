//! `backup run`: a snapshot, and then a log of every change after it, for as long as it runs. It keeps nothing of its own: what
//! the store has says where to go on, so it may die at any moment.

mod follow;
mod guard;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use keelson_api::etcdserverpb::AuthStatusRequest;
use keelson_snapshot::backup::{Anchor, Catalog, Clock, Keep, Manifest, Recorder, Store, read_segment};
use tokio::time::{Instant, sleep};

use super::make::make;
use super::{AUTHORITIES, FOLDER, KEEP, KEEP_FOR, OPTION, failed, folder, keep, retain, store};
use crate::cli::{Call, Command, Flag, Kind};
use crate::client::Client;
use crate::command::signal::Ending;
use crate::exit::Failure;

use guard::Guard;

pub static COMMAND: Command = Command::new("run", "<store> [options]", "Backs up every change, for as long as it runs")
    .long(
        "Makes a backup, and then takes every change after it to the store, so that the state of any moment can be restored. It \
         goes on where the store says that it was; if the cluster no longer has what comes next, because that was compacted, or if it \
         has another history than the backup, a new backup begins; so it does after users or roles were changed.\n\n\
         With --keep or --keep-for older backups are deleted whenever a new one has been made. Only one should run for a store.",
    )
    .flags(FLAGS)
    .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[
    FOLDER,
    Flag::new(Kind::Duration, "full-every", "24h", "how often to begin a new backup with a snapshot; 0 for never"),
    KEEP,
    KEEP_FOR,
    Flag::new(Kind::Uint, "segment-bytes", "16777216", "bytes of changes that are taken to the store at once, at the latest"),
    AUTHORITIES,
    OPTION,
    Flag::new(Kind::Duration, "upload-every", "10s", "how often changes are taken to the store"),
];

/// Changes of this size at most wait in memory.
const LARGEST_SEGMENT: u64 = 64 << 20;
/// For so many uploads after a backup no change of users brings about another one.
const USERS_REST: u32 = 6;
/// Between two attempts, and between two snapshots, when something goes wrong again and again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

async fn run(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "backup run requires exactly one argument <store>")?;
    let config = call.config().await?;
    let every = call.flags.duration("upload-every");
    let segment_bytes = call.flags.uint("segment-bytes");
    if every.is_zero() || !(1..=LARGEST_SEGMENT).contains(&segment_bytes) {
        let limit = format!("--upload-every must be more than 0, and --segment-bytes from 1 to {LARGEST_SEGMENT}");
        return Err(Failure::args(limit));
    }
    let store = store(&call, 0)?;
    // What is wrong from the beginning is told, and not tried again and again.
    Catalog::read(&store).await.map_err(failed)?;
    let client = Client::new(config).await?.without_limit();
    let writer = format!("{:016x}", rand::random::<u64>());
    let runner = Runner {
        client,
        store,
        writer,
        every,
        segment_bytes: usize::try_from(segment_bytes).unwrap_or(usize::MAX),
        folder: folder(&call),
        full_every: call.flags.duration("full-every"),
        keep: keep(&call),
    };
    let mut ending = Ending::new()?;
    tokio::select! {
        ended = Box::pin(runner.run()) => ended,
        // Nothing has to be finished: what is not in the store will be told again.
        () = ending.asked() => Ok(()),
    }
}

struct Runner {
    client: Client,
    store: Store,
    /// The name of this process among those that write.
    writer: String,
    folder: PathBuf,
    every: Duration,
    segment_bytes: usize,
    full_every: Duration,
    keep: Option<Keep>,
}

/// A backup whose log goes on.
struct Log {
    manifest: Manifest,
    recorder: Recorder,
    clock: Clock,
    guard: Guard,
}

/// Why a log does not go on.
#[derive(Debug)]
enum Stop {
    /// It has got as far as it was to.
    Reached,
    /// It is time for a new one.
    Due,
    /// It cannot go on, for this reason: only a new one can.
    Over(String),
    /// Another process goes on with it.
    Rival(String),
    /// Something that may pass.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Runner {
    async fn run(self) -> Result<(), Failure> {
        let mut pause = self.every;
        let mut log = None;
        loop {
            let start = Instant::now();
            let stop = self.go_on(&mut log).await;
            if start.elapsed() > LONGEST_PAUSE {
                pause = self.every;
            }
            match stop {
                Stop::Reached | Stop::Due => continue,
                Stop::Rival(why) => return Err(Failure::error(why)),
                Stop::Over(why) => {
                    eprintln!("a new backup begins: {why}");
                    log = None;
                }
                Stop::Failed(failure) => {
                    // What is in the store is looked at anew: who knows what of it was done.
                    eprintln!("trying again: {}", failure.text());
                    log = None;
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            }
            // The store's own log says no more; a snapshot has to be made.
            match Box::pin(self.begin()).await {
                Ok(begun) => {
                    log = Some(begun);
                    self.tidy().await;
                }
                Err(failure) => eprintln!("no backup could be made: {}", failure.text()),
            }
            // However often that happens, the members must not be busy with snapshots alone.
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Goes on with a log, found in the store if there is none here, until that ends.
    async fn go_on(&self, log: &mut Option<Log>) -> Stop {
        if log.is_none() {
            match self.resume().await {
                Ok(found) => *log = Some(found),
                Err(stop) => return stop,
            }
        }
        let Some(current) = log.as_mut() else { return Stop::Reached };
        match Box::pin(self.follow(current, None)).await {
            Stop::Due => {}
            stop => return stop,
        }
        // The new backup begins somewhere later. The old log goes on to there, so that no moment between them is lost.
        let next = match Box::pin(self.begin()).await {
            Ok(next) => next,
            Err(failure) => return failure.into(),
        };
        match Box::pin(self.follow(current, Some(next.manifest.revision))).await {
            Stop::Rival(why) => return Stop::Rival(why),
            Stop::Over(why) => eprintln!("the log of backup {} ends before the new one begins: {why}", current.manifest.id),
            Stop::Failed(failure) => {
                eprintln!("the log of backup {} ends before the new one begins: {}", current.manifest.id, failure.text());
            }
            Stop::Reached | Stop::Due => {}
        }
        *log = Some(next);
        self.tidy().await;
        Stop::Due
    }

    /// Deletes what is not to be kept. There is a new backup, whatever becomes of the old ones.
    async fn tidy(&self) {
        if let Some(keep) = &self.keep
            && let Err(failure) = retain(&self.store, keep).await
        {
            eprintln!("older backups could not be deleted: {}", failure.text());
        }
    }

    /// Makes a backup whose log begins empty.
    async fn begin(&self) -> Result<Log, Failure> {
        let manifest = Box::pin(make(&self.client, &self.store, &self.folder, true)).await?;
        // What the snapshot has was told a moment ago: it need not come again.
        let anchor = Anchor { revision: manifest.revision, fingerprints: Vec::new() };
        let clock = Clock::from(manifest.time.as_millisecond());
        let guard = Guard::of(&manifest.id, &self.writer, self.every);
        Ok(Log { recorder: Recorder::after(anchor), clock, guard, manifest })
    }

    /// The log in the store that can go on.
    async fn resume(&self) -> Result<Log, Stop> {
        let catalog = Catalog::read(&self.store).await.map_err(failed)?;
        let Some((backup, manifest)) = catalog.newest_continuous() else {
            return Err(Stop::Over("there is none whose log could go on".into()));
        };
        let header = self.client.get(&Bytes::from_static(b"\0")).await?.header.unwrap_or_default();
        let id = &manifest.id;
        if manifest.cluster_id != format!("{:x}", header.cluster_id) {
            return Err(Stop::Over(format!("backup {id} is of cluster {}", manifest.cluster_id)));
        }
        let (anchor, time) = match backup.path(manifest.revision).last() {
            Some(name) => {
                let segment = read_segment(&self.store, id, name).await.map_err(failed)?;
                (Anchor::of(&segment.transactions).unwrap_or_else(|| manifest.anchor()), name.time)
            }
            None => (manifest.anchor(), manifest.time.as_millisecond()),
        };
        if anchor.fingerprints.is_empty() {
            return Err(Stop::Over(format!("it cannot be told whether backup {id} is of what this cluster has now")));
        }
        eprintln!("going on with backup {id} after revision {}", anchor.revision);
        let guard = Guard::of(id, &self.writer, self.every);
        Ok(Log { recorder: Recorder::after(anchor), clock: Clock::from(time), guard, manifest: manifest.clone() })
    }

    /// Whether it is time for a new backup. A clock that was set back does not hurry it.
    fn is_due(&self, manifest: &Manifest) -> bool {
        !self.full_every.is_zero() && is_older(manifest, self.full_every)
    }

    /// Whether a new backup should begin: it is time, or users and roles, which are in no log, have been changed.
    async fn is_wanted(&self, manifest: &Manifest) -> bool {
        if self.is_due(manifest) {
            return true;
        }
        // Not for each of many changes.
        let Some(then) = manifest.auth_revision.filter(|_| is_older(manifest, self.every.saturating_mul(USERS_REST))) else {
            return false;
        };
        self.client.auth_status(AuthStatusRequest {}).await.is_ok_and(|now| now.auth_revision != then)
    }
}

fn is_older(manifest: &Manifest, age: Duration) -> bool {
    let found = Timestamp::now().duration_since(manifest.time);
    SignedDuration::try_from(age).is_ok_and(|age| found >= age)
}
