//! Steps that every scenario with an apiserver has.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use hyper::Method;
use serde_json::json;

use crate::kubernetes::apiserver::{ApiServer, EVENT_TTL};
use crate::kubernetes::client::Client;
use crate::kubernetes::ledger::Ledger;
use crate::kubernetes::load::{Lists, Load};
use crate::kubernetes::object::{KINDS, Kind, NAMESPACES, namespace, widget_definition};
use crate::wait;

/// After the store's restart; gRPC's longest pause between two attempts is three seconds.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(30);
/// Later than that an expired event must not be there.
const EXPIRY_LIMIT: Duration = Duration::from_secs(30);

/// Makes what the load needs to be there.
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
    wait::until("custom resources are served", RECOVERY_LIMIT, async || {
        Ok(client.get(&Kind::Widget.collection(None)).await?.status == 200)
    })
    .await
}

/// Whether the apiserver says that it and its store are well.
pub async fn healthy(client: &Client) -> Result<()> {
    for path in ["/readyz", "/healthz/etcd", "/readyz/etcd-readiness"] {
        let answer = client.get(path).await?;
        ensure!(answer.status == 200, "{path}: status {}: {}", answer.status, answer.text());
    }
    Ok(())
}

/// What the watches have told is what the workers have written, change by change.
pub async fn events_are_the_writes(load: &mut Load, ledger: &Ledger) -> Result<()> {
    for kind in KINDS {
        let (history, expected) = (load.history(kind), ledger.changes(kind));
        let limit = if kind == Kind::Event { EVENT_TTL + EXPIRY_LIMIT } else { RECOVERY_LIMIT };
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

/// Every list is the state that the watches have told, at its own revision.
pub async fn lists_are_the_events(load: &mut Load, lists: Lists) -> Result<()> {
    for (kind, list) in lists {
        let history = load.history(kind);
        let there = async |_: &_| Ok(history.lock().revision() >= list.revision);
        load.until("the watch is where the list was", RECOVERY_LIMIT, there).await?;
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

/// The apiserver must not have met anything that the store lacks.
pub fn complete(apiserver: &ApiServer) -> Result<()> {
    for text in ["Unimplemented", "unimplemented", "does not support", "panic"] {
        let lines = apiserver.log_lines_with(text)?;
        ensure!(lines.is_empty(), "the apiserver's log: {lines:#?}");
    }
    Ok(())
}
