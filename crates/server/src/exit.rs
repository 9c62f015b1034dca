//! How the process ends, as a number that whoever started it can act on: whether another start may help,
//! or what of this member is lost.

use std::process::ExitCode;

pub use keelson_api::exit::{CORRUPT, DATA_GONE, REMOVED, TOO_OLD, USAGE};
use keelson_api::format;
use keelson_storage::DataDirError;

use crate::bootstrap::DataGone;
use crate::corruption::Differs;
use crate::member::End;

/// For an end that this member was told of.
pub fn told(end: End) -> ExitCode {
    match end {
        End::Removed => {
            tracing::error!(
                "this member has been removed from the cluster and cannot come back; its data directory is of no more use. \
                 To have it again, add it as a new member and start it with an empty data directory"
            );
            ExitCode::from(REMOVED)
        }
        End::DataGone => {
            tracing::error!(
                "the data of this member is gone: the others know it with another data directory. Bring that directory \
                 back, or remove the member from the cluster and add it again"
            );
            ExitCode::from(DATA_GONE)
        }
        End::TooOld => {
            tracing::error!(
                "the cluster has a format that this build of keelson does not understand; {} on this data directory",
                format::ADVICE
            );
            ExitCode::from(TOO_OLD)
        }
        End::Anew => ExitCode::FAILURE,
    }
}

/// For an error that kept the process from going on.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    let code = match error {
        e if e.is::<DataGone>() => DATA_GONE,
        e if format!("{e:#}").contains(format::ADVICE) => TOO_OLD,
        e if is_damage(e) => CORRUPT,
        _ => return ExitCode::FAILURE,
    };
    ExitCode::from(code)
}

/// Damage is met at many depths, below consensus too, which hands on nothing but texts. All of ours say
/// "damaged", and RocksDB's say "Corruption".
fn is_damage(error: &anyhow::Error) -> bool {
    if let Some(differs) = error.downcast_ref::<Differs>() {
        return differs.is_alone;
    }
    let text = format!("{error:#}");
    matches!(error.downcast_ref(), Some(DataDirError::Damaged { .. })) || text.contains("damaged") || text.contains("Corruption")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use keelson_mvcc::StorageError;

    use super::*;

    #[test]
    fn damage_and_lost_data_are_told_from_what_another_start_may_mend() {
        let code = |e: anyhow::Error| format!("{:?}", failed(&e));
        let is = |n: u8| format!("{:?}", ExitCode::from(n));
        assert_eq!(code(anyhow!("state store: IO error: No space left on device")), is(1));
        assert_eq!(code(StorageError("state store: Corruption: block checksum mismatch".into()).into()), is(CORRUPT));
        assert_eq!(code(anyhow!(StorageError("a lease row: the state store is damaged".into())).context("open")), is(CORRUPT));
        assert_eq!(code(DataGone("x".into()).into()), is(DATA_GONE));
        assert_eq!(code(anyhow!(DataGone("x".into())).context("begin")), is(DATA_GONE));
        assert_eq!(code(Differs { text: "damaged".into(), is_alone: false }.into()), is(1));
        let newer = format::check("the state store", format::newest() + 1).unwrap_err();
        assert_eq!(code(anyhow!(StorageError(newer.to_string())).context("open")), is(TOO_OLD));
        let newer = DataDirError::TooNew { path: "/data".into(), found: format::newest() + 1 };
        assert_eq!(code(newer.into()), is(TOO_OLD));
        assert_eq!(code(Differs { text: "x".into(), is_alone: true }.into()), is(CORRUPT));
    }
}
