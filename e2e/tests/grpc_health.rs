//! gRPC's own health service, which load balancers and probes ask, answers as etcd's does.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use keelson_api::health::health_check_response::ServingStatus;
use keelson_api::health::health_client::HealthClient;
use keelson_api::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tonic::{Response, Status};

const LIMIT: Duration = Duration::from_secs(10);
/// The server as a whole, a service that it has, and one that it has not.
const SERVICES: [&str; 3] = ["", "etcdserverpb.KV", "nobody"];

fn status(response: &HealthCheckResponse) -> String {
    format!("{:?}", ServingStatus::try_from(response.status))
}

fn answer(answer: Result<Response<HealthCheckResponse>, Status>) -> String {
    match answer {
        Ok(response) => status(response.get_ref()),
        Err(e) => format!("{:?}: {}", e.code(), e.message()),
    }
}

async fn told_by(program: Program) -> Result<Vec<String>> {
    let server = Server::start(program, &[]).await?;
    let mut health = HealthClient::connect(server.client_url()).await?;
    let mut told = Vec::new();
    for service in SERVICES {
        let request = || HealthCheckRequest { service: service.to_owned() };
        told.push(format!("check {service:?}: {}", answer(health.check(request()).await)));
        let mut watch = health.watch(request()).await?.into_inner();
        let first = tokio::time::timeout(LIMIT, watch.message()).await.context("no first message")??;
        told.push(format!("watch {service:?}: {}", status(&first.context("a first message")?)));
    }
    let listed = health.list(HealthListRequest {}).await?.into_inner().statuses;
    let listed: BTreeMap<String, String> = listed.iter().map(|(service, of)| (service.clone(), status(of))).collect();
    told.push(format!("list: {listed:?}"));
    Ok(told)
}

#[tokio::test]
async fn health_is_told_of_the_whole_server_and_nothing_else() -> Result<()> {
    let told = told_by(Program::under_test()?).await?;
    let expected = [
        "check \"\": Ok(Serving)",
        "watch \"\": Ok(Serving)",
        "check \"etcdserverpb.KV\": NotFound: unknown service",
        "watch \"etcdserverpb.KV\": Ok(ServiceUnknown)",
        "check \"nobody\": NotFound: unknown service",
        "watch \"nobody\": Ok(ServiceUnknown)",
        "list: {\"\": \"Ok(Serving)\"}",
    ];
    assert_eq!(told, expected);
    assert_eq!(told, told_by(Program::Etcd).await?);
    Ok(())
}
