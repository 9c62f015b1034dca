//! Certificates that the operator issues itself, on real kubelets: a kube-apiserver stores with what the connection Secret has,
//! while certificates and then the authorities behind them are replaced, without a restart.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::kubernetes::apiserver::ApiServer;
use keelson_e2e::kubernetes::steps::healthy;
use keelson_e2e::node::{LIMIT, Place, figure};
use keelson_e2e::wait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

const HOST: &str = "db.e2e-issues.svc";

/// A file of a Secret.
async fn file(place: &Place, secret: &str, file: &str) -> Result<Vec<u8>> {
    let secret = place.get(&["secret", secret]).await?;
    let text = secret["data"][file].as_str().with_context(|| format!("no {file} in {}", secret["metadata"]["name"]))?;
    Ok(BASE64_STANDARD.decode(text)?)
}

/// What a client needs, as the connection Secret has it now.
struct Connection {
    authority: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Connection {
    async fn of(place: &Place) -> Result<Self> {
        let read = async |name: &'static str| file(place, "db-connection", name).await;
        Ok(Self { authority: read("ca.crt").await?, certificate: read("tls.crt").await?, key: read("tls.key").await? })
    }

    /// Writes through the Service on a new connection.
    async fn put(&self, place: &Place) -> Result<()> {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority))
            .identity(Identity::from_pem(&self.certificate, &self.key))
            .domain_name(HOST);
        let url = place.endpoint("db").await?.replace("http://", "https://");
        let channel = Endpoint::from_shared(url)?.tls_config(config)?.connect().await?;
        let put = PutRequest { key: b"key".to_vec().into(), value: b"value".to_vec().into(), ..PutRequest::default() };
        KvClient::new(channel).put(put).await?;
        Ok(())
    }

    /// The files that a kube-apiserver is given, in that folder.
    fn flags(&self, folder: &TempDir) -> Result<Vec<String>> {
        let files = [("etcd-cafile", &self.authority), ("etcd-certfile", &self.certificate), ("etcd-keyfile", &self.key)];
        let mut flags = Vec::new();
        for (flag, contents) in files {
            let path = folder.path().join(flag);
            std::fs::write(&path, contents)?;
            flags.push(format!("--{flag}={}", path.display()));
        }
        Ok(flags)
    }
}

/// Who the pods are, and how often their processes were started again.
async fn starts(place: &Place) -> Result<Vec<(String, String)>> {
    let pods = place.pods("db").await?;
    let of =
        |pod: &Value| (pod["metadata"]["uid"].to_string(), pod["status"]["containerStatuses"][0]["restartCount"].to_string());
    Ok(pods.iter().map(of).collect())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn certificates_and_authorities_are_replaced_under_a_kube_apiserver() -> Result<()> {
    let place = Place::new("issues").await?;
    let side = json!({ "auto": {}, "rotation": { "overlap": "5s" } });
    place.create("db", json!({ "tls": { "client": side, "peer": side } })).await?;
    place.settled("db").await?;
    place.says("db", "CertificatesReady", "True", "CertificatesGood").await?;
    let first = Connection::of(&place).await?;
    first.put(&place).await.context("with the certificates of the connection Secret")?;
    let pods = starts(&place).await?;

    // The kube-apiserver is not in the cluster's DNS and goes to the Service's address, which the certificate has to name.
    let url = place.endpoint("db").await?.replace("http://", "https://");
    let address = url.trim_start_matches("https://").trim_end_matches(":2379").to_string();
    place.edit("db", json!({ "tls": { "client": { "hosts": [address] } } })).await?;
    let folder = TempDir::new()?;
    let flags = first.flags(&folder)?;
    wait::until("members show a certificate for the Service's address", LIMIT, async || {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&first.authority))
            .identity(Identity::from_pem(&first.certificate, &first.key));
        Ok(Endpoint::from_shared(url.clone())?.tls_config(config)?.connect().await.is_ok())
    })
    .await?;
    let mut apiserver = ApiServer::start_with(&url, &flags).await?;
    healthy(apiserver.client()).await?;

    // Who connects with the newest of what there is, is let in all the while.
    let authorities = [file(&place, "db-client-ca", "tls.crt").await?, file(&place, "db-peer-ca", "tls.crt").await?];
    let began = std::time::Instant::now();
    place.kubectl(&["annotate", "etcdcluster", "db", "keelson.dev/rotate-ca=1"]).await?;
    place.says("db", "CertificatesReady", "True", "AuthorityReplaced").await?;
    wait::until("the authorities are replaced", LIMIT * 3, async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let refused = "a client with the newest certificate is refused";
        Connection::of(&place).await?.put(&place).await.context(refused)?;
        let mut new = true;
        for (secret, old) in ["db-client-ca", "db-peer-ca"].into_iter().zip(&authorities) {
            let (own, trusted) = (file(&place, secret, "tls.crt").await?, file(&place, secret, "ca.crt").await?);
            new &= own != *old && own == trusted;
        }
        let ready = place.condition("db", "CertificatesReady").await?;
        Ok(new && ready["reason"] == "CertificatesGood")
    })
    .await?;
    figure("seconds in which the authorities of both ports are replaced", began.elapsed().as_secs());
    wait::until("the old authority counts no more", LIMIT, async || Ok(first.put(&place).await.is_err())).await?;
    apiserver.still_runs()?;

    // Started again with what there is now, as it has to be within the overlap.
    drop(apiserver);
    let flags = Connection::of(&place).await?.flags(&folder)?;
    apiserver = ApiServer::start_with(&url, &flags).await?;
    healthy(apiserver.client()).await?;
    place.settled("db").await?;
    ensure!(starts(&place).await? == pods, "a member was started again");
    ensure!(place.told().await?.iter().any(|reason| reason == "RotateCA"), "no Event tells of it");
    Ok(())
}
