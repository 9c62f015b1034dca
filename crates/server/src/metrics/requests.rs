//! How long requests take, under the names that etcd has for them.

use std::sync::OnceLock;
use std::time::Duration;

use keelson_api::keelson::command::Action;
use prometheus::{Histogram, HistogramVec};

use super::Maker;

/// A kind of request, named as etcd's metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Request {
    Range,
    ReadonlyTxn,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    LeaseCheckpoint,
    Alarm,
    Authenticate,
    AuthEnable,
    AuthDisable,
    AuthUserAdd,
    AuthUserDelete,
    AuthUserChangePassword,
    AuthUserGrantRole,
    AuthUserRevokeRole,
    AuthRoleAdd,
    AuthRoleDelete,
    AuthRoleGrantPermission,
    AuthRoleRevokePermission,
    ClusterMemberAttrSet,
    ClusterVersionSet,
}

/// How many there are.
const REQUESTS: usize = Request::ClusterVersionSet as usize + 1;

impl Request {
    /// What a command asks for; nothing for what etcd changes by other means.
    #[must_use]
    pub const fn of(action: &Action) -> Option<Self> {
        Some(match action {
            Action::Put(_) => Self::Put,
            Action::DeleteRange(_) => Self::DeleteRange,
            Action::Txn(_) => Self::Txn,
            Action::Compact(_) => Self::Compaction,
            Action::LeaseGrant(_) => Self::LeaseGrant,
            Action::LeaseRevoke(_) => Self::LeaseRevoke,
            Action::LeaseCheckpoint(_) => Self::LeaseCheckpoint,
            Action::Alarm(_) => Self::Alarm,
            Action::MemberAttributes(_) => Self::ClusterMemberAttrSet,
            Action::ClusterVersion(_) => Self::ClusterVersionSet,
            Action::AuthEnable(_) => Self::AuthEnable,
            Action::AuthDisable(_) => Self::AuthDisable,
            Action::SignIn(_) => Self::Authenticate,
            Action::UserAdd(_) => Self::AuthUserAdd,
            Action::UserDelete(_) => Self::AuthUserDelete,
            Action::UserPassword(_) => Self::AuthUserChangePassword,
            Action::UserGrant(_) => Self::AuthUserGrantRole,
            Action::UserRevoke(_) => Self::AuthUserRevokeRole,
            Action::RoleAdd(_) => Self::AuthRoleAdd,
            Action::RoleDelete(_) => Self::AuthRoleDelete,
            Action::RoleGrant(_) => Self::AuthRoleGrantPermission,
            Action::RoleRevoke(_) => Self::AuthRoleRevokePermission,
            Action::FirstMembers(_)
            | Action::MemberAdd(_)
            | Action::MemberRemove(_)
            | Action::MemberUpdate(_)
            | Action::MemberPromote(_)
            | Action::OnlyMember(_) => return None,
        })
    }
}

/// A histogram for each kind of request and outcome, made when the first of it comes: there are many, and most servers
/// see few of them.
pub struct Durations {
    all: HistogramVec,
    /// A label before the others that is always the same.
    first: Option<&'static str>,
    made: [[OnceLock<Histogram>; 2]; REQUESTS],
}

impl Durations {
    fn new(all: HistogramVec, first: Option<&'static str>) -> Self {
        Self { all, first, made: std::array::from_fn(|_| [OnceLock::new(), OnceLock::new()]) }
    }

    /// From the proposal or the read to its answer.
    pub(super) fn of_requests(m: &Maker<'_>) -> Self {
        let help = "Time of requests, with the wait for consensus.";
        Self::new(m.histograms("etcd_server_request_duration_seconds", help, (0.001, 14), &["type", "success"]), None)
    }

    /// Of applying them alone.
    pub(super) fn of_applies(m: &Maker<'_>) -> Self {
        let labels = ["version", "op", "success"];
        let all = m.histograms("etcd_server_apply_duration_seconds", "Time of applying commands.", (0.0001, 20), &labels);
        Self::new(all, Some("v3"))
    }

    /// One has ended after so long.
    pub fn observe(&self, request: Request, went_well: bool, took: Duration) {
        let made = &self.made[request as usize][usize::from(went_well)];
        made.get_or_init(|| self.make(request, went_well)).observe(took.as_secs_f64());
    }

    fn make(&self, request: Request, went_well: bool) -> Histogram {
        let (name, success) = (format!("{request:?}"), success(went_well));
        match self.first {
            Some(first) => self.all.with_label_values(&[first, name.as_str(), success]),
            None => self.all.with_label_values(&[name.as_str(), success]),
        }
    }
}

const fn success(went_well: bool) -> &'static str {
    if went_well { "true" } else { "false" }
}

/// Time of ranges once they may be read: well, and not.
pub struct Ranges {
    well: Histogram,
    badly: Histogram,
}

impl Ranges {
    pub(super) fn new(m: &Maker<'_>) -> Self {
        let all = m.histograms("etcd_server_range_duration_seconds", "Time of reading ranges.", (0.0001, 20), &["success"]);
        Self { well: all.with_label_values(&[success(true)]), badly: all.with_label_values(&[success(false)]) }
    }

    /// One has been read.
    pub fn observe(&self, went_well: bool, took: Duration) {
        let outcome = if went_well { &self.well } else { &self.badly };
        outcome.observe(took.as_secs_f64());
    }
}
