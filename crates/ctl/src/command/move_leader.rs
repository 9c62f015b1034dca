//! `move-leader`: lets another member lead.

use keelson_api::etcdserverpb::{MoveLeaderRequest, StatusRequest};

use crate::cli::{Call, Command, Group};
use crate::client::Client;
use crate::exit::Failure;
use crate::go::number;
use crate::output::Reply;

pub static COMMAND: Command = Command::new("move-leader", "<transferee-member-id>", "Lets another member lead")
    .group(Group::Maintenance)
    .run(|call| Box::pin(run(call)));

async fn run(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "move-leader command needs 1 argument")?;
    let to = number::uint(&call.word(0), 16).map_err(Failure::args)?;
    let config = call.config().await?;
    // Only the leader itself can hand over.
    for endpoint in &config.endpoints {
        let client = Client::new(config.at(endpoint)).await?;
        let status = client.status(StatusRequest {}).await?;
        let from = status.leader;
        if status.header.is_some_and(|header| header.member_id == from) {
            let response = client.move_leader(MoveLeaderRequest { target_id: to }).await?;
            return call.print(&Reply::MoveLeader { from, to, response });
        }
    }
    Err(Failure::args(format!("no leader endpoint given at [{}]", config.endpoints.join(" "))))
}
