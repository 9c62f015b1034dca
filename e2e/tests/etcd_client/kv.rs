//! Keys and values: a configuration tree, pages of a listing, and compare-and-swap.

use anyhow::{Context, Result, ensure};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, GetOptions, GetResponse, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse,
};
use tonic::Code;

use super::{connect, refused, start};

const CLIENTS: usize = 8;
const INCREMENTS: usize = 25;

fn keys(answer: &GetResponse) -> Vec<&str> {
    answer.kvs().iter().filter_map(|kv| kv.key_str().ok()).collect()
}

#[tokio::test]
async fn a_configuration_is_written_changed_read_as_it_was_and_removed() -> Result<()> {
    let (_server, mut client) = start().await?;
    let first = client.put("app/name", "one", None).await?.header().context("header")?.revision();
    let answer = client.put("app/name", "two", Some(PutOptions::new().with_prev_key())).await?;
    ensure!(answer.prev_key().context("what was there before")?.value() == b"one");
    client.put("app/port", "80", None).await?;

    let now = client.get("app/name", None).await?;
    let kv = now.kvs().first().context("the key")?;
    assert_eq!((kv.value_str()?, kv.version(), kv.create_revision(), kv.mod_revision()), ("two", 2, first, first + 1));
    let then = client.get("app/name", Some(GetOptions::new().with_revision(first))).await?;
    assert_eq!(then.kvs()[0].value_str()?, "one");

    let kept = PutOptions::new().with_ignore_value();
    refused(client.put("app/name", "x", Some(kept.clone())).await, Code::InvalidArgument, "etcdserver: value is provided")?;
    refused(client.put("app/none", "", Some(kept)).await, Code::InvalidArgument, "etcdserver: key not found")?;
    refused(client.put("", "", None).await, Code::InvalidArgument, "etcdserver: key is not provided")?;

    let removed = client.delete("app/", Some(DeleteOptions::new().with_prefix().with_prev_key())).await?;
    assert_eq!(removed.deleted(), 2);
    assert_eq!(removed.prev_kvs()[1].value_str()?, "80");
    assert_eq!(client.get("app/", Some(GetOptions::new().with_prefix())).await?.count(), 0);
    assert_eq!(client.delete("app/name", None).await?.deleted(), 0);
    Ok(())
}

#[tokio::test]
async fn a_listing_is_read_page_by_page_while_it_changes() -> Result<()> {
    let (_server, mut client) = start().await?;
    for i in 0..25 {
        client.put(format!("item/{i:02}"), format!("{}", 100 - i), None).await?;
    }
    let mut seen: Vec<String> = Vec::new();
    let mut from = "item/".to_owned();
    let mut revision = 0;
    loop {
        let page = GetOptions::new().with_range("item0").with_limit(10).with_revision(revision);
        let answer = client.get(from.clone(), Some(page)).await?;
        if revision == 0 {
            revision = answer.header().context("header")?.revision();
        }
        seen.extend(keys(&answer).into_iter().map(str::to_owned));
        from = format!("{}\0", seen.last().context("a page without keys")?);
        // Whoever lists at one revision does not see this.
        client.delete("item/20", None).await?;
        client.put(format!("item/{}x", seen.len()), "new", None).await?;
        if !answer.more() {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(|i| format!("item/{i:02}")).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_listing_is_sorted_filtered_counted_and_streamed_by_the_server() -> Result<()> {
    let (_server, mut client) = start().await?;
    for (key, value) in [("p/a", "3"), ("p/b", "1"), ("p/c", "2"), ("q/d", "4")] {
        client.put(key, value, None).await?;
    }
    let prefix = || GetOptions::new().with_prefix();
    let by_value = client.get("p/", Some(prefix().with_sort(SortTarget::Value, SortOrder::Ascend))).await?;
    assert_eq!(keys(&by_value), ["p/b", "p/c", "p/a"]);
    let newest = client.get("", Some(prefix().with_sort(SortTarget::Mod, SortOrder::Descend).with_limit(1))).await?;
    assert_eq!((keys(&newest), newest.more(), newest.count()), (vec!["q/d"], true, 4));
    let counted = client.get("p/", Some(prefix().with_count_only())).await?;
    assert_eq!((counted.count(), counted.kvs().len()), (3, 0));
    let only_keys = client.get("p/", Some(prefix().with_keys_only().with_serializable())).await?;
    ensure!(only_keys.kvs().len() == 3 && only_keys.kvs().iter().all(|kv| kv.value().is_empty()));
    let late = by_value.kvs()[1].mod_revision();
    let changed = client.get("p/", Some(prefix().with_min_mod_revision(late))).await?;
    assert_eq!(keys(&changed), ["p/c"]);
    assert_eq!(keys(&client.get("p/b", Some(GetOptions::new().with_from_key())).await?), ["p/b", "p/c", "q/d"]);
    assert_eq!(client.get("x", Some(GetOptions::new().with_all_keys())).await?.count(), 4);

    let mut streamed = client.kv_client().get_stream("p/", Some(prefix())).await?;
    let mut seen = Vec::new();
    while let Some(part) = streamed.message().await? {
        seen.extend(keys(&part).into_iter().map(str::to_owned));
    }
    assert_eq!(seen, ["p/a", "p/b", "p/c"]);
    Ok(())
}

#[tokio::test]
async fn a_transaction_does_one_of_two_things_and_answers_for_each_operation() -> Result<()> {
    let (_server, mut client) = start().await?;
    let create = |value: &str| {
        Txn::new()
            .when([Compare::create_revision("owner", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("owner", value, None), TxnOp::get("owner", None)])
            .or_else([TxnOp::get("owner", None), TxnOp::txn(Txn::new().and_then([TxnOp::delete("nothing", None)]))])
    };
    let won = client.txn(create("me")).await?;
    ensure!(won.succeeded());
    match won.op_responses().as_slice() {
        [TxnOpResponse::Put(_), TxnOpResponse::Get(read)] => assert_eq!(read.kvs()[0].value_str()?, "me"),
        other => anyhow::bail!("answers of another kind: {other:?}"),
    }
    let lost = client.txn(create("you")).await?;
    ensure!(!lost.succeeded());
    match lost.op_responses().as_slice() {
        [TxnOpResponse::Get(read), TxnOpResponse::Txn(inner)] => {
            assert_eq!(read.kvs()[0].value_str()?, "me");
            ensure!(matches!(inner.op_responses().as_slice(), [TxnOpResponse::Delete(none)] if none.deleted() == 0));
        }
        other => anyhow::bail!("answers of another kind: {other:?}"),
    }
    let twice = Txn::new().and_then([TxnOp::put("k", "1", None), TxnOp::put("k", "2", None)]);
    refused(client.txn(twice).await, Code::InvalidArgument, "etcdserver: duplicate key given in txn request")
}

async fn increment(client: &mut Client) -> Result<()> {
    loop {
        let read = client.get("counter", None).await?;
        let kv = read.kvs().first().context("the counter")?;
        let next = kv.value_str()?.parse::<u64>()? + 1;
        let swap = Txn::new()
            .when([Compare::mod_revision("counter", CompareOp::Equal, kv.mod_revision())])
            .and_then([TxnOp::put("counter", next.to_string(), None)]);
        if client.txn(swap).await?.succeeded() {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn clients_that_count_together_lose_no_step() -> Result<()> {
    let (server, mut client) = start().await?;
    client.put("counter", "0", None).await?;
    let mut counting = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = connect(&server).await?;
        counting.push(tokio::spawn(async move {
            for _ in 0..INCREMENTS {
                increment(&mut client).await?;
            }
            anyhow::Ok(())
        }));
    }
    for one in counting {
        one.await??;
    }
    let counter = client.get("counter", None).await?;
    assert_eq!(counter.kvs()[0].value_str()?, (CLIENTS * INCREMENTS).to_string());
    assert_eq!(counter.kvs()[0].version(), 1 + (CLIENTS * INCREMENTS) as i64);
    Ok(())
}
