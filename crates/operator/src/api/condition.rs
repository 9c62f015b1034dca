//! Conditions: one sentence each about a side of the cluster, with the time it last changed.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Clients can read and write.
pub const AVAILABLE: &str = "Available";
/// Something is being done; `False` when there is nothing to do or it cannot go on.
pub const PROGRESSING: &str = "Progressing";
/// The cluster is not as it should be, even if it is available.
pub const DEGRADED: &str = "Degraded";
/// The majority of voters is gone.
pub const QUORUM_LOST: &str = "QuorumLost";
/// Every member's volume is there and reachable, and no member is out of space.
pub const STORAGE_HEALTHY: &str = "StorageHealthy";
/// Every certificate is there and good for some time.
pub const CERTIFICATES_READY: &str = "CertificatesReady";
/// A drain of any one node can go ahead without an outage.
pub const DISRUPTIBLE: &str = "Disruptible";

/// `True`, `False` or not known, with a reason in one word and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    pub type_: &'static str,
    pub status: Option<bool>,
    pub reason: &'static str,
    pub message: String,
}

/// The conditions after `signs` were seen: the time of change is kept where the status did not change.
pub fn merge(old: &[Condition], signs: &[Sign], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let merged = |sign: &Sign| {
        let status = match sign.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let before = old.iter().find(|condition| condition.type_ == sign.type_ && condition.status == status);
        Condition {
            type_: sign.type_.to_string(),
            status: status.to_string(),
            reason: sign.reason.to_string(),
            message: sign.message.clone(),
            observed_generation: generation,
            last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
        }
    };
    signs.iter().map(merged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_change_moves_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let sign = |status, message: &str| Sign { type_: AVAILABLE, status, reason: "R", message: message.into() };
        let first = merge(&[], &[sign(Some(true), "one")], Some(1), at(100));
        let reworded = merge(&first, &[sign(Some(true), "two")], Some(1), at(200));
        assert_eq!((reworded[0].last_transition_time.0, reworded[0].message.as_str()), (at(100), "two"));
        let flipped = merge(&reworded, &[sign(None, "three")], Some(1), at(300));
        assert_eq!((flipped[0].last_transition_time.0, flipped[0].status.as_str()), (at(300), "Unknown"));
    }
}
