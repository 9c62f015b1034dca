//! `role`: what users with it may do.

use bytes::Bytes;
use keelson_api::authpb::Permission;
use keelson_api::authpb::permission::Type;
use keelson_api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest, AuthRoleListRequest,
    AuthRoleRevokePermissionRequest,
};

use crate::cli::{Call, Command, Flag, Group};
use crate::client::prefix_end;
use crate::exit::Failure;
use crate::output::Reply;

pub static COMMAND: Command =
    Command::new("role", "<subcommand>", "Lists and changes roles").group(Group::Authentication).commands(COMMANDS);

const COMMANDS: &[&Command] = &[&ADD, &DELETE, &GET, &GRANT, &LIST, &REVOKE];

static ADD: Command = Command::new("add", "<role name>", "Adds a role").run(|call| Box::pin(add(call)));

static DELETE: Command = Command::new("delete", "<role name>", "Deletes a role").run(|call| Box::pin(delete(call)));

static GET: Command = Command::new("get", "<role name>", "Tells what a role may do").run(|call| Box::pin(get(call)));

static GRANT: Command = Command::new(
    "grant-permission",
    "[options] <role name> <permission type> <key> [endkey]",
    "Lets a role read, write or readwrite a key or a range",
)
.flags(RANGE_FLAGS)
.run(|call| Box::pin(grant(call)));

static LIST: Command = Command::new("list", "", "Lists all roles").run(|call| Box::pin(list(call)));

static REVOKE: Command =
    Command::new("revoke-permission", "<role name> <key> [endkey]", "Takes what it may do with a key or a range from a role")
        .flags(RANGE_FLAGS)
        .run(|call| Box::pin(revoke(call)));

const RANGE_FLAGS: &[Flag] = &[
    Flag::switch("from-key", "the keys that are not smaller than the given one"),
    Flag::switch("prefix", "the keys that begin with the given one"),
];

async fn add(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "role add command requires role name as its argument")?;
    let name = call.word(0);
    let client = call.client().await?;
    let response = client.role_add(AuthRoleAddRequest { name: name.clone() }).await?;
    call.print(&Reply::RoleAdd(name, response))
}

async fn delete(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "role delete command requires role name as its argument")?;
    let role = call.word(0);
    let client = call.client().await?;
    let response = client.role_delete(AuthRoleDeleteRequest { role: role.clone() }).await?;
    call.print(&Reply::RoleDelete(role, response))
}

async fn get(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "role get command requires role name as its argument")?;
    let role = call.word(0);
    let client = call.client().await?;
    let response = client.role_get(AuthRoleGetRequest { role: role.clone() }).await?;
    call.print(&Reply::RoleGet(role, response))
}

async fn list(mut call: Call) -> Result<(), Failure> {
    call.expect(0, "role list command requires no arguments")?;
    let client = call.client().await?;
    let response = client.role_list(AuthRoleListRequest {}).await?;
    call.print(&Reply::RoleList(response))
}

async fn grant(mut call: Call) -> Result<(), Failure> {
    if call.args.len() < 3 {
        return Err(Failure::args("role grant command requires role name, permission type, and key [endkey] as its argument"));
    }
    let kind = call.word(1);
    let kind =
        Type::from_str_name(&kind.to_uppercase()).ok_or_else(|| Failure::args(format!("invalid permission type: {kind}")))?;
    let (key, range_end) = range(&call, 2)?;
    let name = call.word(0);
    let client = call.client().await?;
    let perm = Some(Permission { perm_type: kind.into(), key, range_end });
    let response = client.role_grant_permission(AuthRoleGrantPermissionRequest { name: name.clone(), perm }).await?;
    call.print(&Reply::RoleGrant(name, response))
}

async fn revoke(mut call: Call) -> Result<(), Failure> {
    if call.args.len() < 2 {
        return Err(Failure::args("role revoke-permission command requires role name and key [endkey] as its argument"));
    }
    let (key, range_end) = range(&call, 1)?;
    let role = call.word(0);
    let client = call.client().await?;
    let end = range_end.to_vec();
    let request = AuthRoleRevokePermissionRequest { role: role.clone(), key, range_end };
    let response = client.role_revoke_permission(request).await?;
    call.print(&Reply::RoleRevoke { role, key: call.args[1].clone(), end, response })
}

/// The key at `at` and the end of its range: empty for one key, one NUL byte for all keys from there on.
fn range(call: &Call, at: usize) -> Result<(Bytes, Bytes), Failure> {
    let (prefix, from_key) = (call.on("prefix"), call.on("from-key"));
    let (key, end) = (call.arg(at), call.args.get(at + 1));
    let open = Bytes::from_static(b"\0");
    let both = || Failure::args("--from-key and --prefix flags are mutually exclusive");
    if key.is_empty() {
        return match (prefix, from_key) {
            (true, true) => Err(both()),
            (false, false) => Ok((open, Bytes::new())),
            _ => Ok((open.clone(), open)),
        };
    }
    let end = match end {
        None if prefix && from_key => return Err(both()),
        None if prefix => prefix_end(&key),
        None if from_key => open,
        None => Bytes::new(),
        Some(_) if prefix => return Err(Failure::args("unexpected endkey argument with --prefix flag")),
        Some(_) if from_key => return Err(Failure::args("unexpected endkey argument with --from-key flag")),
        Some(end) => Bytes::copy_from_slice(end),
    };
    Ok((key, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Parsed, parse};
    use crate::command::ROOT;

    fn ranged(line: &[&str]) -> Result<(Bytes, Bytes), Failure> {
        let words = ["role", "revoke-permission", "r"].iter().chain(line).map(|word| word.as_bytes().to_vec());
        match parse(&ROOT, &words.collect::<Vec<_>>()) {
            Ok(Parsed::Run(call)) => range(&call, 1),
            _ => panic!("{line:?}"),
        }
    }

    #[test]
    fn permissions_are_for_one_key_a_range_a_prefix_or_all_that_follow() {
        let read = |line: &[&str]| ranged(line).unwrap();
        assert_eq!(read(&["k"]), ("k".into(), "".into()));
        assert_eq!(read(&["a", "c"]), ("a".into(), "c".into()));
        assert_eq!(read(&["foo", "--prefix"]), ("foo".into(), "fop".into()));
        assert_eq!(read(&["foo", "--from-key"]), ("foo".into(), "\0".into()));
        assert_eq!(read(&["", "--prefix"]), ("\0".into(), "\0".into()));
        assert_eq!(read(&[""]), ("\0".into(), "".into()));
        assert_eq!(ranged(&["a", "b", "--prefix"]).unwrap_err().code, 128);
        assert_eq!(ranged(&["a", "--from-key", "--prefix"]).unwrap_err().code, 128);
    }
}
