//! `user`: who may call.

use keelson_api::authpb::UserAddOptions;
use keelson_api::etcdserverpb::{
    AuthRoleGetRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest,
};

use crate::cli::{Call, Command, Flag, Group};
use crate::exit::Failure;
use crate::output::{Reply, line};
use crate::password;

pub static COMMAND: Command =
    Command::new("user", "<subcommand>", "Lists and changes users").group(Group::Authentication).commands(COMMANDS);

const COMMANDS: &[&Command] = &[&ADD, &DELETE, &GET, &GRANT, &LIST, &PASSWORD, &REVOKE];

const INTERACTIVE: Flag =
    Flag::new(crate::cli::Kind::Switch, "interactive", "true", "ask for the password; if false, take it from stdin");

static ADD: Command =
    Command::new("add", "<user name or user:password> [options]", "Adds a user").flags(ADD_FLAGS).run(|call| Box::pin(add(call)));

const ADD_FLAGS: &[Flag] = &[
    INTERACTIVE,
    Flag::text("new-user-password", "", "the password"),
    Flag::switch("no-password", "add a user that is known by its certificate only"),
];

static DELETE: Command = Command::new("delete", "<user name>", "Deletes a user").run(|call| Box::pin(delete(call)));

static GET: Command =
    Command::new("get", "<user name> [options]", "Tells the roles of a user").flags(GET_FLAGS).run(|call| Box::pin(get(call)));

const GET_FLAGS: &[Flag] = &[Flag::switch("detail", "tell what these roles may do")];

static GRANT: Command =
    Command::new("grant-role", "<user name> <role name>", "Gives a user a role").run(|call| Box::pin(grant(call)));

static LIST: Command = Command::new("list", "", "Lists all users").run(|call| Box::pin(list(call)));

static PASSWORD: Command = Command::new("passwd", "<user name> [options]", "Changes the password of a user")
    .flags(PASSWORD_FLAGS)
    .run(|call| Box::pin(change_password(call)));

const PASSWORD_FLAGS: &[Flag] = &[INTERACTIVE];

static REVOKE: Command =
    Command::new("revoke-role", "<user name> <role name>", "Takes a role from a user").run(|call| Box::pin(revoke(call)));

async fn add(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "user add command requires user name as its argument")?;
    let word = call.word(0);
    let no_password = call.on("no-password");
    let given = call.flags.text("new-user-password").to_owned();
    let (name, password) = match word.split_once(':') {
        _ if no_password => (word, String::new()),
        _ if !given.is_empty() => (word, given),
        Some(("", _)) => return Err(Failure::args("empty user name is not allowed")),
        Some((name, password)) => (name.to_owned(), password.to_owned()),
        None => {
            let password = ask(&call, &word)?;
            (word, password)
        }
    };
    let client = call.client().await?;
    let request = AuthUserAddRequest {
        name: name.clone(),
        password,
        options: Some(UserAddOptions { no_password }),
        ..AuthUserAddRequest::default()
    };
    let response = client.user_add(request).await?;
    call.print(&Reply::UserAdd(name, response))
}

async fn delete(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "user delete command requires user name as its argument")?;
    let name = call.word(0);
    let client = call.client().await?;
    let response = client.user_delete(AuthUserDeleteRequest { name: name.clone() }).await?;
    call.print(&Reply::UserDelete(name, response))
}

async fn get(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "user get command requires user name as its argument")?;
    let name = call.word(0);
    let client = call.client().await?;
    let response = client.user_get(AuthUserGetRequest { name: name.clone() }).await?;
    if !call.on("detail") {
        return call.print(&Reply::UserGet(name, response));
    }
    line(format!("User: {name}"))?;
    for role in response.roles {
        line("")?;
        let details = client.role_get(AuthRoleGetRequest { role: role.clone() }).await?;
        call.print(&Reply::RoleGet(role, details))?;
    }
    Ok(())
}

async fn list(mut call: Call) -> Result<(), Failure> {
    call.expect(0, "user list command requires no arguments")?;
    let client = call.client().await?;
    let response = client.user_list(AuthUserListRequest {}).await?;
    call.print(&Reply::UserList(response))
}

async fn change_password(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "user passwd command requires user name as its argument")?;
    let name = call.word(0);
    let password = ask(&call, &name)?;
    let client = call.client().await?;
    let request = AuthUserChangePasswordRequest { name, password, ..AuthUserChangePasswordRequest::default() };
    let response = client.user_change_password(request).await?;
    call.print(&Reply::UserPassword(response))
}

async fn grant(mut call: Call) -> Result<(), Failure> {
    call.expect(2, "user grant command requires user name and role name as its argument")?;
    let (user, role) = (call.word(0), call.word(1));
    let client = call.client().await?;
    let response = client.user_grant_role(AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() }).await?;
    call.print(&Reply::UserGrant { user, role, response })
}

async fn revoke(mut call: Call) -> Result<(), Failure> {
    call.expect(2, "user revoke-role requires user name and role name as its argument")?;
    let (user, role) = (call.word(0), call.word(1));
    let client = call.client().await?;
    let response = client.user_revoke_role(AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() }).await?;
    call.print(&Reply::UserRevoke { user, role, response })
}

fn ask(call: &Call, name: &str) -> Result<String, Failure> {
    if call.on("interactive") { password::ask_twice(name) } else { Ok(password::from_stdin()) }
}
