//! One configuration file for both servers: its sections, what it need not say, and keys that mean nothing.

use std::fs;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{MemberListRequest, PutRequest, RequestOp, TxnRequest};
use keelson_e2e::ports::Reservation;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;

#[tokio::test]
async fn a_configuration_file_is_read_as_etcd_reads_it() -> Result<()> {
    for program in [Program::Etcd, Program::under_test()?] {
        println!("--- {}", program.name());
        let ports = Reservation::new()?.ports()?;
        let mut server = Server::member(program, "by-flag", ports, &[])?;
        let (client, peer, data) = (server.client_url(), server.peer_url(), server.data_dir());
        let file = server.file("conf.yml");
        let text = format!(
            "name: by-file\ndata-dir: {}\nlisten-client-urls: {client}\nlisten-peer-urls: {peer}\n\
             initial-advertise-peer-urls: {peer}\ninitial-cluster: by-file={peer}\nmax-txn-ops: 2\n\
             watch-progress-notify-interval: 5000000000\nlog-outputs: [stderr]\nsocket-options: {{reuse-address: true}}\n\
             client-transport-security: {{client-cert-auth: false}}\ndiscovery:\n\
             discovery-fallback: 'proxy'\nno-setting: {{at: [all]}}\n",
            data.display()
        );
        fs::write(&file, text)?;
        server.add_flag(&format!("--config-file={}", file.display()));
        server.restart().await?;

        let mut cluster = ClusterClient::connect(client.clone()).await?;
        let list = cluster.member_list(MemberListRequest { linearizable: true }).await?.into_inner();
        let member = list.members.first().context("a member")?;
        ensure!(member.name == "by-file", "flags count beside a file: {member:?}");
        ensure!(member.client_ur_ls == ["http://localhost:2379"], "{member:?}");
        let put = |key: &str| {
            let put = PutRequest { key: key.to_owned().into(), ..Default::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        };
        let mut kv = KvClient::connect(client).await?;
        let three = TxnRequest { success: ["a", "b", "c"].map(put).to_vec(), ..Default::default() };
        let refused = kv.txn(three).await.err().context("three operations are one too many")?;
        ensure!(refused.message() == "etcdserver: too many operations in txn request", "{refused}");
        let told = server.log().contains("no-setting");
        ensure!(told == (program == Program::Keelson), "who set it is told by keelson alone");
        server.stop().await?;
    }
    Ok(())
}
