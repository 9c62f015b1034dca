//! Streams as lines: watches, keepalives, elections that are observed.

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use serde_json::Value;

use super::{Both, LIMIT, lines, values};

const WATCH: &str = r#"{"create_request":{"key":"Zm9v","range_end":"Zm9w"}}"#;

/// All events of some lines.
fn events(lines: &[Value]) -> Vec<Value> {
    lines.iter().filter_map(|line| line["result"]["events"].as_array()).flatten().cloned().collect()
}

#[tokio::test]
async fn a_watch_goes_on_after_its_request_has_ended() -> Result<()> {
    let both = Both::start(&[]).await?;
    let mut open = Vec::new();
    for server in &both.0 {
        open.push(lines(&server.client_url(), "/v3/watch", WATCH, 1).await?);
    }
    assert_eq!(open[0].0, open[1].0, "the line that says that it is there");
    both.post("/v3/kv/put", r#"{"key":"Zm9v","value":"YQ=="}"#).await?;
    both.post("/v3/kv/deleterange", r#"{"key":"Zm9v"}"#).await?;
    let mut seen = Vec::new();
    for (_, rest) in &mut open {
        let mut text = Vec::new();
        while events(&values(&text)?).len() < 2 {
            let frame = tokio::time::timeout(LIMIT, rest.frame()).await.context("no event")?.context("the watch has ended")??;
            text.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        seen.push(events(&values(&text)?));
    }
    assert_eq!(seen[0], seen[1]);
    Ok(())
}

#[tokio::test]
async fn the_past_is_told_and_one_request_may_begin_several_watches() -> Result<()> {
    let both = Both::start(&[]).await?;
    both.post("/v3/kv/put", r#"{"key":"Zm9v","value":"YQ=="}"#).await?;
    let past = r#"{"createRequest":{"key":"Zm9v","startRevision":"1","watch_id":"5","filters":["NODELETE"],"prevKv":true}}"#;
    let two = r#"{"create_request":{"key":"YQ==","watch_id":1}} {"create_request":{"key":"Yg==","watch_id":2}}"#;
    let compacted = r#"{"create_request":{"key":"Zm9v","start_revision":1}}"#;
    let refused = r#"{"create_request":{"key":"Zm9v","range_end":"YQ=="}}"#;
    for (body, count) in [(past, 2), (two, 2), (refused, 1)] {
        let [etcd, other] = &both.0;
        let (expected, _) = lines(&etcd.client_url(), "/v3/watch", body, count).await?;
        let (told, _) = lines(&other.client_url(), "/v3/watch", body, count).await?;
        assert_eq!(expected, told, "{body}");
    }
    both.post("/v3/kv/compaction", r#"{"revision":"2"}"#).await?;
    let [etcd, other] = &both.0;
    let (expected, _) = lines(&etcd.client_url(), "/v3/watch", compacted, 2).await?;
    let (told, _) = lines(&other.client_url(), "/v3/watch", compacted, 2).await?;
    assert_eq!(expected, told);
    Ok(())
}

#[tokio::test]
async fn a_watch_ends_in_time_if_it_is_told_when() -> Result<()> {
    let both = Both::start(&[]).await?;
    let [expected, told] = both.ask(hyper::Method::POST, "/v3/watch", &[("grpc-timeout", "700m")], WATCH).await?;
    assert_eq!(expected, told);
    assert_eq!(expected.body.len(), 2, "{expected:?}");
    Ok(())
}

#[tokio::test]
async fn an_election_is_observed_line_by_line() -> Result<()> {
    let both = Both::start(&[]).await?;
    both.post("/v3/lease/grant", r#"{"TTL":"100","ID":"80"}"#).await?;
    both.post("/v3/election/campaign", r#"{"name":"ZQ==","lease":"80","value":"YQ=="}"#).await?;
    let [etcd, other] = &both.0;
    let (expected, _) = lines(&etcd.client_url(), "/v3/election/observe", r#"{"name":"ZQ=="}"#, 1).await?;
    let (told, _) = lines(&other.client_url(), "/v3/election/observe", r#"{"name":"ZQ=="}"#, 1).await?;
    assert_eq!(expected, told);
    Ok(())
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_watch() -> Result<()> {
    let both = Both::start(&[]).await?;
    let server = &both.0[1];
    let watchers = async || {
        let metrics = super::send(&server.client_url(), &hyper::Method::GET, "/metrics", &[], "").await?;
        let metrics = metrics.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&metrics).into_owned();
        let line = text.lines().find_map(|l| l.strip_prefix("etcd_debugging_mvcc_watcher_total "));
        Ok::<_, anyhow::Error>(line.context("no such metric")?.to_owned())
    };
    let (_, rest) = lines(&server.client_url(), "/v3/watch", WATCH, 1).await?;
    assert_eq!(watchers().await?, "1");
    drop(rest);
    keelson_e2e::wait::until("the watch ends", LIMIT, async || Ok(watchers().await? == "0")).await
}
