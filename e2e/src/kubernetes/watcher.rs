//! Follows all objects of one kind with a watch that is never told a list again: it begins with
//! the streamed list and goes on, watch after watch, from where the last one ended.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde_json::Value;

use crate::kubernetes::client::Client;
use crate::kubernetes::history::History;
use crate::kubernetes::object::Kind;
use crate::kubernetes::traffic::Traffic;

/// How long one watch lasts. Short, so that many begin at a revision of the past.
const WATCH_SECONDS: u64 = 20;

pub type Shared = Arc<Mutex<History>>;

/// Follows until the task is ended, or an event is wrong.
pub async fn follow(client: Client, kind: Kind, history: Shared, traffic: Arc<Traffic>) -> Result<()> {
    loop {
        let mark = traffic.mark();
        match one_watch(&client, kind, &history).await {
            Ok(()) => {}
            Err(Broken::Store(_)) if traffic.excuses(mark) => {}
            Err(Broken::Store(error) | Broken::Promise(error)) => return Err(error.context(format!("the watch of {kind:?}"))),
        }
    }
}

enum Broken {
    /// Fails as it may while the store is down.
    Store(anyhow::Error),
    /// Never right.
    Promise(anyhow::Error),
}

async fn one_watch(client: &Client, kind: Kind, history: &Shared) -> Result<(), Broken> {
    let (revision, complete) = {
        let mut history = history.lock();
        if !history.complete() {
            // A streamed list that broke off is begun again.
            *history = History::default();
        }
        (history.revision(), history.complete())
    };
    let from = match complete {
        true => format!("resourceVersion={revision}"),
        false => "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_string(),
    };
    let collection = kind.collection(None);
    let path = format!("{collection}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&{from}");
    let mut watch = client.watch(&path).await.map_err(Broken::Store)?;
    while let Some(event) = watch.next().await.map_err(Broken::Store)? {
        if event["type"] == "ERROR" {
            let error = anyhow::anyhow!("from revision {revision}: {event}");
            return Err(if event["object"]["code"] == 410 { Broken::Promise(error) } else { Broken::Store(error) });
        }
        take(kind, &mut history.lock(), &event).map_err(Broken::Promise)?;
    }
    Ok(())
}

fn take(kind: Kind, history: &mut History, event: &Value) -> Result<()> {
    let name = event["type"].as_str().context("an event without type")?;
    let object = &event["object"];
    if name == "BOOKMARK" {
        return history.reached(bookmark(object)?);
    }
    let (key, version) = kind.read(object)?;
    match (history.complete(), name) {
        (true, _) => history.event(name, key, version),
        (false, "ADDED") => history.initial(key, version),
        (false, _) => bail!("{name} of {key} before the end of the initial objects"),
    }
}

/// The revision that a bookmark tells.
pub fn bookmark(object: &Value) -> Result<u64> {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).context("a bookmark without a revision")
}
