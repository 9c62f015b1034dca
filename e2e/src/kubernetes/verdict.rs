//! What is made before a load, and what must be true after it: the watches told of exactly the acknowledged writes, and
//! the lists agree with the watches.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use hyper::Method;
use serde_json::json;

use crate::kubernetes::apiserver::EVENT_TTL;
use crate::kubernetes::client::Client;
use crate::kubernetes::ledger::Ledger;
use crate::kubernetes::load::{Lists, Load};
use crate::kubernetes::object::{KINDS, Kind, NAMESPACES, namespace, widget_definition};
use crate::wait;

const LIMIT: Duration = Duration::from_secs(30);
/// Later than that an expired event must not be there.
const EXPIRY_LIMIT: Duration = Duration::from_secs(30);

/// The kind and the namespaces that the load writes to.
pub async fn prepare(client: &Client) -> Result<()> {
    let create = async |path: &str, body| {
        let answer = client.call(Method::POST, path, Some(&body)).await?;
        ensure!(answer.status == 201, "{path}: status {}: {}", answer.status, answer.text());
        Ok(())
    };
    create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", widget_definition()).await?;
    for number in 0..NAMESPACES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(number)}});
        create("/api/v1/namespaces", namespace).await?;
    }
    wait::until(
        "custom resources are served",
        LIMIT,
        async || Ok(client.get(&Kind::Widget.collection(None)).await?.status == 200),
    )
    .await
}

pub async fn events_are_the_writes(load: &mut Load, ledger: &Ledger) -> Result<()> {
    for kind in KINDS {
        let (history, expected) = (load.history(kind), ledger.changes(kind));
        let limit = if kind == Kind::Event { EVENT_TTL + EXPIRY_LIMIT } else { LIMIT };
        let seen = load.until("all changes are seen", limit, async |_| Ok(history.lock().ours() >= expected)).await;
        let compared = alike(&format!("{expected} changes of {kind:?}"), ledger.differences(kind, &history.lock()));
        match (seen, compared) {
            // Which ones, beside why.
            (Err(why), Err(which)) => return Err(why.context(which.to_string())),
            (seen, compared) => seen.and(compared)?,
        }
    }
    Ok(())
}

pub async fn lists_are_the_events(load: &mut Load, lists: Lists) -> Result<()> {
    for (kind, list) in lists {
        let history = load.history(kind);
        let there = async |_: &_| Ok(history.lock().revision() >= list.revision);
        load.until("the watch is where the list was", LIMIT, there).await?;
        alike(&list.request, history.lock().differences(&list))?;
    }
    Ok(())
}

fn alike(what: &str, differences: Vec<String>) -> Result<()> {
    const TOLD: usize = 5;
    if !differences.is_empty() {
        let first: Vec<&String> = differences.iter().take(TOLD).collect();
        bail!("{what}: {} differences: {first:#?}", differences.len());
    }
    Ok(())
}
