//! Who speaks to whom: what every call between members carries, and what it is checked for.

use http::{HeaderMap, HeaderValue};
use keelson_api::Code;

use crate::grpc::Status;

const CLUSTER: &str = "keelson-cluster";
const FROM: &str = "keelson-from";
const TO: &str = "keelson-to";
const DATA_DIR: &str = "keelson-data-dir";
const TO_DATA_DIR: &str = "keelson-to-data-dir";

/// What a member tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Its cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
    /// Its data directory: another one under the same id has lost its data.
    pub data_dir_uuid: String,
}

fn hex(id: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("{id:x}")).expect("hexadecimal digits are a header")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

fn id(headers: &HeaderMap, name: &str) -> Option<u64> {
    u64::from_str_radix(headers.get(name)?.to_str().ok()?, 16).ok()
}

impl Speaker {
    /// Metadata of a call to `to`, whose data directory is called `known_as` if it has told.
    pub fn headers(&self, to: u64, known_as: &str) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(CLUSTER, hex(self.cluster_id));
        headers.insert(FROM, hex(self.member_id));
        headers.insert(TO, hex(to));
        for (name, uuid) in [(DATA_DIR, self.data_dir_uuid.as_str()), (TO_DATA_DIR, known_as)] {
            if let Ok(uuid) = HeaderValue::from_str(uuid) {
                headers.insert(name, uuid);
            }
        }
        headers
    }

    /// Who calls, if the call is meant for this member.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Self, Status> {
        let refused = |text: String| Status::new(Code::FailedPrecondition, text);
        let (Some(cluster_id), Some(member_id), Some(to)) = (id(headers, CLUSTER), id(headers, FROM), id(headers, TO)) else {
            return Err(refused("the caller does not say who it is; only members of the cluster may call".into()));
        };
        if cluster_id != self.cluster_id {
            let ours = self.cluster_id;
            return Err(refused(format!(
                "cluster ID mismatch: the caller is of cluster {cluster_id:x}, this member of {ours:x}; \
                 check --initial-cluster-token and that no data directory of another cluster is used"
            )));
        }
        if to != self.member_id {
            return Err(refused(format!(
                "the call is for member {to:x}, this is {:x}; check that peer URLs lead to the right members",
                self.member_id
            )));
        }
        Ok(Self { cluster_id, member_id, data_dir_uuid: text(headers, DATA_DIR).to_owned() })
    }

    /// Whether a caller knows this member by the data directory that it has.
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        let known_as = text(headers, TO_DATA_DIR);
        known_as.is_empty() || known_as == self.data_dir_uuid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_for_another_cluster_or_member_is_refused_and_one_for_another_data_directory_is_noticed() {
        let speaker = |cluster_id, member_id| Speaker { cluster_id, member_id, data_dir_uuid: "d".into() };
        let (a, b) = (speaker(1, 10), speaker(1, u64::MAX));
        assert_eq!(b.caller(&a.headers(u64::MAX, "")).unwrap(), a);
        assert_eq!(b.caller(&a.headers(u64::MAX, "d")).unwrap(), a);
        assert!(b.caller(&a.headers(11, "d")).unwrap_err().message.contains("peer URLs"));
        assert!(speaker(2, 10).caller(&b.headers(10, "d")).unwrap_err().message.contains("cluster ID mismatch"));
        assert!(b.is_known(&a.headers(u64::MAX, "")) && b.is_known(&a.headers(u64::MAX, "d")));
        assert!(!b.is_known(&a.headers(u64::MAX, "another")));
        assert!(b.caller(&HeaderMap::new()).is_err());
    }
}
