//! `downgrade`: going back to an older version.

use keelson_api::etcdserverpb::DowngradeRequest;
use keelson_api::etcdserverpb::downgrade_request::DowngradeAction;

use crate::cli::{Call, Command, Group};
use crate::exit::Failure;
use crate::output::Reply;

pub static COMMAND: Command = Command::new("downgrade", "<TARGET_VERSION>", "Prepares going back to an older version")
    .group(Group::Maintenance)
    .commands(COMMANDS);

const COMMANDS: &[&Command] = &[&CANCEL, &ENABLE, &VALIDATE];

static CANCEL: Command =
    Command::new("cancel", "", "Ends what enable began").run(|call| Box::pin(send(call, DowngradeAction::Cancel, String::new())));

static ENABLE: Command = Command::new("enable", "<TARGET_VERSION>", "Begins to go back")
    .run(|call| Box::pin(to_version(call, DowngradeAction::Enable)));

static VALIDATE: Command = Command::new("validate", "<TARGET_VERSION>", "Tells whether that is possible")
    .run(|call| Box::pin(to_version(call, DowngradeAction::Validate)));

async fn to_version(call: Call, action: DowngradeAction) -> Result<(), Failure> {
    match call.args.len() {
        0 => return Err(Failure::args("TARGET_VERSION not provided")),
        1 => {}
        _ => return Err(Failure::args("too many arguments")),
    }
    match call.word(0) {
        version if version.is_empty() => Err(Failure::args("target version not provided")),
        version => send(call, action, version).await,
    }
}

async fn send(mut call: Call, action: DowngradeAction, version: String) -> Result<(), Failure> {
    let client = call.client().await?;
    let response = client.downgrade(DowngradeRequest { action: action.into(), version }).await?;
    let what = match action {
        DowngradeAction::Validate => "validate",
        DowngradeAction::Enable => "enable",
        DowngradeAction::Cancel => "cancel",
    };
    call.print(&Reply::Downgrade(what, response))
}
