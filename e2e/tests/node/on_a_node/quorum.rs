//! Members lost at once: two of five are replaced; two of three are a lost quorum, of which nothing is deleted.
//!
//! Without a quorum nothing is acknowledged and no watch goes on: that load ends before, and what it was told is looked for
//! once the members are back.

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{LIMIT, LOOK, Load, Place, figure, kubectl};
use keelson_e2e::wait;
use serde_json::{Value, json};

const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// Nodes that take no pods until this is dropped: the nodes are others' too.
struct Cordoned;

impl Cordoned {
    async fn all() -> Result<Self> {
        kubectl(&[&["cordon"], &NODES[..]].concat(), None).await?;
        Ok(Self)
    }

    async fn end(self) -> Result<()> {
        kubectl(&[&["uncordon"], &NODES[..]].concat(), None).await?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Cordoned {
    fn drop(&mut self) {
        // A test that failed half-way; the runtime may be ending.
        let _ = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(kubectl(&[&["uncordon"], &NODES[..]].concat(), None)))
        })
        .join();
    }
}

fn names(members: &[Value], role: &str) -> Vec<String> {
    let of_role = members.iter().filter(|member| member["role"] == role);
    of_role.filter_map(|member| Some(member["name"].as_str()?.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn two_of_five_lose_their_volumes_at_once_under_load() -> Result<()> {
    let place = Place::new("five").await?;
    figure("apply to all 5 voting", format!("{:.1?}", place.set_up("db", json!({ "replicas": 5 })).await?));
    let load = Load::start(place.endpoint("db").await?).await?;

    let followers = names(&place.members("db").await?, "Follower");
    let lost = followers.get(..2).context("followers")?;
    for name in lost {
        place.kubectl(&["delete", "persistentvolumeclaim", name, "--wait=false"]).await?;
        place.kubectl(&["delete", "pod", name, "--wait=false"]).await?;
    }
    for name in lost {
        place.kubectl(&["wait", "--for=delete", &format!("etcdmember/{name}"), "--timeout=240s"]).await?;
    }
    figure("two of five replaced", format!("{:.1?} after both were given up", place.settled("db").await?));
    let now = place.members("db").await?;
    ensure!(now.len() == 5 && now.iter().all(|member| !lost.iter().any(|lost| member["name"] == lost.as_str())), "{now:?}");
    load.goes_on(50).await?;
    figure("load while two of five are replaced", load.stop().await?);

    place.edit("db", json!({ "replicas": 3 })).await?;
    figure("from 5 to 3 members", format!("{:.1?}", place.settled("db").await?));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn a_lost_quorum_is_told_of_and_comes_back_with_its_members() -> Result<()> {
    let place = Place::new("quorum").await?;
    let load = place.under_load("db", json!({})).await?;
    load.goes_on(100).await?;
    let report = load.stop().await?;
    let members = place.members("db").await?;
    let claims = place.get(&["persistentvolumeclaims"]).await?;
    let uids = |list: &Value| -> Vec<String> {
        list["items"].as_array().into_iter().flatten().map(|object| object["metadata"]["uid"].to_string()).collect()
    };

    let cordoned = Cordoned::all().await?;
    for name in &names(&members, "Follower") {
        place.kubectl(&["delete", "pod", name, "--wait=false"]).await?;
    }
    figure("a lost quorum is told of", format!("{:.1?}", place.says("db", "QuorumLost", "True", "").await?));
    wait::until_every(LOOK, "both pods wait for a node", LIMIT, async || {
        let pods = place.pods("db").await?;
        Ok(pods.iter().filter(|pod| pod["status"]["phase"] == "Pending").count() == 2)
    })
    .await?;
    ensure!(uids(&place.get(&["persistentvolumeclaims"]).await?) == uids(&claims), "a volume was touched without a quorum");

    cordoned.end().await?;
    figure("back from a lost quorum", format!("{:.1?}", place.settled("db").await?));
    let ids = |members: &[Value]| members.iter().map(|member| member["id"].to_string()).collect::<Vec<_>>();
    ensure!(ids(&place.members("db").await?) == ids(&members), "members were replaced");
    ensure!(uids(&place.get(&["persistentvolumeclaims"]).await?) == uids(&claims), "volumes were replaced");
    report.still_true(&place.endpoint("db").await?).await
}
