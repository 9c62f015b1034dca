//! `alarm`: what members complain about.

use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::{AlarmRequest, AlarmResponse};

use crate::cli::{Call, Command, Group};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::Reply;

pub static COMMAND: Command =
    Command::new("alarm", "<subcommand>", "Lists and ends alarms").group(Group::Maintenance).commands(COMMANDS);

const COMMANDS: &[&Command] = &[&DISARM, &LIST];

static DISARM: Command = Command::new("disarm", "", "Disarms all alarms").run(|call| Box::pin(disarm(call)));
static LIST: Command = Command::new("list", "", "Lists all alarms").run(|call| Box::pin(list(call)));

async fn disarm(mut call: Call) -> Result<(), Failure> {
    call.expect(0, "alarm disarm command accepts no arguments")?;
    let client = call.client().await?;
    // The answer is put together from those for each alarm, and has no header of its own.
    let mut all = AlarmResponse::default();
    for alarm in alarms(&client).await?.alarms {
        let action = AlarmAction::Deactivate.into();
        let request = AlarmRequest { action, member_id: alarm.member_id, alarm: alarm.alarm };
        all.alarms.extend(client.alarm(request).await?.alarms);
    }
    call.print(&Reply::Alarms(all))
}

async fn list(mut call: Call) -> Result<(), Failure> {
    call.expect(0, "alarm list command accepts no arguments")?;
    let client = call.client().await?;
    let response = alarms(&client).await?;
    call.print(&Reply::Alarms(response))
}

/// All of all members.
pub async fn alarms(client: &Client) -> Result<AlarmResponse, Failure> {
    client.alarm(AlarmRequest { action: AlarmAction::Get.into(), ..AlarmRequest::default() }).await
}
