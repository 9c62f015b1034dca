//! `defrag`: rewrites the files of members.

use keelson_api::etcdserverpb::DefragmentRequest;
use tokio::time::Instant;

use super::endpoint;
use crate::cli::{Call, Command, Group};
use crate::client::Client;
use crate::exit::{ERROR, Failure};
use crate::go::duration;
use crate::output::line;

pub static COMMAND: Command = Command::new("defrag", "", "Gives space in the files of members back to the file system")
    .group(Group::Maintenance)
    .inherited(endpoint::CLUSTER)
    .run(|call| Box::pin(run(call)));

async fn run(mut call: Call) -> Result<(), Failure> {
    let config = call.config().await?;
    let mut failed = false;
    for endpoint in endpoint::chosen(&call, &config).await? {
        let client = Client::new(config.at(&endpoint)).await?;
        let start = Instant::now();
        let done = client.defragment(DefragmentRequest {}).await;
        let took = duration::show(start.elapsed());
        match done {
            Ok(_) => line(format!("Finished defragmenting etcd member[{endpoint}]. took {took}"))?,
            Err(failure) => {
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({})", failure.text());
                failed = true;
            }
        }
    }
    if failed { Err(Failure::told(ERROR)) } else { Ok(()) }
}
