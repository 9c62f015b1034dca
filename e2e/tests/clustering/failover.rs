//! How long a cluster is without a leader: when the leader dies, and when it is told to stop.
//!
//! Environment: `KEELSON_FAILOVERS` says how often each happens (8). `KEELSON_UNDER_TEST=etcd` measures etcd.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::select_ok;
use keelson_api::etcdserverpb::StatusRequest;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::durability::settings;
use keelson_e2e::node::{Load, Report};
use keelson_e2e::server::Server;
use keelson_e2e::wait;

use super::{LIMIT, limited, three};
use crate::ALONE;

const TIMES: usize = 8;
/// As by default.
const ELECTION: Duration = Duration::from_secs(1);
/// Longest that a cluster may be without a leader when one stops, nine times of ten: a machine that is busy with
/// something else may take longer once.
const HANDOVER: Duration = Duration::from_millis(500);
/// Writes of each client between one fail-over and the next.
const WRITES: u64 = 20;

const ALL: [usize; 3] = [0, 1, 2];

fn others(than: usize) -> [usize; 2] {
    [(than + 1) % 3, (than + 2) % 3]
}

/// Times of one kind of fail-over.
struct Figures(Vec<Duration>);

impl Figures {
    fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted[sorted.len() / 2]
    }

    /// How many took this long or longer.
    fn slow(&self, limit: Duration) -> usize {
        self.0.iter().filter(|took| **took >= limit).count()
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let (least, most) = (self.0.iter().min().copied(), self.0.iter().max().copied());
        let (least, most) = (least.unwrap_or_default(), most.unwrap_or_default());
        write!(f, "median {:.2?} of {}, between {least:.2?} and {most:.2?}", self.median(), self.0.len())
    }
}

/// Has the leader go and come back, again and again, under load. `goes` answers how long clients were without one.
async fn fail_over(what: &str, goes: impl AsyncFn(&mut Cluster, usize) -> Result<Duration>) -> Result<(Figures, Report)> {
    let mut cluster = three(&[]).await?;
    let load = Load::over(cluster.members.iter().map(Server::client_url).collect()).await?;
    let mut took = Figures(Vec::new());
    for _ in 0..settings::number("KEELSON_FAILOVERS", TIMES)? {
        let leader = cluster.leader(&ALL).await?;
        took.0.push(goes(&mut cluster, leader).await?);
        cluster.members[leader].restart().await?;
        load.goes_on(WRITES).await?;
    }
    let report = load.stop().await?;
    println!("figure: {what}: {took}; {report}");
    cluster.agree(&ALL).await?;
    Ok((took, report))
}

/// When a write that began now is acknowledged by the first of these members.
async fn written(cluster: &Cluster, through: [usize; 2]) -> Result<()> {
    wait::until("a write is acknowledged", LIMIT, async || {
        let [one, other] = through.map(|number| Box::pin(cluster.put(number, "failover", "x")));
        Ok(select_ok([one, other]).await.is_ok())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_soon_after_the_leader_died_and_nothing_is_lost() -> Result<()> {
    let _alone = ALONE.lock().await;
    let dies = async |cluster: &mut Cluster, leader: usize| {
        cluster.members[leader].kill();
        let died = Instant::now();
        written(cluster, others(leader)).await?;
        anyhow::Ok(died.elapsed())
    };
    let (took, _) = fail_over("leader killed, first write acknowledged", dies).await?;
    ensure!(took.median() <= ELECTION * 3 / 2, "{took}: {:?}", took.0);
    Ok(())
}

/// When one of these members says that another than `old` leads.
async fn led_by_another(urls: &[String], old: u64) -> Result<()> {
    let mut asked = Vec::new();
    for url in urls {
        asked.push(MaintenanceClient::connect(url.clone()).await?);
    }
    wait::until("there is a new leader", LIMIT, async || {
        for member in &mut asked {
            let leader = member.status(limited(StatusRequest {})).await?.into_inner().leader;
            if leader != 0 && leader != old {
                return Ok(true);
            }
        }
        Ok(false)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_leaves_a_new_one_and_no_client_calls_more_than_twice() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stops = async |cluster: &mut Cluster, leader: usize| {
        let old = cluster.id(leader).await?;
        let urls = others(leader).map(|number| cluster.members[number].client_url());
        let stopping = Instant::now();
        let new_leader = async { led_by_another(&urls, old).await.map(|()| stopping.elapsed()) };
        let (stopped, new_leader) = tokio::join!(cluster.members[leader].stop(), new_leader);
        stopped?;
        new_leader
    };
    let (took, report) = fail_over("leader stopped, new leader", stops).await?;
    ensure!(took.slow(HANDOVER) <= took.0.len().div_ceil(10), "{took}: {:?}", took.0);
    ensure!(report.most_retries <= 1, "{report}");
    Ok(())
}
