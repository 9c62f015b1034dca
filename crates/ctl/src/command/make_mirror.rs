//! `make-mirror`: copies keys into another cluster, and every change after that.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest};
use keelson_api::mvccpb::Event;
use keelson_api::mvccpb::event::EventType;
use tokio::time::sleep;

use crate::cli::{Call, Command, Flag, Group, Kind};
use crate::client::{Client, Config, Files, Login, Watches, Ways, op, prefix_end};
use crate::exit::Failure;
use crate::output::line;

/// Keys that are read at a time.
const PAGE: i64 = 1000;
/// How often it is told how many changes were copied.
const REPORT: Duration = Duration::from_secs(30);

pub static COMMAND: Command =
    Command::new("make-mirror", "[options] <destination>", "Copies keys and their changes to another cluster")
        .group(Group::Utility)
        .flags(FLAGS)
        .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[
    Flag::text("dest-cacert", "", "file of the authorities that may sign certificates at the destination"),
    Flag::text("dest-cert", "", "certificate file that is shown to the destination"),
    Flag::new(Kind::Switch, "dest-insecure-transport", "true", "connect there without TLS where nothing asks for it"),
    Flag::text("dest-key", "", "file of the key of --dest-cert"),
    Flag::text("dest-password", "", "password of --dest-user"),
    Flag::text("dest-prefix", "", "what the keys begin with at the destination, in place of --prefix"),
    Flag::text("dest-user", "", "name[:password] of who writes at the destination"),
    Flag::new(Kind::Uint, "max-txn-ops", "128", "most changes that are written in one transaction"),
    Flag::switch("no-dest-prefix", "take --prefix off the keys"),
    Flag::text("prefix", "", "copy only keys that begin with this"),
    Flag::int("rev", "0", "copy only changes from this revision on"),
];

async fn run(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "make-mirror takes one destination argument")?;
    let config = call.config().await?;
    let destination = Client::new(destination(&call)?).await?.without_limit();
    let source = Client::new(config).await?.without_limit();
    if call.on("no-dest-prefix") && !call.flags.text("dest-prefix").is_empty() {
        return Err(Failure::args("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one"));
    }
    let copied = Rc::new(Cell::new(0u64));
    tokio::task::spawn_local(report(copied.clone()));
    let most = usize::try_from(call.flags.uint("max-txn-ops")).unwrap_or(usize::MAX);
    Mirror { source, destination, renamed: Renamed::of(&call), most, copied }.run(call.flags.int("rev")).await
}

fn destination(call: &Call) -> Result<Config, Failure> {
    let text = |name: &str| call.flags.text(name).to_owned();
    let files = Files {
        cert: text("dest-cert"),
        key: text("dest-key"),
        authorities: text("dest-cacert"),
        server_name: String::new(),
        without_tls: call.on("dest-insecure-transport"),
        trust_anybody: false,
    };
    let login = Login::of(&text("dest-user"), &text("dest-password"), "Destination Password: ")?;
    Ok(Config { endpoints: vec![call.word(0)], files, login, ways: Ways::of(&call.flags)? })
}

async fn report(copied: Rc<Cell<u64>>) {
    loop {
        sleep(REPORT).await;
        if line(copied.get().to_string()).is_err() {
            return;
        }
    }
}

struct Mirror {
    source: Client,
    destination: Client,
    renamed: Renamed,
    /// Changes in one transaction.
    most: usize,
    copied: Rc<Cell<u64>>,
}

impl Mirror {
    /// Goes on until something is wrong.
    async fn run(self, revision: i64) -> Result<(), Failure> {
        // With a revision only the changes from there on are copied.
        let after = if revision > 1 { revision - 1 } else { self.base().await? };
        let mut watches = Watches::new(&self.source, false);
        let (key, range_end) = self.range();
        watches.add(WatchCreateRequest { key, range_end, start_revision: after + 1, ..WatchCreateRequest::default() });
        loop {
            let answer = watches.answer().await?;
            for batch in batches(&answer.events, self.most) {
                let success: Vec<RequestOp> = batch.iter().map(|event| self.renamed.change(event)).collect();
                let count = success.len() as u64;
                self.destination.txn(TxnRequest { success, ..TxnRequest::default() }).await?;
                self.copied.set(self.copied.get() + count);
            }
        }
    }

    fn range(&self) -> (Bytes, Bytes) {
        let prefix = &self.renamed.from;
        let key = if prefix.is_empty() { Bytes::from_static(b"\0") } else { prefix.clone() };
        (key, prefix_end(prefix))
    }

    /// Copies all keys as they are at one revision, and returns that.
    async fn base(&self) -> Result<i64, Failure> {
        let (mut key, range_end) = self.range();
        let revision = self.source.get(&key).await?.header.map_or(0, |header| header.revision);
        loop {
            let page = RangeRequest { key, range_end: range_end.clone(), limit: PAGE, revision, ..RangeRequest::default() };
            let page = self.source.range(page).await?;
            for kv in &page.kvs {
                let put = PutRequest { key: self.renamed.key(&kv.key), value: kv.value.clone(), ..PutRequest::default() };
                self.destination.put(put).await?;
                self.copied.set(self.copied.get() + 1);
            }
            match page.kvs.last() {
                Some(last) if page.more => key = [&last.key[..], b"\0"].concat().into(),
                _ => return Ok(revision),
            }
        }
    }
}

/// Runs of changes of one revision each: what happened at once is written at once, as far as that is allowed.
fn batches(events: &[Event], most: usize) -> impl Iterator<Item = &[Event]> {
    let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
    events.chunk_by(move |one, next| revision(one) == revision(next)).flat_map(move |run| run.chunks(most.max(1)))
}

/// What keys are called at the destination.
struct Renamed {
    from: Bytes,
    to: Bytes,
}

impl Renamed {
    fn of(call: &Call) -> Self {
        let (from, to) = (call.flags.text("prefix"), call.flags.text("dest-prefix"));
        let to = if to.is_empty() && !call.on("no-dest-prefix") { from } else { to };
        Self { from: from.to_owned().into(), to: to.to_owned().into() }
    }

    fn key(&self, key: &Bytes) -> Bytes {
        let rest = key[..].strip_prefix(&self.from[..]).unwrap_or(&key[..]);
        [&self.to[..], rest].concat().into()
    }

    fn change(&self, event: &Event) -> RequestOp {
        let kv = event.kv.clone().unwrap_or_default();
        let key = self.key(&kv.key);
        op(match event.r#type() {
            EventType::Put => Request::RequestPut(PutRequest { key, value: kv.value, ..PutRequest::default() }),
            EventType::Delete => Request::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }),
        })
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::mvccpb::KeyValue;

    use super::*;

    fn event(mod_revision: i64) -> Event {
        Event { kv: Some(KeyValue { mod_revision, ..KeyValue::default() }), ..Event::default() }
    }

    #[test]
    fn revisions_are_written_apart_and_large_ones_in_parts() {
        let events = [1, 2, 2, 2, 3].map(event);
        let lengths = |most| batches(&events, most).map(<[Event]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(128), [1, 3, 1]);
        assert_eq!(lengths(2), [1, 2, 1, 1]);
    }

    #[test]
    fn the_prefix_is_replaced_once_and_only_in_front() {
        let renamed = |from: &'static str, to: &'static str, key: &'static str| {
            Renamed { from: from.into(), to: to.into() }.key(&key.into())
        };
        assert_eq!(renamed("a", "b", "aa"), &b"ba"[..]);
        assert_eq!(renamed("a/", "", "a/x"), &b"x"[..]);
        assert_eq!(renamed("", "p/", "x"), &b"p/x"[..]);
    }
}
