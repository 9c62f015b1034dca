//! Certificates given as Secrets, on pods whose addresses and names are Kubernetes' own: used, and renewed without a restart.

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::node::{LIMIT, Place};
use keelson_e2e::pki::{Pki, Wanted};
use keelson_e2e::wait;
use serde_json::json;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

const HOST: &str = "db.e2e-certificates.svc";
const PEERS: &str = "*.db-peers.e2e-certificates.svc";

/// Issues what the documentation asks for; the numbers tell certificates apart.
fn issue(pki: &Pki, serial: u64) -> Result<()> {
    pki.issue("members", &Wanted { name: "members", hosts: &[HOST, PEERS], serial, ..Wanted::default() })?;
    pki.issue("peers", &Wanted { name: "peers", hosts: &[PEERS], serial: serial + 1, ..Wanted::default() })
}

/// Writes the Secrets, trusting `authorities`.
async fn write(place: &Place, pki: &Pki, authorities: &[&Pki]) -> Result<()> {
    let mut trusted = String::new();
    for authority in authorities {
        trusted += &std::fs::read_to_string(authority.path("ca.crt"))?;
    }
    pki.write("trusted.crt", trusted.as_bytes())?;
    for (secret, certificate) in [("db-members", "members"), ("db-peers-tls", "peers"), ("db-client", "client")] {
        let from = |key: &str, file: &str| format!("--from-file={key}={}", pki.path(file).display());
        let files = [
            from("tls.crt", &format!("{certificate}.crt")),
            from("tls.key", &format!("{certificate}.key")),
            from("ca.crt", "trusted.crt"),
        ];
        place.kubectl(&["delete", "secret", secret, "--ignore-not-found"]).await?;
        place.kubectl(&["create", "secret", "generic", secret, &files[0], &files[1], &files[2]]).await?;
    }
    Ok(())
}

/// Writes through the Service on a new connection; `pki` is who the client is from and whom it trusts.
async fn put(place: &Place, pki: &Pki) -> Result<()> {
    let read = |file: &str| std::fs::read(pki.path(file));
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.crt")?))
        .identity(Identity::from_pem(read("client.crt")?, read("client.key")?))
        .domain_name(HOST);
    let url = place.endpoint("db").await?.replace("http://", "https://");
    let channel = Endpoint::from_shared(url)?.tls_config(config)?.connect().await?;
    let put = PutRequest { key: b"key".to_vec().into(), value: b"value".to_vec().into(), ..PutRequest::default() };
    KvClient::new(channel).put(put).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn members_and_clients_show_certificates_and_renewed_ones_need_no_restart() -> Result<()> {
    let place = Place::new("certificates").await?;
    let (old, new) = (Pki::new()?, Pki::new()?);
    issue(&old, 10)?;
    issue(&new, 20)?;
    write(&place, &old, &[&old]).await?;
    let spec = json!({ "tls": {
        "client": { "secretRef": { "name": "db-members" }, "clientSecretRef": { "name": "db-client" } },
        "peer": { "secretRef": { "name": "db-peers-tls" } },
    } });
    place.create("db", spec).await?;
    place.settled("db").await?;
    put(&place, &old).await.context("with the certificates of the connection Secret")?;
    ensure!(put(&place, &new).await.is_err(), "anybody is let in");

    // kubelets bring renewed Secrets into pods within a minute or two.
    let pods = place.get(&["pods"]).await?;
    write(&place, &new, &[&old, &new]).await?;
    wait::until("members show renewed certificates", LIMIT, async || Ok(put(&place, &new).await.is_ok())).await?;
    place.settled("db").await?;
    let uids = |pods: &serde_json::Value| {
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let restarts = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["restartCount"].to_string();
        pods.iter().map(|pod| (pod["metadata"]["uid"].to_string(), restarts(pod))).collect::<Vec<_>>()
    };
    ensure!(uids(&place.get(&["pods"]).await?) == uids(&pods), "a member was started again");
    Ok(())
}
