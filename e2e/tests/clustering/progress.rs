//! Progress that was told before the events that belong to it, a failure that stores of this kind have had: 15220 by the
//! number of etcd's issue.

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use super::{LIMIT, three};

/// What a watch has told, in order.
enum Told {
    Event(i64),
    Progress(i64),
}

fn progress() -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) }
}

fn events(told: &[Told]) -> usize {
    told.iter().filter(|told| matches!(told, Told::Event(_))).count()
}

/// Takes the next response of a watch.
async fn next(stream: &mut Streaming<WatchResponse>, told: &mut Vec<Told>) -> Result<()> {
    let answer = tokio::time::timeout(LIMIT, stream.message()).await.context("the watch has stalled")??;
    let answer = answer.context("the watch goes on")?;
    if answer.events.is_empty() {
        told.push(Told::Progress(answer.header.context("a header")?.revision));
    } else {
        told.extend(answer.events.iter().filter_map(|e| Some(Told::Event(e.kv.as_ref()?.mod_revision))));
    }
    Ok(())
}

/// Whether all puts were told, in order, and no progress before them; answers how often progress was told.
fn is_in_order(put: &[i64], told: &[Told]) -> Result<usize> {
    let (mut seen, mut progress) = (0, 0);
    for told in told {
        match told {
            Told::Event(revision) => {
                ensure!(put.get(seen) == Some(revision), "an event of {revision} in place of {:?}", put.get(seen));
                seen += 1;
            }
            Told::Progress(revision) => {
                let due = put.iter().filter(|p| *p <= revision).count();
                ensure!(seen >= due, "progress to {revision} after {seen} of {due} events");
                progress += 1;
            }
        }
    }
    ensure!(seen == put.len(), "{seen} events of {}", put.len());
    Ok(progress)
}

#[tokio::test]
async fn no_member_tells_of_progress_before_the_events_that_belong_to_it() -> Result<()> {
    const PUTS: usize = 600;
    let cluster = three(&["--watch-progress-notify-interval=100ms"]).await?;
    let mut watchers = Vec::new();
    for member in &cluster.members {
        let (ask, asked) = mpsc::unbounded_channel();
        let create = WatchCreateRequest { key: "p".into(), progress_notify: true, ..Default::default() };
        ask.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })?;
        let mut client = WatchClient::connect(member.client_url()).await?;
        let mut stream = client.watch(UnboundedReceiverStream::new(asked)).await?.into_inner();
        ensure!(stream.message().await?.context("an answer")?.created);
        watchers.push(tokio::spawn(async move {
            let mut told = Vec::new();
            while events(&told) < PUTS {
                let begun = told.len();
                next(&mut stream, &mut told).await?;
                if told[begun..].iter().any(|told| matches!(told, Told::Event(_))) {
                    ask.send(progress())?;
                }
            }
            anyhow::Ok(told)
        }));
    }
    let mut put = Vec::new();
    for n in 0..PUTS {
        put.push(cluster.put(n % 3, "p", "x").await?);
    }
    for (number, watcher) in watchers.into_iter().enumerate() {
        let times = is_in_order(&put, &watcher.await??).with_context(|| format!("member {number}"))?;
        ensure!(times > 10, "member {number} told of progress {times} times");
    }
    Ok(())
}

/// What is asked for while nothing is read waits in the stream with all the events that it must not overtake.
#[tokio::test]
async fn a_watcher_that_reads_slowly_is_told_of_no_progress_that_it_asked_for_before_its_events() -> Result<()> {
    const PUTS: usize = 400;
    /// Much more than a stream holds on its way.
    const VALUE: usize = 50_000;
    let cluster = three(&[]).await?;
    let follower = (cluster.leader(&[0, 1, 2]).await? + 1) % 3;
    let (ask, asked) = mpsc::unbounded_channel();
    let create = WatchCreateRequest { key: "p".into(), ..Default::default() };
    ask.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })?;
    let mut client = WatchClient::connect(cluster.members[follower].client_url()).await?.max_decoding_message_size(1 << 30);
    let mut stream = client.watch(UnboundedReceiverStream::new(asked)).await?.into_inner();
    ensure!(stream.message().await?.context("an answer")?.created);
    let value = "v".repeat(VALUE);
    let mut put = Vec::new();
    for n in 0..PUTS {
        put.push(cluster.put(n % 3, "p", &value).await?);
        ask.send(progress())?;
    }
    let mut told = Vec::new();
    while events(&told) < PUTS {
        next(&mut stream, &mut told).await?;
        ask.send(progress())?;
    }
    // Whoever has read everything is told of progress.
    while !matches!(told.last(), Some(Told::Progress(_))) {
        ask.send(progress())?;
        next(&mut stream, &mut told).await?;
    }
    is_in_order(&put, &told).map(|_| ())
}
