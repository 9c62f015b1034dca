//! `endpoint`: one endpoint after another, each for itself.

use futures::future::join_all;
use keelson_api::Error;
use keelson_api::etcdserverpb::{AlarmType, HashKvRequest, MemberListRequest, RangeRequest, StatusRequest};
use tokio::time::Instant;

use super::alarm::alarms;
use crate::cli::{Call, Command, Flag, Group};
use crate::client::{Client, Config};
use crate::exit::{ERROR, Failure};
use crate::go::duration;
use crate::output::{Health, Reply};

pub static COMMAND: Command = Command::new("endpoint", "<subcommand>", "Asks endpoints about themselves")
    .group(Group::Maintenance)
    .inherited(CLUSTER)
    .commands(COMMANDS);

pub const CLUSTER: &[Flag] = &[Flag::switch("cluster", "ask all endpoints that the members of the cluster advertise")];

const COMMANDS: &[&Command] = &[&HASHKV, &HEALTH, &STATUS];

static HASHKV: Command = Command::new("hashkv", "", "Prints the hash of the history of keys at each endpoint")
    .flags(HASHKV_FLAGS)
    .run(|call| Box::pin(hashkv(call)));

const HASHKV_FLAGS: &[Flag] = &[Flag::int("rev", "0", "hash up to this revision (default: all)")];

static HEALTH: Command = Command::new("health", "", "Checks whether each endpoint can serve").run(|call| Box::pin(health(call)));

static STATUS: Command = Command::new("status", "", "Prints the status of each endpoint")
    .long(
        "Prints the status of each endpoint. In the simple format a line has: endpoint, ID, version, storage version, \
         size, size in use, percentage not in use, quota, is leader, is learner, raft term, raft index, raft applied \
         index, errors, downgrade target version, downgrade enabled.",
    )
    .run(|call| Box::pin(status(call)));

/// The endpoints of the command line, or with `--cluster` those of all members.
pub async fn chosen(call: &Call, config: &Config) -> Result<Vec<String>, Failure> {
    if !call.on("cluster") {
        return Ok(config.endpoints.clone());
    }
    let client = Client::new(config.clone()).await.map_err(|failure| failure.with_code(ERROR))?;
    let list = client.member_list(MemberListRequest { linearizable: true }).await.map_err(|failure| {
        Failure::error(format!("failed to fetch endpoints from etcd cluster member list: {}", failure.text()))
    })?;
    Ok(list.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

async fn health(mut call: Call) -> Result<(), Failure> {
    let config = call.config().await?;
    let endpoints = chosen(&call, &config).await?;
    // Certificates that cannot be used are a mistake, and say nothing of the endpoints.
    config.files.wanted()?;
    let answers = join_all(endpoints.iter().map(|endpoint| check(config.at(endpoint), endpoint))).await;
    let sick = answers.iter().any(|health| !health.error.is_empty());
    call.print(&Reply::Health(answers))?;
    if sick { Err(Failure::error("unhealthy cluster")) } else { Ok(()) }
}

/// An endpoint that answers a linearizable read is well, unless there is an alarm.
async fn check(config: Config, endpoint: &str) -> Health {
    let endpoint = endpoint.to_owned();
    let client = match Client::new(config).await {
        Ok(client) => client,
        Err(failure) => return Health { endpoint, error: failure.text().to_owned(), ..Health::default() },
    };
    let start = Instant::now();
    let read = client.range(RangeRequest { key: "health".into(), ..RangeRequest::default() }).await;
    let took = duration::show(start.elapsed());
    let error = match read {
        // Whoever may not read the key has still got the word of a quorum.
        Err(failure) if !failure.is(Error::PermissionDenied) => failure.text().to_owned(),
        _ => complaints(&client).await,
    };
    Health { endpoint, healthy: error.is_empty(), took, error }
}

async fn complaints(client: &Client) -> String {
    let Ok(answer) = alarms(client).await else { return "Unable to fetch the alarm list".into() };
    if answer.alarms.is_empty() {
        return String::new();
    }
    let names = answer.alarms.iter().map(|alarm| match alarm.alarm() {
        AlarmType::Nospace => "NOSPACE ",
        AlarmType::Corrupt => "CORRUPT ",
        AlarmType::None => "UNKNOWN ",
    });
    format!("Active Alarm(s): {}", names.collect::<String>())
}

async fn status(mut call: Call) -> Result<(), Failure> {
    let config = call.config().await?;
    let mut statuses = Vec::new();
    let mut failed = false;
    for endpoint in chosen(&call, &config).await? {
        let client = Client::new(config.at(&endpoint)).await?;
        match client.status(StatusRequest {}).await {
            Ok(response) => statuses.push((endpoint, response)),
            Err(failure) => {
                eprintln!("Failed to get the status of endpoint {endpoint} ({})", failure.text());
                failed = true;
            }
        }
    }
    call.print(&Reply::Status(statuses))?;
    if failed { Err(Failure::told(ERROR)) } else { Ok(()) }
}

async fn hashkv(mut call: Call) -> Result<(), Failure> {
    let config = call.config().await?;
    let mut hashes = Vec::new();
    let mut failed = None;
    for endpoint in chosen(&call, &config).await? {
        let client = Client::new(config.at(&endpoint)).await?;
        match client.hash_kv(HashKvRequest { revision: call.flags.int("rev") }).await {
            Ok(response) => hashes.push((endpoint, response)),
            Err(failure) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({})", failure.text());
                failed = Some(failure);
            }
        }
    }
    call.print(&Reply::HashKv(hashes))?;
    failed.map_or(Ok(()), Err)
}
