//! Revisions that were compacted away: what remembers them has to be told that they are gone, and
//! not be given something else.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::kubernetes::apiserver::COMPACTION_INTERVAL;
use crate::kubernetes::client::{Answer, Client};
use crate::kubernetes::object::Kind;
use crate::wait;

/// 410 Gone.
const GONE: u16 = 410;

/// A place in a list and its revision.
pub struct Past {
    kind: Kind,
    revision: String,
    token: String,
}

impl Past {
    /// Reads the first page of a list with more than one object and keeps the place.
    pub async fn remember(client: &Client, kind: Kind) -> Result<Self> {
        let page = client.get(&format!("{}?limit=1", kind.collection(None))).await?.json()?;
        let text = |field: &str| {
            let text = page["metadata"][field].as_str().filter(|text| !text.is_empty());
            text.map(str::to_string).with_context(|| format!("the first page of {kind:?} has no {field}"))
        };
        Ok(Self { kind, revision: text("resourceVersion")?, token: text("continue")? })
    }

    /// Waits until the apiserver has compacted the revision: the list cannot be continued, nor be
    /// read again, nor be followed by a watch.
    pub async fn is_gone(&self, client: &Client) -> Result<()> {
        let collection = self.kind.collection(None);
        let continued = format!("{collection}?limit=1&continue={}", self.token);
        let again = format!("{collection}?resourceVersion={}&resourceVersionMatch=Exact", self.revision);
        for path in [continued, again] {
            // One interval until the revision is noted, one more until it is compacted, and then some
            // until the cache has noticed that.
            wait::until(&format!("{path} is gone"), 3 * COMPACTION_INTERVAL, async || {
                let Answer { status, .. } = client.get(&path).await?;
                match status {
                    GONE => Ok(true),
                    200 => Ok(false),
                    _ => bail!("{path}: status {status}"),
                }
            })
            .await?;
        }
        if self.kind == Kind::Event {
            // The apiserver's cache, which events do not have, remembers changes for longer.
            self.watch_is_refused(client).await?;
        }
        Ok(())
    }

    async fn watch_is_refused(&self, client: &Client) -> Result<()> {
        let path = format!("{}?watch=true&timeoutSeconds=30&resourceVersion={}", self.kind.collection(None), self.revision);
        let mut watch = client.watch(&path).await?;
        let event = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.context(path.clone())??;
        match event {
            Some(event) if event["type"] == "ERROR" && event["object"]["code"] == GONE => Ok(()),
            other => bail!("{path}: {other:?}, not {GONE}"),
        }
    }
}
