//! `elect`: one of several leads, and the others wait.

use bytes::Bytes;
use keelson_api::created_at;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{DeleteRangeRequest, RangeResponse, ResponseHeader, TxnRequest, WatchCreateRequest};
use keelson_api::mvccpb::KeyValue;
use keelson_api::mvccpb::event::EventType;

use super::signal::{Ending, canceled};
use crate::cli::{Call, Command, Flag, Group};
use crate::client::{Client, Session, Watches, oldest, op, prefix_end};
use crate::exit::Failure;
use crate::output::Reply;

/// Seconds until a leader that is gone is one no more.
const TTL: i64 = 60;

pub static COMMAND: Command =
    Command::new("elect", "<election-name> [proposal]", "Stands for election, or watches who is elected")
        .group(Group::Concurrency)
        .flags(FLAGS)
        .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[Flag::switch("listen", "only watch who is elected").short('l')];

async fn run(mut call: Call) -> Result<(), Failure> {
    if call.args.is_empty() || call.args.len() > 2 {
        return Err(Failure::args("elect takes one election name argument and an optional proposal argument"));
    }
    let client = call.client().await?;
    match (call.args.len(), call.on("listen")) {
        (1, true) => observe(&call, &client).await,
        (1, false) => Err(Failure::args("no proposal argument but -l not set")),
        (_, true) => Err(Failure::args("proposal given but -l is set")),
        (_, false) => campaign(&call, &client).await,
    }
}

fn queue(call: &Call) -> Bytes {
    [call.args[0].as_slice(), b"/"].concat().into()
}

async fn campaign(call: &Call, client: &Client) -> Result<(), Failure> {
    let mut ending = Ending::new()?;
    let mut session = Session::new(client, TTL).await?;
    let (key, queue) = (session.key(&call.args[0]), queue(call));
    let entered = session.enter(&key, call.arg(1), &queue).await?;
    let revision = entered.header.map_or(0, |header| header.revision);
    let elected = tokio::select! {
        turn = session.wait_for_turn(&queue, revision) => turn,
        () = ending.asked() => Err(canceled()),
    };
    if let Err(failure) = elected {
        // Nobody is to elect one who has given up. Why it has is more worth telling than whether this succeeds.
        let _ = resign(client, &key, revision).await;
        return Err(failure);
    }
    call.print(&Reply::Get { response: client.get(&key).await?, values_only: false })?;
    tokio::select! {
        () = ending.asked() => resign(client, &key, revision).await,
        _ = &mut session.lost => Err(Failure::error("elect: session expired")),
    }
}

/// Removes the key, if it is still the one of this candidate.
async fn resign(client: &Client, key: &Bytes, revision: i64) -> Result<(), Failure> {
    let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    let request = TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![op(Request::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    client.txn(request).await.map(|_| ())
}

async fn observe(call: &Call, client: &Client) -> Result<(), Failure> {
    let mut ending = Ending::new()?;
    let queue = queue(call);
    tokio::select! {
        lost = follow(call, client, &queue) => match lost {
            Err(failure) => Err(failure),
            Ok(()) => Err(Failure::error("elect: observer lost")),
        },
        () = ending.asked() => Ok(()),
    }
}

/// Prints each leader and each of its proposals. Ends when the watch does.
async fn follow(call: &Call, client: &Client, queue: &Bytes) -> Result<(), Failure> {
    let print = |header: Option<ResponseHeader>, kv: KeyValue| {
        let response = RangeResponse { header, kvs: vec![kv], ..RangeResponse::default() };
        call.print(&Reply::Get { response, values_only: false })
    };
    loop {
        let Ok(found) = client.range(oldest(queue)).await else { return Ok(()) };
        let mut revision = found.header.map_or(0, |header| header.revision);
        let (header, leader) = match found.kvs.into_iter().next() {
            Some(leader) => (found.header, leader),
            None => {
                let Some((header, leader)) = first(client, queue, revision).await else { return Ok(()) };
                revision = leader.mod_revision;
                (header, leader)
            }
        };
        let key = leader.key.clone();
        print(header, leader)?;
        let mut watches = Watches::new(client, false);
        watches.add(WatchCreateRequest { key, start_revision: revision + 1, ..WatchCreateRequest::default() });
        let mut leads = true;
        while leads {
            let Ok(answer) = watches.answer().await else { return Ok(()) };
            for event in answer.events {
                if event.r#type() == EventType::Delete {
                    leads = false;
                    break;
                }
                print(answer.header, event.kv.unwrap_or_default())?;
            }
        }
    }
}

/// Who comes first where nobody is.
async fn first(client: &Client, queue: &Bytes, revision: i64) -> Option<(Option<ResponseHeader>, KeyValue)> {
    let mut watches = Watches::new(client, false);
    let range_end = prefix_end(queue);
    watches.add(WatchCreateRequest { key: queue.clone(), range_end, start_revision: revision, ..WatchCreateRequest::default() });
    loop {
        let answer = watches.answer().await.ok()?;
        let put = answer.events.into_iter().find(|event| event.r#type() == EventType::Put);
        if let Some(kv) = put.and_then(|event| event.kv) {
            let header = answer.header.map(|header| ResponseHeader { revision: kv.mod_revision, ..header });
            return Some((header, kv));
        }
    }
}
