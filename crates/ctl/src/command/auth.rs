//! `auth`: whether callers must say who they are.

use keelson_api::Error;
use keelson_api::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthStatusRequest, AuthUserGrantRoleRequest,
};

use crate::cli::{Call, Command, Group};
use crate::exit::Failure;
use crate::output::{Reply, line};

pub static COMMAND: Command =
    Command::new("auth", "<enable or disable>", "Turns authentication on or off").group(Group::Authentication).commands(COMMANDS);

const COMMANDS: &[&Command] = &[&DISABLE, &ENABLE, &STATUS];

static DISABLE: Command = Command::new("disable", "", "Turns authentication off").run(|call| Box::pin(disable(call)));
static ENABLE: Command = Command::new("enable", "", "Turns authentication on").run(|call| Box::pin(enable(call)));
static STATUS: Command = Command::new("status", "", "Tells whether authentication is on").run(|call| Box::pin(status(call)));

async fn enable(mut call: Call) -> Result<(), Failure> {
    call.expect(0, "auth enable command does not accept any arguments")?;
    let client = call.client().await?;
    loop {
        match client.auth_enable(AuthEnableRequest {}).await {
            Ok(_) => return line("Authentication Enabled"),
            Err(failure) if failure.is(Error::RootRoleNotExist) => {
                client.role_add(AuthRoleAddRequest { name: "root".into() }).await?;
                let grant = AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
                client.user_grant_role(grant).await?;
            }
            Err(failure) => return Err(failure),
        }
    }
}

async fn disable(mut call: Call) -> Result<(), Failure> {
    call.expect(0, "auth disable command does not accept any arguments")?;
    let client = call.client().await?;
    client.auth_disable(AuthDisableRequest {}).await?;
    line("Authentication Disabled")
}

async fn status(mut call: Call) -> Result<(), Failure> {
    call.expect(0, "auth status command does not accept any arguments")?;
    let client = call.client().await?;
    let response = client.auth_status(AuthStatusRequest {}).await?;
    call.print(&Reply::AuthStatus(response))
}
