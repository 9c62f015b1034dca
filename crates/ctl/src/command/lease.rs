//! `lease`: keys that live no longer than somebody wants them to.

use keelson_api::etcdserverpb::{LeaseGrantRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest};

use crate::cli::{Call, Command, Flag, Group};
use crate::client::KeepAlive;
use crate::exit::{BAD_CONNECTION, Failure};
use crate::go::number;
use crate::output::{Format, Reply, lease_id, line};

pub static COMMAND: Command =
    Command::new("lease", "<subcommand>", "Makes, keeps and ends leases").group(Group::KeyValue).commands(COMMANDS);

const COMMANDS: &[&Command] = &[&GRANT, &KEEP_ALIVE, &LIST, &REVOKE, &TIME_TO_LIVE];

static GRANT: Command = Command::new("grant", "<ttl>", "Makes a lease of so many seconds").run(|call| Box::pin(grant(call)));

static KEEP_ALIVE: Command = Command::new("keep-alive", "[options] <leaseID>", "Renews a lease again and again")
    .flags(KEEP_ALIVE_FLAGS)
    .run(|call| Box::pin(keep_alive(call)));

const KEEP_ALIVE_FLAGS: &[Flag] = &[Flag::switch("once", "renew it once and end")];

static LIST: Command = Command::new("list", "", "Lists all leases").run(|call| Box::pin(list(call)));

static REVOKE: Command =
    Command::new("revoke", "<leaseID>", "Ends a lease, and removes its keys").run(|call| Box::pin(revoke(call)));

static TIME_TO_LIVE: Command = Command::new("timetolive", "<leaseID> [options]", "Tells how long a lease has left")
    .flags(TIME_TO_LIVE_FLAGS)
    .run(|call| Box::pin(time_to_live(call)));

const TIME_TO_LIVE_FLAGS: &[Flag] = &[Flag::switch("keys", "tell its keys, too")];

async fn grant(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "lease grant command needs TTL argument")?;
    let ttl = number::int(&call.word(0), 10).map_err(|why| Failure::args(format!("bad TTL ({why})")))?;
    let client = call.client().await?;
    let response = client.lease_grant(LeaseGrantRequest { ttl, id: 0 }).await;
    let response = response.map_err(|failure| failure.while_doing("failed to grant lease"))?;
    call.print(&Reply::Grant(response))
}

async fn revoke(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "lease revoke command needs 1 argument")?;
    let id = call.lease_id(0)?;
    let client = call.client().await?;
    let response = client.lease_revoke(LeaseRevokeRequest { id }).await;
    let response = response.map_err(|failure| failure.while_doing("failed to revoke lease"))?;
    call.print(&Reply::Revoke(id, response))
}

async fn time_to_live(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "lease timetolive command needs lease ID as argument")?;
    let client = call.client().await?;
    let (id, keys) = (call.lease_id(0)?, call.on("keys"));
    let response = client.lease_time_to_live(LeaseTimeToLiveRequest { id, keys }).await;
    let response = response.map_err(|failure| failure.with_code(BAD_CONNECTION))?;
    call.print(&Reply::TimeToLive { response, keys })
}

async fn list(mut call: Call) -> Result<(), Failure> {
    let client = call.client().await?;
    let response = client.lease_leases(LeaseLeasesRequest {}).await;
    call.print(&Reply::Leases(response.map_err(|failure| failure.with_code(BAD_CONNECTION))?))
}

async fn keep_alive(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "lease keep-alive command needs lease ID as argument")?;
    let id = call.lease_id(0)?;
    let client = call.client().await?;
    if call.on("once") {
        let response = KeepAlive::once(&client, id).await.map_err(|failure| failure.with_code(BAD_CONNECTION))?;
        return call.print(&Reply::KeepAlive(response));
    }
    let mut lease = KeepAlive::new(&client, id);
    while let Some(response) = lease.next().await {
        call.print(&Reply::KeepAlive(response))?;
    }
    if call.format()? == Format::Simple { line(format!("lease {} expired or revoked.", lease_id(id))) } else { Ok(()) }
}
