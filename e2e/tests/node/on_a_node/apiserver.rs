//! A second kube-apiserver stores in a cluster of three that the operator runs, with what the connection Secret has for it,
//! while that cluster is scaled to five and back, healed and rolled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use keelson_e2e::kubernetes::apiserver::ApiServer;
use keelson_e2e::kubernetes::load::Load;
use keelson_e2e::kubernetes::steps::{events_are_the_writes, lists_are_the_events, prepare};
use keelson_e2e::node::{Place, certificates, figure};
use keelson_e2e::pki::Pki;
use keelson_e2e::wait;
use serde_json::{Value, json};
use tempfile::TempDir;

const WORKERS: usize = 4;
const OBJECTS: usize = 400;
const BETWEEN: u64 = 200;
const RECOVERY: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn an_apiserver_lives_through_the_life_of_its_store() -> Result<()> {
    let place = Place::new("apiserver").await?;
    let pki = Pki::new()?;
    certificates::issue(&pki, &place, "store", 10)?;
    certificates::write(&place, "store", &pki, &[&pki]).await?;
    let often = json!({ "watch-progress-notify-interval": "5s" });
    place.set_up("store", json!({ "extraArgs": often, "tls": certificates::tls("store") })).await?;

    let folder = TempDir::with_prefix("keelson-e2e-connection-")?;
    let connection = Connection::read(&place, folder.path()).await?;
    let mut apiserver = ApiServer::start_among(&connection.endpoints, &connection.flags, Some(&connection.hosts)).await?;
    let result = scenario(&place, &mut apiserver).await;
    result.map_err(|error| error.context(apiserver.log_tail()))
}

/// What a kube-apiserver is told of its store, from the Secret and from nowhere else.
struct Connection {
    endpoints: String,
    flags: Vec<String>,
    /// This one is no pod: cluster DNS does not tell it where the Service is.
    hosts: String,
}

impl Connection {
    async fn read(place: &Place, folder: &Path) -> Result<Self> {
        let secret = place.get(&["secret", "store-connection"]).await?;
        let value = |key: &str| -> Result<Vec<u8>> {
            let value = secret["data"][key].as_str().with_context(|| format!("the connection Secret has no {key}"))?;
            Ok(BASE64_STANDARD.decode(value)?)
        };
        let file = |key: &str| -> Result<PathBuf> {
            let path = folder.join(key);
            std::fs::write(&path, value(key)?)?;
            Ok(path)
        };
        let mut flags = Vec::new();
        for (flag, key) in [("etcd-cafile", "ca.crt"), ("etcd-certfile", "tls.crt"), ("etcd-keyfile", "tls.key")] {
            flags.push(format!("--{flag}={}", file(key)?.display()));
        }
        let service = place.get(&["service", "store"]).await?;
        let address = service["spec"]["clusterIP"].as_str().context("a Service has an address")?;
        let hosts = format!("127.0.0.1 localhost\n{address} {}\n", place.host("store"));
        Ok(Self { endpoints: String::from_utf8(value("endpoints")?)?, flags, hosts })
    }
}

async fn scenario(place: &Place, apiserver: &mut ApiServer) -> Result<()> {
    let client = apiserver.client().clone();
    prepare(&client).await?;
    let mut load = Load::start(&client, WORKERS, OBJECTS).await?;
    load.writes(BETWEEN).await?;

    change(place, &mut load, json!({ "replicas": 5 })).await?;
    change(place, &mut load, json!({ "replicas": 3 })).await?;
    let leader = place.leader("store").await?;
    load.traffic.outage_begins();
    place.kubectl(&["delete", "pod", &leader]).await?;
    settled(place, &mut load).await?;
    change(place, &mut load, json!({ "options": { "snapshotCount": 5000 } })).await?;
    apiserver.still_runs()?;

    let (ledger, mut lists) = load.finish().await?;
    figure("requests of a kube-apiserver's clients that failed meanwhile", load.traffic.excused());
    figure("of so many writes", load.traffic.writes());
    lists.extend(load.fresh_lists(&client).await?);
    ensure!(!lists.is_empty(), "no list was taken");
    events_are_the_writes(&mut load, &ledger).await?;
    lists_are_the_events(&mut load, lists).await?;
    apiserver.still_runs()
}

/// A request that is under way when its member ends may fail; what was acknowledged may not be lost.
async fn change(place: &Place, load: &mut Load, spec: Value) -> Result<()> {
    load.traffic.outage_begins();
    place.edit("store", spec).await?;
    settled(place, load).await
}

/// Waits until nothing may fail any more, and sees that nothing does.
async fn settled(place: &Place, load: &mut Load) -> Result<()> {
    place.settled("store").await?;
    load.traffic.store_restarted();
    wait::until("every kind is written again", RECOVERY, async || Ok(load.traffic.recovered())).await?;
    load.traffic.outage_ends();
    load.writes(BETWEEN).await
}
