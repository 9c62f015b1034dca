//! Members that meet in a cluster that runs already: somebody has written there how many they shall be, each writes itself
//! down, and the first ones that came are the cluster. Keys and values are those of etcd's v3 discovery.

use std::time::Duration;

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderValue};
use keelson_api::etcdserverpb::{
    AuthenticateRequest, AuthenticateResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use keelson_api::identity;
use prost::Message;

use super::Named;
use crate::config::{Config, Registry, parse_cluster};
use crate::grpc::{CallError, Connection};
use crate::metrics::Traffic;
use crate::peer::Dialer;
use crate::tls;

/// How often to look whether others have come.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A registry that cannot be asked is asked again, each time twice as long after, up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(256);

/// One that has written itself down.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: String,
    /// `NAME=URL`, comma separated.
    value: String,
    created: i64,
}

/// Writes this member down and waits until there are enough.
pub async fn find(config: &Config, registry: &Registry) -> anyhow::Result<Named> {
    let security = &registry.security;
    let tls = tls::Client::if_needed(security, None, None).map_err(anyhow::Error::msg)?;
    let dialer = Dialer { limit: registry.dial_limit, ping: registry.ping, tls: Some(tls.into()) };
    let id = identity::member_id(&config.advertise_peer, &registry.token);
    let folder = format!("/_etcd/registry/{}", registry.token);
    let own_key = format!("{folder}/members/{id:x}");
    let value: Vec<String> = config.advertise_peer.iter().map(|url| format!("{}={url}", config.name)).collect();
    let value = value.join(",");
    tracing::info!(endpoints = ?registry.endpoints, key = own_key, "bootstrapping by discovery");

    let mut pause = Duration::from_secs(1);
    let mut written = false;
    let mut told = 0;
    let mut first = 0;
    loop {
        match once(registry, &dialer, first, &folder, &own_key, &value, &mut written).await {
            Ok(Looked::Complete(members)) => {
                return parse_cluster(&members).map_err(anyhow::Error::msg).context("discovery: invalid peer URL");
            }
            Ok(Looked::Waiting { found, size }) => {
                if told != found {
                    told = found;
                    tracing::info!(found, size, "waiting for members to come to the discovery service");
                }
                pause = Duration::from_secs(1);
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(Failure::ForGood(e)) => return Err(e.context("failed to join discovery cluster")),
            Err(Failure::ForNow(why)) => {
                tracing::warn!(error = why, again_in = ?pause, "the discovery service cannot be asked");
                // One that takes connections and does not answer must not keep the others from being asked.
                first += 1;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

enum Looked {
    Waiting { found: usize, size: usize },
    Complete(String),
}

enum Failure {
    /// It may be answered later.
    ForNow(String),
    ForGood(anyhow::Error),
}

async fn once(
    registry: &Registry,
    dialer: &Dialer,
    first: usize,
    folder: &str,
    own_key: &str,
    value: &str,
    written: &mut bool,
) -> Result<Looked, Failure> {
    let calls = Calls::open(registry, dialer, first).await?;
    let size = calls.range(&format!("{folder}/_config/size"), false).await?;
    let size = size_of(size.first().map(|e| e.value.as_str())).map_err(Failure::ForGood)?;
    let members = calls.range(&format!("{folder}/members"), true).await?;
    if is_full(&members, size, own_key) {
        let text = "discovery: cluster is full; use another --discovery-token, or join it with --initial-cluster-state=existing";
        return Err(Failure::ForGood(anyhow::anyhow!(text)));
    }
    if !*written {
        calls.put(own_key, value).await?;
        *written = true;
        // Others may have come meanwhile.
        return Ok(Looked::Waiting { found: members.len(), size });
    }
    if members.len() < size {
        return Ok(Looked::Waiting { found: members.len(), size });
    }
    let first: Vec<&str> = members.iter().take(size).map(|m| m.value.as_str()).collect();
    Ok(Looked::Complete(first.join(",")))
}

fn size_of(value: Option<&str>) -> anyhow::Result<usize> {
    let value = value.context("discovery: size key not found; write the number of members under _config/size first")?;
    match value.trim().parse() {
        Ok(size) if size > 0 => Ok(size),
        _ => bail!("discovery: size key is bad: {value:?}"),
    }
}

/// Whether enough others came before. `members` are in the order in which they came.
fn is_full(members: &[Entry], size: usize, own_key: &str) -> bool {
    members.len() >= size && !members.iter().take(size).any(|m| m.key == own_key)
}

struct Calls {
    connection: Connection,
    headers: HeaderMap,
    limit: Duration,
}

fn for_now(e: impl std::fmt::Display) -> Failure {
    Failure::ForNow(e.to_string())
}

/// All endpoints, beginning with the given one.
fn in_turn(endpoints: &[String], first: usize) -> impl Iterator<Item = &String> {
    endpoints.iter().cycle().skip(first % endpoints.len().max(1)).take(endpoints.len())
}

impl Calls {
    /// To the endpoint of this number, or the next one that can be reached.
    async fn open(registry: &Registry, dialer: &Dialer, first: usize) -> Result<Self, Failure> {
        let mut why = String::new();
        for url in in_turn(&registry.endpoints, first) {
            match dialer.dial(url).await {
                Ok(connection) => {
                    let mut calls = Self { connection, headers: HeaderMap::new(), limit: registry.call_limit };
                    if let Some((name, password)) = &registry.user {
                        let request = AuthenticateRequest { name: name.clone(), password: password.clone() };
                        let answer: AuthenticateResponse = calls.call("/etcdserverpb.Auth/Authenticate", &request).await?;
                        calls.headers.insert("token", HeaderValue::from_str(&answer.token).map_err(for_now)?);
                    }
                    return Ok(calls);
                }
                Err(e) => why = format!("{url}: {e}"),
            }
        }
        Err(Failure::ForNow(why))
    }

    async fn call<R: Message + Default>(&self, path: &str, message: &impl Message) -> Result<R, Failure> {
        let answer =
            tokio::time::timeout(self.limit, self.connection.call(path, &self.headers, message, &Traffic::default())).await;
        answer.map_err(for_now)?.map_err(|e: CallError| for_now(e))
    }

    /// Entries in the order in which they were written.
    async fn range(&self, key: &str, is_folder: bool) -> Result<Vec<Entry>, Failure> {
        let key = if is_folder { format!("{key}/") } else { key.to_owned() };
        let mut end = if is_folder { key.clone().into_bytes() } else { Vec::new() };
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let request = RangeRequest { key: key.into_bytes().into(), range_end: end.into(), ..Default::default() };
        let answer: RangeResponse = self.call("/etcdserverpb.KV/Range", &request).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let entry =
            |kv: keelson_api::mvccpb::KeyValue| Entry { key: text(&kv.key), value: text(&kv.value), created: kv.create_revision };
        let mut entries: Vec<Entry> = answer.kvs.into_iter().map(entry).filter(|e| !is_folder || e.value.contains('=')).collect();
        entries.sort_by_key(|e| e.created);
        Ok(entries)
    }

    async fn put(&self, key: &str, value: &str) -> Result<(), Failure> {
        let request = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
        self.call::<PutResponse>("/etcdserverpb.KV/Put", &request).await.map(|_| ())
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_at_the_next_endpoint_and_comes_to_all() {
        let endpoints = ["a", "b", "c"].map(str::to_owned);
        let round = |first| in_turn(&endpoints, first).map(String::as_str).collect::<String>();
        assert_eq!([0, 1, 2, 3].map(round), ["abc", "bca", "cab", "abc"]);
        assert_eq!(in_turn(&[], 1).count(), 0);
    }

    #[test]
    fn the_size_is_a_number_and_who_comes_late_finds_it_full() {
        assert_eq!(size_of(Some("3\n")).unwrap(), 3);
        assert!(size_of(None).unwrap_err().to_string().contains("size key not found"));
        for bad in ["", "0", "-1", "three"] {
            assert!(size_of(Some(bad)).unwrap_err().to_string().contains("size key is bad"), "{bad:?}");
        }
        let came = |keys: &[&str]| -> Vec<Entry> {
            keys.iter().map(|k| Entry { key: (*k).into(), value: "a=b".into(), created: 1 }).collect()
        };
        assert!(!is_full(&came(&["a", "b"]), 3, "me"));
        assert!(!is_full(&came(&["a", "b", "me"]), 3, "me"));
        assert!(is_full(&came(&["a", "b", "c"]), 3, "me"));
        assert!(is_full(&came(&["a", "b", "c", "me"]), 3, "me"), "who wrote itself down too late");
    }
}
