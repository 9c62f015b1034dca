//! Certificates given as Secrets: members, clients and the operator use them, and renewed ones without a restart. Those
//! that the operator issues or asks for: see the modules.

mod auto;
mod cert_manager;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::pki::{Pki, Wanted};
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use keelson_operator::store::Certificates;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;
use tonic::transport::Endpoint;

use crate::stage::{NAMESPACE, Stage, members};
use crate::{ALONE, LIMIT};

type Files = BTreeMap<String, ByteString>;

/// An authority with the certificates that the documentation asks for.
fn authority() -> Result<Pki> {
    let pki = Pki::new()?;
    let service = format!("db.{NAMESPACE}.svc");
    let peers = format!("*.db-peers.{NAMESPACE}.svc");
    pki.issue("members", &Wanted { name: "members", hosts: &[&service, &peers], serial: 11, ..Wanted::default() })?;
    pki.issue("peers", &Wanted { name: "peers", hosts: &[&peers], serial: 12, ..Wanted::default() })?;
    Ok(pki)
}

fn file(pki: &Pki, name: &str) -> Result<ByteString> {
    Ok(ByteString(fs::read(pki.path(name))?))
}

/// The contents of a Secret with the certificate `name`, trusting `authorities`.
fn contents(pki: &Pki, name: &str, authorities: &[&Pki]) -> Result<Files> {
    let mut trusted = Vec::new();
    for authority in authorities {
        trusted.extend(file(authority, "ca.crt")?.0);
    }
    let (certificate, key) = (file(pki, &format!("{name}.crt"))?, file(pki, &format!("{name}.key"))?);
    let files = [("ca.crt", ByteString(trusted)), ("tls.crt", certificate), ("tls.key", key)];
    Ok(files.map(|(name, contents)| (name.to_string(), contents)).into())
}

/// Writes the three Secrets, as cert-manager does when it renews them.
async fn write(stage: &Stage, pki: &Pki, authorities: &[&Pki]) -> Result<()> {
    for (secret, certificate) in [("db-members", "members"), ("db-peers-tls", "peers"), ("db-client", "client")] {
        let secret = Secret {
            metadata: kube::api::ObjectMeta { name: Some(secret.into()), ..Default::default() },
            data: Some(contents(pki, certificate, authorities)?),
            ..Secret::default()
        };
        let api: Api<Secret> = stage.api();
        api.patch(&secret.name_any(), &PatchParams::apply("cert-manager").force(), &Patch::Apply(&secret)).await?;
    }
    Ok(())
}

/// Writes through one member on a new connection, as a client with these certificates.
async fn put(stage: &Stage, pod: &str, certificates: Files) -> Result<()> {
    let status = stage.api::<Pod>().get(pod).await?.status.context("a status")?;
    let ip = status.pod_ip.context("an address")?;
    let host = format!("{pod}.db-peers.{NAMESPACE}.svc");
    let config = Certificates(certificates).config(&host);
    let channel = Endpoint::from_shared(format!("https://{ip}:2379"))?.tls_config(config)?.connect().await?;
    let put = PutRequest { key: b"key".to_vec().into(), value: b"value".to_vec().into(), ..PutRequest::default() };
    KvClient::new(channel).put(put).await?;
    Ok(())
}

async fn connection(stage: &Stage) -> Result<Files> {
    stage.api::<Secret>().get("db-connection").await?.data.context("data")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "on a whole Kubernetes, e2e/tests/node has most of it: make soak"]
async fn certificates_are_demanded_and_renewed_ones_used_without_a_restart() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let operator = stage.operator().await?;
    let spec = json!({ "replicas": 3, "tls": {
        "client": { "secretRef": { "name": "db-members" }, "clientSecretRef": { "name": "db-client" } },
        "peer": { "secretRef": { "name": "db-peers-tls" } },
    } });
    stage.create("db", spec).await?;
    stage.complains("db", "Progressing", "Waiting", "Blocked", "Secret db-members").await?;
    let old = authority()?;
    write(&stage, &old, &[&old]).await?;
    let names = members(&stage.settled("db").await.with_context(|| operator.log())?);

    // What clients need is in the connection Secret, and nobody is let in without.
    let secret = connection(&stage).await?;
    assert_eq!(secret["endpoints"].0, b"https://db.stage.svc:2379");
    for name in &names {
        put(&stage, name, secret.clone()).await.with_context(|| name.clone())?;
        let stranger = authority()?;
        ensure!(put(&stage, name, contents(&stranger, "client", &[&old])?).await.is_err(), "{name} lets in anybody");
        let ip = stage.api::<Pod>().get(name).await?.status.and_then(|status| status.pod_ip).context("an address")?;
        ensure!(crate::put_at(&format!("http://{ip}:2379"), "plain").await.is_err(), "{name} speaks plain text");
    }

    // The authority itself is renewed: first both are trusted, then everybody shows new certificates, then the old one is not.
    let new = authority()?;
    let starts = stage.kubelet.starts();
    write(&stage, &old, &[&old, &new]).await?;
    for name in &names {
        let shown = contents(&new, "client", &[&old])?;
        wait::until("members trust both", LIMIT, async || Ok(put(&stage, name, shown.clone()).await.is_ok())).await?;
    }
    write(&stage, &new, &[&old, &new]).await?;
    for name in &names {
        let trusts = contents(&old, "client", &[&new])?;
        wait::until("members show new ones", LIMIT, async || Ok(put(&stage, name, trusts.clone()).await.is_ok())).await?;
    }
    write(&stage, &new, &[&new]).await?;
    for name in &names {
        let outdated = contents(&old, "client", &[&new])?;
        wait::until("the old authority counts no more", LIMIT, async || Ok(put(&stage, name, outdated.clone()).await.is_err()))
            .await?;
    }
    assert_eq!(stage.kubelet.starts(), starts, "no member was started again");

    // One that is made again is reached with the new ones, by the others and by the operator, which hands them to clients.
    stage.api::<Pod>().delete(&names[0], &DeleteParams::default()).await?;
    wait::until("the pod is made again", LIMIT, async || Ok(stage.kubelet.starts() == starts + 1)).await?;
    assert_eq!(members(&stage.settled("db").await.with_context(|| operator.log())?), names);
    wait::until("clients get the new ones", LIMIT, async || Ok(connection(&stage).await?["ca.crt"] == file(&new, "ca.crt")?))
        .await?;
    for name in &names {
        put(&stage, name, connection(&stage).await?).await.with_context(|| name.clone())?;
    }
    Ok(())
}
