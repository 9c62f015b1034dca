//! `lock`: one at a time.

use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use keelson_api::etcdserverpb::DeleteRangeRequest;
use keelson_api::etcdserverpb::response_op::Response;
use tokio::process::Command as Process;

use super::signal::{Ending, canceled};
use crate::cli::{Call, Command, Flag, Group};
use crate::client::{Client, Session};
use crate::exit::Failure;
use crate::output::Reply;

const DEFAULT_TTL: i64 = 60;

pub static COMMAND: Command = Command::new(
    "lock",
    "<lockname> [exec-command arg1 arg2 ...]",
    "Takes a lock, and holds it until it ends or the command does",
)
.group(Group::Concurrency)
.flags(FLAGS)
.run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[Flag::int("ttl", "10", "seconds until a holder that is gone loses the lock")];

async fn run(mut call: Call) -> Result<(), Failure> {
    if call.args.is_empty() {
        return Err(Failure::args("lock takes a lock name argument and an optional command to execute"));
    }
    let client = call.client().await?;
    let ttl = match call.flags.int("ttl") {
        ttl if ttl > 0 => ttl,
        _ => {
            eprintln!("Warning: --ttl is not positive; {DEFAULT_TTL} is taken");
            DEFAULT_TTL
        }
    };
    let mut ending = Ending::new()?;
    let mut session = Session::new(&client, ttl).await?;
    let key = session.key(&call.args[0]);
    let taken = tokio::select! {
        taken = take(&client, &session, &call.args[0], &key) => taken,
        () = ending.asked() => Err(canceled()),
    };
    let revision = match taken {
        Ok(revision) => revision,
        Err(failure) => {
            // Others must not wait for one who has given up. Why it has is more worth telling than whether this succeeds.
            let _ = unlock(&client, &key).await;
            return Err(failure);
        }
    };
    if call.args.len() > 1 {
        let done = execute(&call, &key, revision).await;
        let unlocked = unlock(&client, &key).await;
        return done.and(unlocked);
    }
    let held = client.get(&key).await?;
    if held.kvs.is_empty() {
        return Err(Failure::error("lock lost on init"));
    }
    call.print(&Reply::Get { response: held, values_only: false })?;
    tokio::select! {
        () = ending.asked() => unlock(&client, &key).await,
        _ = &mut session.lost => Err(Failure::error("session expired")),
    }
}

/// Waits until nobody has been in the queue for longer. The revision at which the lock was taken.
async fn take(client: &Client, session: &Session, name: &[u8], key: &Bytes) -> Result<i64, Failure> {
    let queue = Bytes::from([name, b"/"].concat());
    let entered = session.enter(key, Bytes::new(), &queue).await?;
    let revision = entered.header.map_or(0, |header| header.revision);
    let first = match entered.responses.get(1).and_then(|op| op.response.as_ref()) {
        Some(Response::ResponseRange(range)) => range.kvs.first().map(|kv| kv.create_revision),
        _ => None,
    };
    if first.is_none_or(|first| first == revision) {
        return Ok(revision);
    }
    session.wait_for_turn(&queue, revision).await?;
    // The lease may have ended meanwhile.
    let held = client.get(key).await?;
    if held.kvs.is_empty() {
        return Err(Failure::error("mutex: session is expired"));
    }
    Ok(held.header.map_or(0, |header| header.revision))
}

async fn unlock(client: &Client, key: &Bytes) -> Result<(), Failure> {
    client.delete_range(DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() }).await.map(|_| ())
}

/// Runs the command; its exit code becomes this one's.
async fn execute(call: &Call, key: &Bytes, revision: i64) -> Result<(), Failure> {
    let program = call.word(1);
    let mut process = Process::new(os(&call.args[1]));
    process.args(call.args[2..].iter().map(|arg| os(arg)));
    process.env("ETCD_LOCK_KEY", os(key)).env("ETCD_LOCK_REV", revision.to_string()).stdin(Stdio::null());
    let status = process.status().await.map_err(|e| Failure::error(format!("{program} cannot be run: {e}")))?;
    if status.success() { Ok(()) } else { Err(ended(status)) }
}

fn ended(status: ExitStatus) -> Failure {
    match status.code() {
        Some(code) => Failure::new(u8::try_from(code).unwrap_or(u8::MAX), format!("exit status {code}")),
        None => Failure::new(u8::MAX, status.to_string()),
    }
}

fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}
