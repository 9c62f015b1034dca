//! Takes a snapshot of one member to a store.

use std::path::Path;

use keelson_api::etcdserverpb::{AuthStatusRequest, HashKvRequest, StatusRequest};
use keelson_snapshot::backup::{About, Catalog, HashKv, Making, Manifest, Store};
use tokio::time::Instant;

use super::failed;
use crate::client::Client;
use crate::command::snapshot::Progress;
use crate::exit::Failure;
use crate::go::{duration, size::human};

/// Makes a backup of whichever member answers first.
pub async fn make(client: &Client, store: &Store, folder: &Path, continuous: bool) -> Result<Manifest, Failure> {
    let start = Instant::now();
    let newest = Catalog::read(store).await.map_err(failed)?.newest;
    let endpoint = client.endpoint();
    let header = client.status(StatusRequest {}).await?.header.unwrap_or_default();
    let auth_revision = client.auth_status(AuthStatusRequest {}).await.ok().map(|told| told.auth_revision);
    let mut making = Making::begin(store, newest, folder).await.map_err(failed)?;
    let progress = Progress::new(&endpoint);
    let filled = fill(client, &mut making, progress).await;
    let server_version = match filled {
        Ok(version) => version,
        Err(failure) => {
            making.abort().await;
            return Err(failure);
        }
    };
    let made = making.finish().await.map_err(failed)?;
    let hash_kv = hash(client, made.revision()).await;
    let (cluster_id, member_id) = (header.cluster_id, header.member_id);
    let made_by = format!("keelsonctl {}", env!("CARGO_PKG_VERSION"));
    let about = About { cluster_id, member_id, endpoint, server_version, auth_revision, hash_kv, continuous, made_by };
    let manifest = made.publish(about).await.map_err(failed)?;
    let (size, took) = (human(manifest.size), duration::show(start.elapsed()));
    eprintln!("backup {} has been made: revision {}, {size}, in {took}", manifest.id, manifest.revision);
    Ok(manifest)
}

/// Returns the version of the server that sent it.
async fn fill(client: &Client, making: &mut Making, mut progress: Progress) -> Result<String, Failure> {
    let mut pieces = client.snapshot().await?;
    let (mut version, mut done) = (String::new(), 0);
    while let Some(piece) = pieces.message().await.map_err(Failure::from)? {
        if version.is_empty() {
            version = piece.version;
        }
        making.add(&piece.blob).await.map_err(failed)?;
        done += piece.blob.len() as u64;
        progress.show(done, piece.remaining_bytes);
    }
    progress.end(&format!("fetched {}", human(done)));
    Ok(version)
}

/// What the cluster says of its keys at this revision, to hold against it what is restored one day.
async fn hash(client: &Client, revision: i64) -> Option<HashKv> {
    match client.hash_kv(HashKvRequest { revision }).await {
        Ok(told) => Some(HashKv { hash: told.hash, revision: told.hash_revision, compacted: told.compact_revision }),
        Err(failure) => {
            eprintln!("the backup goes without a sum of its keys: {}", failure.text());
            None
        }
    }
}
