//! Certificates that cert-manager is asked for: the operator says what it needs and uses what comes. cert-manager is played.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use keelson_e2e::pki::{Pki, Wanted};
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use keelson_operator::render::requests;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{connection, contents, put};
use crate::ALONE;
use crate::stage::{NAMESPACE, Stage, members};

const LIMIT: Duration = Duration::from_secs(120);
const SECRETS: [&str; 3] = ["db-server-tls", "db-client-tls", "db-peer-tls"];

fn asked(stage: &Stage) -> Api<DynamicObject> {
    Api::namespaced_with(stage.client.clone(), NAMESPACE, &requests())
}

/// Its definition, as far as the operator has to do with it.
async fn install(stage: &Stage) -> Result<()> {
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let crd: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": { "name": "certificates.cert-manager.io" },
        "spec": {
            "group": "cert-manager.io",
            "scope": "Namespaced",
            "names": { "plural": "certificates", "singular": "certificate", "kind": "Certificate", "listKind": "CertificateList" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema }, "subresources": { "status": {} },
            }],
        },
    }))?;
    Api::all(stage.client.clone()).create(&PostParams::default(), &crd).await?;
    // Until it serves them, an API server has a page that does not exist where an answer would be.
    wait::until("certificates are served", LIMIT, async || {
        Ok(match asked(stage).list(&ListParams::default()).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(error) => return Err(error.into()),
        })
    })
    .await
}

fn hosts(request: &DynamicObject) -> Vec<String> {
    let names = request.data["spec"]["dnsNames"].as_array().cloned().unwrap_or_default();
    names.iter().filter_map(|name| name.as_str().map(str::to_string)).collect()
}

/// Writes the Secret that a Certificate asks for.
async fn issue(stage: &Stage, pki: &Pki, name: &str) -> Result<()> {
    let request = asked(stage).get(name).await?;
    let hosts = hosts(&request);
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    pki.issue(name, &Wanted { name, hosts: &hosts, serial: 77, ..Wanted::default() })?;
    let secret = Secret {
        metadata: ObjectMeta { name: request.data["spec"]["secretName"].as_str().map(str::to_string), ..ObjectMeta::default() },
        data: Some(contents(pki, name, &[pki])?),
        ..Secret::default()
    };
    let parameters = PatchParams::apply("cert-manager").force();
    stage.api::<Secret>().patch(name, &parameters, &Patch::Apply(&secret)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cert_manager_is_asked_for_what_members_and_clients_need() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let operator = stage.operator().await?;
    let side = json!({ "certManager": { "issuerRef": { "name": "ca" } } });
    stage.create("db", json!({ "replicas": 1, "tls": { "client": side, "peer": side } })).await?;
    stage.complains("db", "Progressing", "Failed", "Failed", "install cert-manager").await?;

    install(&stage).await?;
    wait::until("cert-manager is asked", LIMIT, async || {
        let mut found = 0;
        for name in SECRETS {
            found += usize::from(asked(&stage).get_opt(name).await?.is_some());
        }
        Ok(found == SECRETS.len())
    })
    .await?;
    stage.complains("db", "CertificatesReady", "CertificateMissing", "Blocked", "cert-manager makes it").await?;
    let pki = Pki::new()?;
    for name in SECRETS {
        issue(&stage, &pki, name).await?;
    }
    let settled = stage.settled("db").await.with_context(|| operator.log())?;
    let name = members(&settled).remove(0);
    put(&stage, &name, connection(&stage).await?).await?;

    // Other names, and cert-manager is asked for another certificate.
    stage.edit("db", json!({ "tls": { "client": { "hosts": ["etcd.example.com"] } } })).await?;
    wait::until("another certificate is asked for", LIMIT, async || {
        Ok(hosts(&asked(&stage).get("db-server-tls").await?).contains(&"etcd.example.com".to_string()))
    })
    .await?;
    let error = stage.edit("db", json!({ "tls": { "peer": { "certManager": { "issuerRef": { "name": "other" } } } } })).await;
    let error = error.err().context("another issuer was taken")?;
    assert!(format!("{error:#}").contains("issuerRef cannot be changed"), "{error:#}");
    Ok(())
}
