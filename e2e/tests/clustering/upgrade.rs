//! Members of two builds side by side. There is one format yet, so the newer members only claim the next one
//! (`KEELSON_FORMAT`); what shows it is that every command they write from then on says so, and that no older member
//! can be one any more.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::MemberListRequest;
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::keelson::Command;
use keelson_api::keelson::command::Action;
use keelson_api::{exit, format};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::node::Load;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use keelson_storage::LogStore;
use prost::Message;

use super::{LIMIT, exit_code, http, limited, three};

/// Writes of each client between one step and the next.
const WRITES: u64 = 20;
/// Bytes of a log entry before its first command: kind, term, and the name of the batch.
const BEFORE_COMMANDS: usize = 25;

fn next() -> u32 {
    format::newest() + 1
}

/// The process starts with another build from now on.
fn build(server: &mut Server, format: u32) {
    server.set_env("KEELSON_FORMAT", (format != format::newest()).then(|| format.to_string()));
}

async fn roll(cluster: &mut Cluster, number: usize, format: u32) -> Result<()> {
    let member = &mut cluster.members[number];
    member.stop().await?;
    build(member, format);
    member.restart().await
}

/// The cluster's format, as a member tells those that want to join.
async fn cluster_format(server: &Server) -> Result<u32> {
    let answer = http(&server.peer_url(), "/members").await?;
    let line = answer.lines().find_map(|line| line.strip_prefix("keelson-cluster-format: "));
    Ok(line.with_context(|| answer.clone())?.trim().parse()?)
}

async fn all_have(cluster: &Cluster, numbers: &[usize], format: u32) -> Result<bool> {
    for number in numbers {
        if cluster_format(&cluster.members[*number]).await? != format {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the data directory says of itself.
fn format_of_data(server: &Server) -> Result<u64> {
    let identity: serde_json::Value = serde_json::from_slice(&fs::read(server.data_dir().join("identity.json"))?)?;
    identity["format"].as_u64().context("an identity has a format")
}

async fn is_written_down(server: &Server, format: u32) -> Result<()> {
    wait::until("the format is written down", LIMIT, async || Ok(format_of_data(server)? == u64::from(format))).await
}

/// Starts a member with the older build, which must refuse.
async fn is_refused(server: &mut Server, format: u32, saying: &str) -> Result<()> {
    build(server, format);
    let before = server.log().len();
    server.spawn()?;
    ensure!(exit_code(server).await? == exit::TOO_OLD, "{}", server.log_tail());
    server.kill();
    let log = server.log().split_off(before);
    ensure!(log.contains(saying) && log.contains(format::ADVICE), "it does not say {saying:?}: {log}");
    Ok(())
}

/// The commands in a stopped member's log.
fn commands_in_log(data_dir: &Path) -> Result<Vec<Command>> {
    let log = LogStore::open(&data_dir.join("log"), true, Arc::new(|_| {}))?;
    let mut found = Vec::new();
    let bounds = log.bounds();
    let (mut from, end) = (bounds.first.context("the log has a first entry")?, bounds.last.context("and a last one")? + 1);
    while from < end {
        for (index, row) in log.read(from..end, 1 << 20)? {
            from = index + 1;
            let mut commands = if row.first() == Some(&1) { &row[BEFORE_COMMANDS..] } else { &[] };
            while let Some((length, rest)) = commands.split_first_chunk() {
                let (command, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
                found.push(Command::decode(command)?);
                commands = rest;
            }
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_upgraded_one_by_one_under_load_and_the_format_rises_after_the_last() -> Result<()> {
    let (old, new) = (format::newest(), next());
    let mut cluster = three(&["--snapshot-count=1000000"]).await?;
    let load = Load::over(cluster.members.iter().map(Server::client_url).collect()).await?;
    ensure!(all_have(&cluster, &[0, 1, 2], old).await?);
    // Two are taken back, and upgraded again: until the last one is, all of that is fine.
    for (number, to) in [(0, new), (1, new), (1, old), (0, old), (0, new), (1, new)] {
        roll(&mut cluster, number, to).await?;
        load.goes_on(WRITES).await?;
        ensure!(all_have(&cluster, &[0, 1, 2], old).await?, "the format has risen while member 2 is old");
    }
    for member in &cluster.members {
        ensure!(format_of_data(member)? == u64::from(old));
    }
    roll(&mut cluster, 2, new).await?;
    wait::until("the format rises", LIMIT, async || all_have(&cluster, &[0, 1, 2], new).await).await?;
    for member in &cluster.members {
        is_written_down(member, new).await?;
    }
    load.goes_on(WRITES).await?;

    // No way back, for a member or for one that comes.
    cluster.members[2].stop().await?;
    let saying = format!("has format {new}, this build understands up to {old}");
    let of_its_data = format!("data directory {} {saying}", cluster.members[2].data_dir().display());
    is_refused(&mut cluster.members[2], old, &of_its_data).await?;
    build(&mut cluster.members[2], new);
    cluster.members[2].restart().await?;
    let (fourth, _) = cluster.add(0, false).await?;
    is_refused(&mut cluster.members[fourth], old, &format!("the cluster {saying}")).await?;
    build(&mut cluster.members[fourth], new);
    cluster.members[fourth].spawn()?;
    cluster.members[fourth].ready().await?;
    is_written_down(&cluster.members[fourth], new).await?;
    load.goes_on(WRITES).await?;
    println!("{}", load.stop().await?);
    cluster.agree(&[0, 1, 2, fourth]).await?;

    cluster.members[0].stop().await?;
    let commands = commands_in_log(&cluster.members[0].data_dir())?;
    let raises = |c: &Command| matches!(&c.action, Some(Action::ClusterVersion(v)) if v.format == new);
    let raised = commands.iter().position(raises).context("the format was raised through the log")?;
    ensure!(raised > 0 && commands[..=raised].iter().all(|c| c.format == 0), "a command was written before its format");
    ensure!(commands.last().is_some_and(|c| c.format == new), "the newest command is not of the new format");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_goes_back_behind_the_others_backs_is_refused_and_skips_nothing() -> Result<()> {
    let (old, new) = (format::newest(), next());
    let mut cluster = three(&[]).await?;
    for number in [0, 1] {
        roll(&mut cluster, number, new).await?;
    }
    // While it is away the last one is upgraded, and all have said that they understand.
    cluster.members[1].stop().await?;
    roll(&mut cluster, 2, new).await?;
    wait::until("the format rises", LIMIT, async || all_have(&cluster, &[0, 2], new).await).await?;
    cluster.put(0, "key", "of the new format").await?;
    ensure!(format_of_data(&cluster.members[1])? == u64::from(old));
    is_refused(&mut cluster.members[1], old, &format!("formats up to {old}, and the cluster has format {new}")).await?;
    ensure!(format_of_data(&cluster.members[1])? == u64::from(old), "it has taken what it does not understand");

    // It has got what it did not understand, and died before that was written down.
    build(&mut cluster.members[1], new);
    cluster.members[1].restart().await?;
    ensure!(cluster.get(1, "key").await?.as_deref() == Some("of the new format"));
    is_written_down(&cluster.members[1], new).await?;
    for flushed in [false, true] {
        for n in 0..10 {
            cluster.put(1, "committed", &n.to_string()).await?;
        }
        if flushed {
            cluster.members[1].stop().await?;
        } else {
            cluster.members[1].kill();
        }
        let path = cluster.members[1].data_dir().join("identity.json");
        let text = fs::read_to_string(&path)?;
        let forgot = text.replace(&format!("\"format\": {new}"), &format!("\"format\": {old}"));
        ensure!(forgot != text);
        fs::write(&path, forgot)?;
        let what = if flushed { "the state store" } else { "" };
        is_refused(&mut cluster.members[1], old, &format!("{what} has format {new}, this build understands up to {old}")).await?;
        build(&mut cluster.members[1], new);
        cluster.members[1].restart().await?;
        is_written_down(&cluster.members[1], new).await?;
    }
    cluster.agree(&[0, 1, 2]).await
}

/// 19557, 20967: who was removed before an upgrade is in no list after it, on no member, and does not come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_removed_before_an_upgrade_is_gone_after_it() -> Result<()> {
    let new = next();
    let mut cluster = Cluster::start(Program::Keelson, 4, &[]).await?;
    let removed = 3;
    let id = cluster.id(removed).await?;
    cluster.members[removed].stop().await?;
    cluster.remove(0, id).await?;
    let before = cluster.list(0).await?;
    ensure!(before.len() == 3 && before.iter().all(|member| member.id != id));
    for number in 0..3 {
        roll(&mut cluster, number, new).await?;
    }
    wait::until("the format rises", LIMIT, async || all_have(&cluster, &[0, 1, 2], new).await).await?;
    // Once more, from what each has written down after the upgrade.
    for number in 0..3 {
        cluster.members[number].stop().await?;
        cluster.members[number].restart().await?;
    }
    for number in 0..3 {
        let mut members = ClusterClient::connect(cluster.members[number].client_url()).await?;
        for linearizable in [false, true] {
            let list = members.member_list(limited(MemberListRequest { linearizable })).await?.into_inner().members;
            ensure!(list == before, "member {number} lists {list:?}, not {before:?}");
        }
        let told = http(&cluster.members[number].peer_url(), "/members").await?;
        ensure!(!told.contains(&format!("\"id\":{id}")), "member {number} tells of it on the peer port: {told}");
    }
    build(&mut cluster.members[removed], new);
    cluster.members[removed].spawn()?;
    ensure!(exit_code(&mut cluster.members[removed]).await? == exit::REMOVED, "{}", cluster.members[removed].log_tail());
    cluster.agree(&[0, 1, 2]).await
}
