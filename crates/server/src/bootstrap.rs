//! How a member begins: with the data it has, as one of a new cluster's first members, or by joining a
//! cluster that runs already.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail};
use keelson_api::keelson::MemberAttributes;
use keelson_api::{format, identity};
use keelson_storage::{DataDir, Identity};
use serde::Deserialize;

use crate::config::{Config, Discovery};
use crate::peer::{self, Dialer};

/// How long one member of the cluster may take to say who belongs to it.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// Who this member is, and whom it begins with.
pub struct Beginning {
    /// Written to the data directory.
    pub identity: Identity,
    /// First members of a new cluster, this one among them; empty for one that joins.
    pub first_members: Vec<MemberAttributes>,
    /// Where others can be reached, until the member list says so.
    pub addresses: BTreeMap<u64, Vec<String>>,
}

/// A member as `/members` of the peer port lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    is_learner: bool,
}

/// The cluster has known this member, and what it knew is not in the data directory.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DataGone(pub String);

/// What a running cluster says of itself.
struct Running {
    cluster_id: u64,
    format: u32,
    members: Vec<Known>,
}

/// Finds out how to begin, and writes down who this member is.
pub async fn begin(config: &Config, data_dir: &DataDir, dialer: &Dialer) -> anyhow::Result<Beginning> {
    let (first_members, mut addresses) = first_members(config);
    if let Some(identity) = data_dir.identity()? {
        if config.forces_new_cluster {
            let me = MemberAttributes { id: identity.member_id, peer_urls: config.advertise_peer.clone(), ..Default::default() };
            return Ok(Beginning { identity, first_members: vec![me], addresses });
        }
        if identity.joined {
            // Its log tells who belongs to the cluster; until it has one, the flags say where to look.
            if let Ok(running) = ask_others(config, dialer).await {
                addresses = running.members.into_iter().map(|m| (m.id, m.peer_urls)).collect();
            }
            return Ok(Beginning { identity, first_members: Vec::new(), addresses });
        }
        let mine = first_members.iter().any(|m| m.id == identity.member_id);
        return Ok(Beginning { identity, first_members: if mine { first_members } else { Vec::new() }, addresses });
    }
    let uuid = format!("{:032x}", rand::random::<u128>());
    if config.joins_existing {
        let running = ask_others(config, dialer).await?;
        format::check("the cluster", running.format)?;
        let me = find_me(config, &running)?;
        let mut identity = Identity::new(uuid, running.cluster_id, me);
        identity.joined = true;
        data_dir.claim(&identity)?;
        let addresses = running.members.into_iter().map(|m| (m.id, m.peer_urls)).collect();
        return Ok(Beginning { identity, first_members: Vec::new(), addresses });
    }
    let ids: Vec<u64> = first_members.iter().map(|m| m.id).collect();
    let me = config.initial_cluster.get(&config.name).unwrap_or(&config.advertise_peer);
    let me = identity::member_id(me, &config.cluster_token);
    if ids.len() > 1
        && let Ok(running) = ask_others(config, dialer).await
        && running.members.iter().any(|m| m.id == me && !m.name.is_empty())
    {
        bail!(DataGone(format!(
            "the data of member {me:x} is gone: the cluster runs and has known this member, but {} is empty. \
             Remove the member from the cluster and add it again, with --initial-cluster-state=existing",
            config.data_dir.display()
        )));
    }
    let identity = Identity::new(uuid, identity::cluster_id(&ids), me);
    data_dir.claim(&identity)?;
    Ok(Beginning { identity, first_members, addresses })
}

/// The members that the flags name, with their ids.
fn first_members(config: &Config) -> (Vec<MemberAttributes>, BTreeMap<u64, Vec<String>>) {
    let member = |urls: &Vec<String>| MemberAttributes {
        id: identity::member_id(urls, &config.cluster_token),
        peer_urls: urls.clone(),
        ..MemberAttributes::default()
    };
    let members: Vec<_> = config.initial_cluster.values().map(member).collect();
    let addresses = members.iter().map(|m| (m.id, m.peer_urls.clone())).collect();
    (members, addresses)
}

/// Asks the other members that the flags name, until one answers.
async fn ask_others(config: &Config, dialer: &Dialer) -> anyhow::Result<Running> {
    let others: Vec<_> =
        config.initial_cluster.iter().filter(|(name, _)| **name != config.name).flat_map(|(_, urls)| urls).collect();
    // Nobody to ask, now or later (DNS may know more later).
    if others.is_empty() && matches!(config.discovery, Discovery::Named) {
        bail!(DataGone(
            "there is no data here, and --initial-cluster-state is existing while --initial-cluster names no other member: bring the data \
             directory of this member back. If others have the data, remove this member from the cluster and add it again; to begin a \
             new cluster, start with --initial-cluster-state=new"
                .into()
        ));
    }
    let mut why = anyhow::anyhow!("no other member is known");
    for url in others {
        match tokio::time::timeout(ASK_LIMIT, ask(dialer, url)).await {
            Ok(Ok(running)) => return Ok(running),
            Ok(Err(e)) => why = e.context(url.clone()),
            Err(_) => why = anyhow::anyhow!("{url} has not answered within {ASK_LIMIT:?}"),
        }
    }
    Err(why
        .context("cannot fetch cluster info from peer urls; check that the members of --initial-cluster run and can be reached"))
}

async fn ask(dialer: &Dialer, url: &str) -> anyhow::Result<Running> {
    let (headers, body) = dialer.get(url, "/members").await?;
    let header = headers.get("x-etcd-cluster-id").and_then(|v| v.to_str().ok()).context("it does not name its cluster")?;
    let cluster_id = u64::from_str_radix(header, 16).context("it does not name its cluster")?;
    let members = serde_json::from_slice(&body).context("its member list cannot be read")?;
    Ok(Running { cluster_id, format: peer::cluster_format(&headers), members })
}

/// This member's id in the cluster that it joins: the one that was added with its URLs.
fn find_me(config: &Config, running: &Running) -> anyhow::Result<u64> {
    let urls = |list: &[String]| list.iter().map(|u| u.trim_end_matches('/').to_owned()).collect::<BTreeSet<_>>();
    let mine = urls(&config.advertise_peer);
    let Some(me) = running.members.iter().find(|m| urls(&m.peer_urls) == mine) else {
        bail!(
            "the cluster has no member with peer URLs {}: add it first (etcdctl member add), with the URLs of \
             --initial-advertise-peer-urls",
            config.advertise_peer.join(",")
        );
    };
    if !me.name.is_empty() {
        bail!(DataGone(format!(
            "the data of member {:x} is gone: it has been part of the cluster, but {} is empty. Remove the member from \
             the cluster and add it again",
            me.id,
            config.data_dir.display()
        )));
    }
    if running.members.len() != config.initial_cluster.len() {
        bail!(
            "member count is unequal: --initial-cluster names {}, the cluster has {}",
            config.initial_cluster.len(),
            running.members.len()
        );
    }
    tracing::info!(member_id = format!("{:x}", me.id), is_learner = me.is_learner, "joining a cluster");
    Ok(me.id)
}
