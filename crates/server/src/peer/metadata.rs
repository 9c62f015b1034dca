//! Who speaks to whom: what every call between members carries, and what it is checked for.

use http::{HeaderMap, HeaderValue};
use keelson_api::{Code, format};

use crate::grpc::Status;

const CLUSTER: &str = "keelson-cluster";
const FROM: &str = "keelson-from";
const TO: &str = "keelson-to";
const DATA_DIR: &str = "keelson-data-dir";
const TO_DATA_DIR: &str = "keelson-to-data-dir";
/// Newest format that the caller understands.
const FORMAT: &str = "keelson-format";
/// The cluster's format, as far as who tells it knows; also with the member list, for those that join.
pub const CLUSTER_FORMAT: &str = "keelson-cluster-format";

/// What a member tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Its cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
    /// Its data directory: another one under the same id has lost its data.
    pub data_dir_uuid: String,
    /// Newest format that it understands.
    pub format: u32,
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

/// The cluster's format, as the headers of a call or of the member list tell it.
pub fn cluster_format(headers: &HeaderMap) -> u32 {
    format::told(text(headers, CLUSTER_FORMAT).parse().unwrap_or_default())
}

impl Speaker {
    /// Metadata of a call to `to`, whose data directory is called `known_as` if it has told, in a cluster of this format.
    pub fn headers(&self, to: u64, known_as: &str, cluster_format: u32) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(FORMAT, self.format.into());
        headers.insert(CLUSTER_FORMAT, cluster_format.into());
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
        let format = format::told(text(headers, FORMAT).parse().unwrap_or_default());
        Ok(Self { cluster_id, member_id, data_dir_uuid: text(headers, DATA_DIR).to_owned(), format })
    }

    /// Whether a caller knows this member by the data directory that it has.
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        let known_as = text(headers, TO_DATA_DIR);
        known_as.is_empty() || known_as == self.data_dir_uuid
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_for_another_cluster_or_member_is_refused_and_one_for_another_data_directory_is_noticed() {
        let speaker = |cluster_id, member_id| Speaker { cluster_id, member_id, data_dir_uuid: "d".into(), format: 3 };
        let (a, b) = (speaker(1, 10), speaker(1, u64::MAX));
        assert_eq!(b.caller(&a.headers(u64::MAX, "", 1)).unwrap(), a);
        assert_eq!(b.caller(&a.headers(u64::MAX, "d", 1)).unwrap(), a);
        assert!(b.caller(&a.headers(11, "d", 1)).unwrap_err().message.contains("peer URLs"));
        assert!(speaker(2, 10).caller(&b.headers(10, "d", 1)).unwrap_err().message.contains("cluster ID mismatch"));
        assert!(b.is_known(&a.headers(u64::MAX, "", 1)) && b.is_known(&a.headers(u64::MAX, "d", 1)));
        assert!(!b.is_known(&a.headers(u64::MAX, "another", 1)));
        assert!(b.caller(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_caller_tells_the_newest_format_it_understands_and_the_one_that_the_cluster_has() {
        let member = Speaker { cluster_id: 1, member_id: 2, data_dir_uuid: String::new(), format: 3 };
        let mut headers = member.headers(2, "", 2);
        assert_eq!((member.caller(&headers).unwrap().format, cluster_format(&headers)), (3, 2));
        for name in [FORMAT, CLUSTER_FORMAT] {
            headers.remove(name);
        }
        let silent = (member.caller(&headers).unwrap().format, cluster_format(&headers));
        assert_eq!(silent, (format::OLDEST, format::OLDEST), "a build that knew of one format only");
    }
}
