//! Lists of many keys come in pieces of the server's making: at every revision and limit they are
//! what etcd answers, whatever is written and compacted meanwhile.

use anyhow::{Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, request_op::Request,
};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tonic::transport::Channel;

type Kv = KvClient<Channel>;

async fn client(server: &Server) -> Result<Kv> {
    Ok(KvClient::connect(server.client_url()).await?.max_decoding_message_size(usize::MAX))
}

fn key(i: usize) -> String {
    format!("list/{i:06}\0")
}

async fn put_all(kv: &mut Kv, keys: usize, len: usize) -> Result<()> {
    for first in (0..keys).step_by(100) {
        let put = |i| {
            Request::RequestPut(PutRequest {
                key: key(i).into(),
                value: vec![b'a' + (i % 26) as u8; len].into(),
                ..Default::default()
            })
        };
        let success = (first..keys.min(first + 100)).map(|i| RequestOp { request: Some(put(i)) }).collect();
        kv.txn(TxnRequest { success, ..Default::default() }).await?;
    }
    Ok(())
}

fn everything() -> RangeRequest {
    RangeRequest { key: "list/".into(), range_end: "list0".into(), ..Default::default() }
}

/// Ids and terms are a server's own.
fn comparable(mut response: RangeResponse) -> RangeResponse {
    if let Some(header) = &mut response.header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
    response
}

/// The whole answer of a streamed range.
async fn streamed(kv: &mut Kv, request: RangeRequest) -> Result<RangeResponse> {
    let mut pieces = kv.range_stream(request).await?.into_inner();
    let mut whole = RangeResponse::default();
    while let Some(piece) = pieces.message().await? {
        let piece = piece.range_response.unwrap_or_default();
        // A client stops reading at the last key it asked for, and must know the revision by then.
        ensure!(whole.header.is_none(), "something comes after the piece with the header");
        ensure!(piece.header.is_none() || !piece.kvs.is_empty() || whole.kvs.is_empty(), "the last keys come before the header");
        whole.kvs.extend(piece.kvs);
        whole.header = piece.header.or(whole.header);
        whole.more |= piece.more;
        whole.count = whole.count.max(piece.count);
    }
    Ok(whole)
}

#[tokio::test]
async fn large_lists_answer_what_etcd_answers_at_every_revision_and_limit() -> Result<()> {
    let etcd = Server::start(Program::Etcd, &[]).await?;
    let keelson = Server::start(Program::Keelson, &[]).await?;
    let (mut theirs, mut ours) = (client(&etcd).await?, client(&keelson).await?);
    for kv in [&mut theirs, &mut ours] {
        put_all(kv, 5000, 700).await?;
        put_all(kv, 2500, 0).await?;
        kv.delete_range(DeleteRangeRequest { key: key(1000).into(), range_end: key(1500).into(), ..Default::default() }).await?;
        put_all(kv, 1200, 10).await?;
    }
    let newest = ours.range(everything()).await?.into_inner().header.map_or(0, |h| h.revision);
    for revision in [0, 20, 51, 60, 77, 78, newest - 1] {
        for limit in [0, 64, 65, 1024, 3000] {
            for keys_only in [false, true] {
                let request = RangeRequest { revision, limit, keys_only, ..everything() };
                let want = comparable(theirs.range(request.clone()).await?.into_inner());
                let got = comparable(ours.range(request.clone()).await?.into_inner());
                ensure!(got == want, "revision {revision}, limit {limit}: the list differs");
                let got = comparable(streamed(&mut ours, request).await?);
                ensure!(got == want, "revision {revision}, limit {limit}: the streamed list differs");
            }
        }
    }
    // A sort target without an order sorts, too, and that cannot be done in pieces.
    for (sort_target, sort_order) in [(4, 0), (1, 0), (3, 2), (0, 2)] {
        let request = RangeRequest { sort_target, sort_order, limit: 200, ..everything() };
        let want = comparable(theirs.range(request.clone()).await?.into_inner());
        ensure!(comparable(ours.range(request).await?.into_inner()) == want, "sort {sort_target} {sort_order}: the list differs");
    }
    Ok(())
}

#[tokio::test]
async fn a_list_is_whole_though_its_keys_are_written_and_compacted_while_it_is_sent() -> Result<()> {
    const KEYS: usize = 20_000;
    let server = Server::start(Program::Keelson, &["--compaction-batch-limit", "10000"]).await?;
    let mut kv = client(&server).await?;
    put_all(&mut kv, KEYS, 1000).await?;
    let mut writer = kv.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let writes = tokio::spawn(async move {
        let mut stopped = stopped;
        let mut rounds = 0;
        while stopped.try_recv().is_err() {
            put_all(&mut writer, 2000, 500).await?;
            let revision = writer.range(RangeRequest { key: "x".into(), ..Default::default() }).await?.into_inner();
            let revision = revision.header.map_or(0, |h| h.revision);
            writer.compact(CompactionRequest { revision, physical: true }).await?;
            rounds += 1;
        }
        anyhow::Ok(rounds)
    });
    for _ in 0..20 {
        for list in [kv.range(everything()).await?.into_inner(), streamed(&mut kv, everything()).await?] {
            ensure!((list.count, list.kvs.len()) == (KEYS as i64, KEYS), "{} of {} keys", list.kvs.len(), list.count);
            let revision = list.header.map_or(0, |h| h.revision);
            for (i, kv) in list.kvs.iter().enumerate() {
                ensure!(kv.key == key(i) && kv.mod_revision <= revision && !kv.value.is_empty(), "entry {i}: {kv:?}");
            }
        }
    }
    // A stopped writer has dropped its end; what counts is how far it came.
    let _ = stop.send(());
    let rounds = writes.await??;
    ensure!(rounds > 0, "nothing was compacted beside the lists");
    Ok(())
}
