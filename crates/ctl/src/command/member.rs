//! `member`: who belongs to the cluster.

use keelson_api::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
};

use crate::cli::{Call, Command, Flag, Group};
use crate::exit::Failure;
use crate::go::quote::quote;
use crate::output::{Format, Reply, line};

pub static COMMAND: Command = Command::new("member", "<subcommand>", "Lists and changes the members of the cluster")
    .group(Group::Maintenance)
    .commands(COMMANDS);

const COMMANDS: &[&Command] = &[&ADD, &LIST, &PROMOTE, &REMOVE, &UPDATE];

static ADD: Command = Command::new("add", "<memberName> [options]", "Adds a member to the cluster")
    .flags(ADD_FLAGS)
    .run(|call| Box::pin(add(call)));

const ADD_FLAGS: &[Flag] = &[
    Flag::switch("learner", "add it without a vote"),
    Flag::text("peer-urls", "", "where other members reach it, separated by commas"),
];

static LIST: Command = Command::new("list", "", "Lists the members of the cluster")
    .long(
        "Lists the members of the cluster. In the simple format a line has: ID, status, name, peer URLs, client URLs, is \
         learner.",
    )
    .flags(LIST_FLAGS)
    .run(|call| Box::pin(list(call)));

const LIST_FLAGS: &[Flag] =
    &[Flag::text("consistency", "l", "linearizable (l), or serializable (s): one member answers alone").choices(&["l", "s"])];

static PROMOTE: Command = Command::new("promote", "<memberID>", "Gives a learner its vote").run(|call| Box::pin(promote(call)));

static REMOVE: Command =
    Command::new("remove", "<memberID>", "Removes a member from the cluster").run(|call| Box::pin(remove(call)));

static UPDATE: Command = Command::new("update", "<memberID> [options]", "Changes where a member is reached by others")
    .flags(UPDATE_FLAGS)
    .run(|call| Box::pin(update(call)));

const UPDATE_FLAGS: &[Flag] = &[Flag::text("peer-urls", "", "where other members reach it, separated by commas")];

async fn add(mut call: Call) -> Result<(), Failure> {
    if call.args.is_empty() {
        return Err(Failure::args("member name not provided"));
    }
    if call.args.len() > 1 {
        let urls = (0..call.args.len()).map(|at| call.word(at)).filter(|word| word.to_lowercase().starts_with("http"));
        let hints: String = urls.map(|url| format!(", did you mean --peer-urls={url}")).collect();
        return Err(Failure::args(format!("too many arguments{hints}")));
    }
    let name = call.word(0);
    let urls = peer_urls(&call)?;
    let client = call.client().await?;
    check(&urls)?;
    let request = MemberAddRequest { peer_ur_ls: urls.clone(), is_learner: call.on("learner") };
    let response = client.member_add(request).await?;
    let id = response.member.as_ref().map_or(0, |member| member.id);
    let named = response.members.iter().flat_map(|member| {
        let name = if member.id == id { &name } else { &member.name };
        member.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
    });
    let cluster = named.collect::<Vec<_>>().join(",");
    call.print(&Reply::MemberAdd(response))?;
    if call.format()? != Format::Simple {
        return Ok(());
    }
    // What the new member is to be started with.
    line("")?;
    line(format!("ETCD_NAME={}", quote(name.as_bytes())))?;
    line(format!("ETCD_INITIAL_CLUSTER={}", quote(cluster.as_bytes())))?;
    line(format!("ETCD_INITIAL_ADVERTISE_PEER_URLS={}", quote(call.flags.text("peer-urls").as_bytes())))?;
    line("ETCD_INITIAL_CLUSTER_STATE=\"existing\"")
}

async fn list(mut call: Call) -> Result<(), Failure> {
    let linearizable = !call.serializable()?;
    let client = call.client().await?;
    let response = client.member_list(MemberListRequest { linearizable }).await?;
    call.print(&Reply::MemberList(response))
}

async fn promote(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "member ID is not provided")?;
    let id = call.member_id(0)?;
    let client = call.client().await?;
    let response = client.member_promote(MemberPromoteRequest { id }).await?;
    call.print(&Reply::MemberPromote(id, response))
}

async fn remove(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "member ID is not provided")?;
    let id = call.member_id(0)?;
    let client = call.client().await?;
    let response = client.member_remove(MemberRemoveRequest { id }).await?;
    call.print(&Reply::MemberRemove(id, response))
}

async fn update(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "member ID is not provided")?;
    let id = call.member_id(0)?;
    let urls = peer_urls(&call)?;
    let client = call.client().await?;
    check(&urls)?;
    let response = client.member_update(MemberUpdateRequest { id, peer_ur_ls: urls }).await?;
    call.print(&Reply::MemberUpdate(id, response))
}

fn peer_urls(call: &Call) -> Result<Vec<String>, Failure> {
    match call.flags.text("peer-urls") {
        "" => Err(Failure::args("member peer urls not provided")),
        urls => Ok(urls.split(',').map(str::to_owned).collect()),
    }
}

/// The mistakes that no server has to be asked about.
fn check(urls: &[String]) -> Result<(), Failure> {
    for url in urls.iter().map(|url| url.trim()) {
        let rest = match url.split_once("://") {
            Some(("http" | "https", rest)) => rest,
            Some(("unix" | "unixs", _)) => continue,
            _ => return Err(Failure::error(format!("URL scheme must be http, https, unix, or unixs: {url}"))),
        };
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
        if !authority.contains(':') {
            return Err(Failure::error(format!("URL address does not have the form \"host:port\": {url}")));
        }
        if path.is_some() {
            return Err(Failure::error(format!("URL must not contain a path: {url}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_without_a_port_or_with_a_path_are_refused_at_once() {
        let wrong = |url: &str| check(&[url.to_owned()]).unwrap_err().message.unwrap();
        assert_eq!(check(&["http://a:1".into(), "unix://s".into()]), Ok(()));
        assert_eq!(wrong("ftp://a:1"), "URL scheme must be http, https, unix, or unixs: ftp://a:1");
        assert_eq!(wrong("http://a"), "URL address does not have the form \"host:port\": http://a");
        assert_eq!(wrong("http://a:1/b"), "URL must not contain a path: http://a:1/b");
    }
}
