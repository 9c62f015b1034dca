//! Certificates given as Secrets, on pods whose addresses and names are Kubernetes' own: used, and renewed without a restart
//! and without a client that notices.

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::node::{LIMIT, LONGEST_GAP, LOOK, Load, MOST_RETRIES, Place, certificates, figure};
use keelson_e2e::pki::Pki;
use keelson_e2e::wait;
use serde_json::{Value, json};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

/// A client that shows a certificate of `pki` and trusts the same.
fn client(place: &Place, pki: &Pki) -> Result<ClientTlsConfig> {
    Ok(pki.trusting(Some("client"))?.domain_name(place.host("db")))
}

/// Writes on a new connection.
async fn put(url: &str, tls: ClientTlsConfig) -> Result<()> {
    let channel = Endpoint::from_shared(url.to_string())?.tls_config(tls)?.connect().await?;
    let put = PutRequest { key: b"key".to_vec().into(), value: b"value".to_vec().into(), ..PutRequest::default() };
    KvClient::new(channel).put(put).await?;
    Ok(())
}

/// Where each member is.
fn members(pods: &[Value]) -> Result<Vec<String>> {
    let url = |pod: &Value| Some(format!("https://{}:2379", pod["status"]["podIP"].as_str()?));
    pods.iter().map(|pod| url(pod).context("a pod has an address")).collect()
}

fn runs(pods: &[Value]) -> Vec<(String, String)> {
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].to_string();
    let mut runs: Vec<_> = pods.iter().map(|pod| (pod["metadata"]["uid"].to_string(), restarts(pod))).collect();
    runs.sort();
    runs
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn members_and_clients_show_certificates_and_renewed_ones_need_no_restart() -> Result<()> {
    let place = Place::new("certificates").await?;
    let (old, new, stranger) = (Pki::new()?, Pki::new()?, Pki::new()?);
    certificates::issue(&old, &place, "db", 10)?;
    certificates::issue(&new, &place, "db", 20)?;
    // Both are trusted from the beginning: who is renewed first is believed by those who are not yet.
    certificates::write(&place, "db", &old, &[&old, &new]).await?;
    place.set_up("db", json!({ "tls": certificates::tls("db") })).await?;
    let url = place.endpoint("db").await?.replace("http://", "https://");
    put(&url, client(&place, &old)?).await.context("with the certificates of the connection Secret")?;
    let trusted = Certificate::from_pem(std::fs::read(old.path("ca.crt"))?);
    ensure!(put(&url, client(&place, &stranger)?.ca_certificate(trusted)).await.is_err(), "anybody is let in");

    // kubelets bring renewed Secrets into pods within a minute or two.
    let trusts_both = client(&place, &old)?.ca_certificate(Certificate::from_pem(std::fs::read(new.path("ca.crt"))?));
    let load = Load::secured(url, trusts_both).await?;
    let before = place.pods("db").await?;
    certificates::write(&place, "db", &new, &[&old, &new]).await?;
    for member in members(&before)? {
        let shows = &format!("{member} shows a renewed certificate");
        let renewed = client(&place, &new)?;
        wait::until_every(LOOK, shows, LIMIT, async || Ok(put(&member, renewed.clone()).await.is_ok())).await?;
    }
    place.settled("db").await?;
    load.goes_on(50).await?;
    let report = load.stop().await?;
    figure("load while certificates are renewed", &report);
    ensure!(runs(&place.pods("db").await?) == runs(&before), "a member was started again");
    report.within(MOST_RETRIES, LONGEST_GAP)
}
