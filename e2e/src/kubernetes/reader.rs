//! Lists of every sort, taken while writes go on: whole, in pages, streamed as a watch, and exactly
//! at a revision of the past. Each one is kept, to be compared with the watchers' history later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::kubernetes::apiserver::COMPACTION_INTERVAL;
use crate::kubernetes::client::Client;
use crate::kubernetes::history::Snapshot;
use crate::kubernetes::object::{KINDS, Key, Kind, Version, namespace};
use crate::kubernetes::traffic::Traffic;
use crate::kubernetes::watcher::bookmark;

const PAGE: usize = 200;
/// Writes between one list and the next, so that lists do not take all the time.
const PACE: u64 = 100;

pub struct Reader {
    pub client: Client,
    pub traffic: Arc<Traffic>,
}

impl Reader {
    /// Takes lists until told to stop.
    pub async fn run(self) -> Result<Vec<(Kind, Snapshot)>> {
        let mut taken: Vec<(Kind, Snapshot)> = Vec::new();
        let mut last_list = None;
        for round in 0.. {
            for kind in KINDS {
                if self.traffic.stopped() {
                    return Ok(taken);
                }
                let list = match (round % 4, last_list) {
                    (0, _) => self.paged(kind).await,
                    (1, _) => self.streamed(kind).await,
                    // What is older may have been compacted.
                    (2, Some((revision, at))) if Instant::now() < at + COMPACTION_INTERVAL / 2 => {
                        self.exact(kind, &namespace(round), revision).await
                    }
                    _ => self.whole(kind).await,
                };
                if let Some(list) = list.with_context(|| format!("list of {kind:?}"))? {
                    last_list = Some((list.revision, Instant::now()));
                    taken.push((kind, list));
                }
                self.traffic.more_writes(PACE).await?;
            }
        }
        Ok(taken)
    }

    async fn get(&self, path: &str) -> Result<Option<Value>> {
        let mark = self.traffic.mark();
        let answer = self.client.get(path).await;
        self.traffic.judge(mark, answer).with_context(|| path.to_string())?.map(|answer| answer.json()).transpose()
    }

    /// Everything in one answer; `None` when that failed as it may.
    pub async fn whole(&self, kind: Kind) -> Result<Option<Snapshot>> {
        let Some(list) = self.get(&kind.collection(None)).await? else {
            return Ok(None);
        };
        let items = items(kind, &list)?;
        Ok(Some(Snapshot { request: format!("whole list of {kind:?}"), namespace: None, revision: revision(&list)?, items }))
    }

    async fn exact(&self, kind: Kind, namespace: &str, at: u64) -> Result<Option<Snapshot>> {
        let collection = kind.collection(Some(namespace));
        let path = format!("{collection}?resourceVersion={at}&resourceVersionMatch=Exact");
        let Some(list) = self.get(&path).await? else {
            return Ok(None);
        };
        if revision(&list)? != at {
            bail!("{path} is at {}", revision(&list)?);
        }
        Ok(Some(Snapshot { request: path, namespace: Some(namespace.into()), revision: at, items: items(kind, &list)? }))
    }

    /// All pages have to be of the first one's revision.
    async fn paged(&self, kind: Kind) -> Result<Option<Snapshot>> {
        let first = format!("{}?limit={PAGE}", kind.collection(None));
        let mut path = first.clone();
        let mut list: Option<Snapshot> = None;
        loop {
            let Some(page) = self.get(&path).await? else {
                return Ok(None);
            };
            let (revision, more) = (revision(&page)?, items(kind, &page)?);
            let list = list.get_or_insert_with(|| Snapshot {
                request: format!("paged list of {kind:?}"),
                namespace: None,
                revision,
                items: BTreeMap::new(),
            });
            if list.revision != revision {
                bail!("{path} is of revision {revision}, the first page of {}", list.revision);
            }
            let overlaps = list.items.keys().next_back().zip(more.keys().next()).is_some_and(|(last, first)| first <= last);
            if more.len() > PAGE || overlaps {
                bail!("{path} does not follow the page before it");
            }
            list.items.extend(more);
            match page["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() => path = format!("{first}&continue={token}"),
                _ => break,
            }
        }
        Ok(list)
    }

    /// The initial events of a watch, up to the bookmark that ends them. `None` also when the
    /// apiserver cut it off, as it does when a client takes events more slowly than they come.
    async fn streamed(&self, kind: Kind) -> Result<Option<Snapshot>> {
        let mark = self.traffic.mark();
        match self.streamed_items(kind).await {
            Ok(list) => Ok(list),
            Err(_) if self.traffic.excuses(mark) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn streamed_items(&self, kind: Kind) -> Result<Option<Snapshot>> {
        let from = "watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        let mut watch = self.client.watch(&format!("{}?{from}&timeoutSeconds=60", kind.collection(None))).await?;
        let mut items = BTreeMap::new();
        while let Some(event) = watch.next().await? {
            let object = &event["object"];
            match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => {
                    let (key, version) = kind.read(object)?;
                    items.insert(key, version);
                }
                Some("DELETED") => {
                    items.remove(&kind.read(object)?.0);
                }
                Some("BOOKMARK") if object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true" => {
                    let request = format!("streamed list of {kind:?}");
                    return Ok(Some(Snapshot { request, namespace: None, revision: bookmark(object)?, items }));
                }
                Some("BOOKMARK") => {}
                _ => bail!("{event}"),
            }
        }
        Ok(None)
    }
}

fn revision(list: &Value) -> Result<u64> {
    list["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).context("a list without a revision")
}

/// The objects of a list; there must not be two of one name.
pub fn items(kind: Kind, list: &Value) -> Result<BTreeMap<Key, Version>> {
    let objects = list["items"].as_array().context("a list without items")?;
    let items: BTreeMap<Key, Version> = objects.iter().map(|object| kind.read(object)).collect::<Result<_>>()?;
    if items.len() != objects.len() {
        bail!("a list of {} objects has {} names", objects.len(), items.len());
    }
    Ok(items)
}
