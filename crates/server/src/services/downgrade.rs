//! Going back to an older version, which etcd does for one minor version. What members of keelson have in common is a
//! format that never falls, and the oldest of it is told as this version: there is nothing to go down to. Going back from
//! a build to the one before needs no call, while the format has not risen (`docs/formats/upgrades.md`).
//!
//! So whatever is asked for is refused, as etcd refuses what cannot be.

use std::sync::Arc;

use keelson_api::etcdserverpb::downgrade_request::DowngradeAction;
use keelson_api::etcdserverpb::{DowngradeRequest, DowngradeResponse};
use keelson_api::{Code, Error};

use crate::grpc::Status;
use crate::member::Member;

pub async fn downgrade(member: Arc<Member>, request: DowngradeRequest) -> Result<DowngradeResponse, Status> {
    match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate | DowngradeAction::Enable) => {
            minor_version(&request.version).ok_or(Error::WrongDowngradeVersionFormat)?;
            present(&member)?;
            member.read_barrier().await?;
            Err(Error::InvalidDowngradeTarget.into())
        }
        Ok(DowngradeAction::Cancel) => {
            // As in etcd, it is no error that there is nothing to cancel.
            tracing::warn!("failed to cancel downgrade: {}", Error::NoInflightDowngrade);
            let version = present(&member)?;
            Ok(DowngradeResponse { header: member.header(member.state.store.revision()), version })
        }
        Err(_) => Err(Status::new(Code::Unknown, "etcdserver: unknown method")),
    }
}

/// The cluster's version without its last part.
fn present(member: &Member) -> Result<String, Error> {
    let (major, minor) = minor_version(&member.state.cluster_version()).ok_or(Error::ClusterVersionUnavailable)?;
    Ok(format!("{major}.{minor}"))
}

/// Major and minor version. The last of three parts may be left out.
fn minor_version(text: &str) -> Option<(i64, i64)> {
    three_parts(text).or_else(|| three_parts(&format!("{text}.0")))
}

/// As semantic versioning has it, without a look at what comes before and after.
fn three_parts(text: &str) -> Option<(i64, i64)> {
    let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
    let (text, stage) = text.split_once('-').unwrap_or((text, ""));
    let parts: Option<Vec<i64>> = text.split('.').map(number).collect();
    match parts?.as_slice() {
        [major, minor, _] if is_plain(metadata) && is_plain(stage) => Some((*major, *minor)),
        _ => None,
    }
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_reads_them() {
        for text in ["3.6", "3.6.0", "3.6.12", "3.6.0-rc.1", "3.6.0+build-7", "03.6.0"] {
            assert_eq!(minor_version(text), Some((3, 6)), "{text}");
        }
        for text in ["", "3", "3.", "3.6.", "v3.6.0", "3.6.0.1", "3.6-rc", "3.+6.0", "3.6.0+a_b", "3.99999999999999999999.0"] {
            assert_eq!(minor_version(text), None, "{text}");
        }
    }
}
