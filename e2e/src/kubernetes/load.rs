//! Everything that works at the same time: the workers, the reader and the watchers. Whoever waits
//! for something while it does is told at once when a part of it fails.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;

use crate::kubernetes::client::Client;
use crate::kubernetes::history::Snapshot;
use crate::kubernetes::ledger::Ledger;
use crate::kubernetes::object::{KINDS, Kind};
use crate::kubernetes::reader::Reader;
use crate::kubernetes::traffic::Traffic;
use crate::kubernetes::watcher::{Shared, follow};
use crate::kubernetes::worker::{Share, Worker};
use crate::wait;

const WATCH_LIMIT: Duration = Duration::from_secs(30);
/// For any number of writes, of which an environment variable may ask for many.
const WRITE_LIMIT: Duration = Duration::from_secs(3600);

pub type Lists = Vec<(Kind, Snapshot)>;

pub struct Load {
    pub traffic: Arc<Traffic>,
    histories: [Shared; KINDS.len()],
    watchers: JoinSet<Result<()>>,
    workers: JoinSet<Result<Ledger>>,
    reader: JoinSet<Result<Lists>>,
}

impl Load {
    /// Begins with the watches, so that they see everything, and divides so many config maps, and
    /// in proportion the other kinds, among the workers.
    pub async fn start(client: &Client, workers: usize, config_maps: usize) -> Result<Self> {
        let traffic = Arc::new(Traffic::default());
        let mut load = Self {
            traffic: traffic.clone(),
            histories: Default::default(),
            watchers: JoinSet::new(),
            workers: JoinSet::new(),
            reader: JoinSet::new(),
        };
        for kind in KINDS {
            load.watchers.spawn(follow(client.clone(), kind, load.history(kind), traffic.clone()));
        }
        let histories = load.histories.clone();
        let begun = async |_: &_| Ok(histories.iter().all(|history| history.lock().complete()));
        load.until("all watches have begun", WATCH_LIMIT, begun).await?;

        let config_maps = config_maps / workers;
        let share = Share { config_maps, widgets: config_maps / 4, leases: config_maps / 12 };
        for number in 0..workers {
            load.workers.spawn(Worker::new(number, share, client.clone(), traffic.clone()).run());
        }
        load.reader.spawn(Reader { client: client.clone(), traffic }.run());
        Ok(load)
    }

    /// What the watch of a kind has told so far.
    pub fn history(&self, kind: Kind) -> Shared {
        self.histories[kind as usize].clone()
    }

    pub async fn until(&mut self, what: &str, limit: Duration, holds: impl AsyncFn(&Traffic) -> Result<bool>) -> Result<()> {
        let traffic = self.traffic.clone();
        self.unless_it_fails(wait::until(what, limit, async || holds(&traffic).await)).await
    }

    pub async fn unless_it_fails(&mut self, wait: impl Future<Output = Result<()>>) -> Result<()> {
        tokio::select! {
            result = wait => result,
            Some(result) = self.watchers.join_next() => result?.and_then(|()| bail!("a watcher ended")),
            Some(result) = self.workers.join_next() => result?.and_then(|_| bail!("a worker ended")),
            Some(result) = self.reader.join_next() => result?.and_then(|_| bail!("the reader ended")),
        }
    }

    pub async fn writes(&mut self, number: u64) -> Result<()> {
        let goal = self.traffic.writes() + number;
        self.until(&format!("{number} writes"), WRITE_LIMIT, async |traffic| Ok(traffic.writes() >= goal)).await
    }

    /// Ends writing and reading; the watchers go on.
    pub async fn finish(&mut self) -> Result<(Ledger, Lists)> {
        self.traffic.stop();
        let mut ledger = Ledger::default();
        while let Some(worker) = self.workers.join_next().await {
            ledger.merge(worker??);
        }
        let lists = self.reader.join_next().await.context("no reader")???;
        Ok((ledger, lists))
    }

    /// A whole list of each kind.
    pub async fn fresh_lists(&self, client: &Client) -> Result<Lists> {
        let reader = Reader { client: client.clone(), traffic: self.traffic.clone() };
        let mut lists = Lists::new();
        for kind in KINDS {
            lists.push((kind, reader.whole(kind).await?.context("a list outside of outages")?));
        }
        Ok(lists)
    }
}
