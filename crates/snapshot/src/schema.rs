//! What etcd keeps in which bucket, row by row.

use keelson_api::authpb::{Role, User};
use keelson_api::etcdserverpb::AlarmMember;
use keelson_api::keelson::MembershipRow;
use keelson_mvcc::Marks;
use keelson_state::{AuthRows, Member, Surroundings};
use prost::Message;
use serde::Serialize;

/// All buckets. One that is missing is none of etcd's files.
pub const BUCKETS: [&str; 10] = [ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, KEY, LEASE, MEMBERS, MEMBERS_REMOVED, META];
pub const ALARM: &str = "alarm";
pub const AUTH: &str = "auth";
pub const AUTH_ROLES: &str = "authRoles";
pub const AUTH_USERS: &str = "authUsers";
pub const CLUSTER: &str = "cluster";
pub const KEY: &str = "key";
pub const LEASE: &str = "lease";
pub const MEMBERS: &str = "members";
pub const MEMBERS_REMOVED: &str = "members_removed";
pub const META: &str = "meta";

pub const STORAGE_VERSION: &[u8] = b"storageVersion";
const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";

const AUTH_ENABLED: &[u8] = b"authEnabled";
const AUTH_REVISION: &[u8] = b"authRevision";

const REVISION_LEN: usize = 17;
const TOMBSTONE: u8 = b't';

/// Where a change was made, as the key of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionKey {
    /// Number of the transaction.
    pub main: i64,
    /// Number of the change within it.
    pub sub: i64,
    /// The change is a delete.
    pub is_delete: bool,
}

impl RevisionKey {
    /// A revision that is marked, and not a change.
    const fn of(main: i64) -> Self {
        Self { main, sub: 0, is_delete: false }
    }

    /// 8 bytes, an underscore, 8 bytes; and a mark for a delete.
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(REVISION_LEN + 1);
        out.extend_from_slice(&self.main.to_be_bytes());
        out.push(b'_');
        out.extend_from_slice(&self.sub.to_be_bytes());
        if self.is_delete {
            out.push(TOMBSTONE);
        }
        out
    }

    /// Bytes of [`RevisionKey::encode`].
    pub const fn len(is_delete: bool) -> usize {
        REVISION_LEN + is_delete as usize
    }

    /// Inverse of [`RevisionKey::encode`].
    pub fn decode(key: &[u8]) -> Option<Self> {
        let (main, rest) = key.split_first_chunk::<8>()?;
        let (sub, mark) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
        let key = Self {
            main: i64::from_be_bytes(*main),
            sub: i64::from_be_bytes(*sub),
            // etcd takes any other mark for none.
            is_delete: mark == [TOMBSTONE],
        };
        (mark.len() <= 1 && key.main >= 0 && key.sub >= 0).then_some(key)
    }
}

/// etcd's row of a lease.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LeaseRow {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub ttl: i64,
    #[prost(int64, tag = "3")]
    pub remaining_ttl: i64,
}

/// etcd's row of a member.
#[derive(Debug, Serialize)]
struct MemberRow<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

/// Who takes part, as etcd's consensus has it.
#[derive(Debug, Default, Serialize)]
struct ConfState {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    auto_leave: bool,
}

/// Rows of a bucket.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers and texts can be written as JSON")
}

fn conf_state(membership: Option<&MembershipRow>) -> Vec<u8> {
    let voters: Vec<u64> = membership.iter().flat_map(|m| &m.configs).flat_map(|c| c.voters.iter().copied()).collect();
    let nodes = membership.iter().flat_map(|m| m.nodes.iter().copied());
    let learners = nodes.filter(|id| !voters.contains(id)).collect();
    json(&ConfState { voters, learners, auto_leave: false })
}

fn meta(marks: &Marks, around: &Surroundings, storage_version: &str) -> Rows {
    let position = &around.position;
    let mut rows = vec![
        (b"confState".to_vec(), conf_state(position.membership.as_ref())),
        (b"consistent_index".to_vec(), position.index.to_be_bytes().to_vec()),
        (b"term".to_vec(), position.term.to_be_bytes().to_vec()),
        (STORAGE_VERSION.to_vec(), storage_version.into()),
    ];
    if marks.compacted >= 0 {
        // What the compaction takes away is left out: it has come to its end.
        for mark in [SCHEDULED_COMPACT, FINISHED_COMPACT] {
            rows.push((mark.to_vec(), RevisionKey::of(marks.compacted).encode()));
        }
    }
    rows
}

fn auth(auth: &AuthRows) -> Rows {
    let enabled = auth.is_on.then(|| (AUTH_ENABLED.to_vec(), vec![1]));
    let revision = (auth.revision > 0).then(|| (AUTH_REVISION.to_vec(), auth.revision.to_be_bytes().to_vec()));
    enabled.into_iter().chain(revision).collect()
}

fn member(m: &Member) -> (Vec<u8>, Vec<u8>) {
    let row =
        MemberRow { id: m.id, peer_urls: &m.peer_urls, is_learner: m.is_learner, name: &m.name, client_urls: &m.client_urls };
    (format!("{:x}", m.id).into(), json(&row))
}

/// Rows of every bucket but the keys', ordered.
pub fn rows_beside_keys(marks: &Marks, around: &Surroundings, storage_version: &str) -> Vec<(&'static str, Rows)> {
    let rows_of = |bucket: &str| -> Rows {
        match bucket {
            META => meta(marks, around, storage_version),
            LEASE => {
                let row = |(id, ttl, remaining_ttl): &(i64, i64, i64)| {
                    let row = LeaseRow { id: *id, ttl: *ttl, remaining_ttl: *remaining_ttl };
                    (id.to_be_bytes().to_vec(), row.encode_to_vec())
                };
                around.leases.iter().map(row).collect()
            }
            ALARM => around.alarms.iter().map(|alarm| (alarm.encode_to_vec(), Vec::new())).collect(),
            AUTH => auth(&around.auth),
            AUTH_USERS => around.auth.users.clone(),
            AUTH_ROLES => around.auth.roles.clone(),
            MEMBERS => around.members.iter().map(member).collect(),
            MEMBERS_REMOVED => around.removed.iter().map(|id| (format!("{id:x}").into(), b"removed".to_vec())).collect(),
            CLUSTER if !around.cluster_version.is_empty() => {
                vec![(b"clusterVersion".to_vec(), around.cluster_version.clone().into())]
            }
            _ => Rows::new(),
        }
    };
    let ordered = |bucket: &'static str| {
        let mut rows = rows_of(bucket);
        rows.sort();
        (bucket, rows)
    };
    BUCKETS.into_iter().filter(|bucket| *bucket != KEY).map(ordered).collect()
}

/// What a restored state takes from the rows beside the keys.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    /// Id, granted time to live and last checkpoint of each lease.
    pub leases: Vec<(i64, i64, i64)>,
    /// Raised alarms.
    pub alarms: Vec<AlarmMember>,
    /// Users and roles.
    pub auth: AuthRows,
    scheduled: Option<i64>,
    finished: Option<i64>,
}

/// A row of a user or a role, if its name is a text, and that of what is stored.
fn named(key: &[u8], value: &[u8], name: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    (key == name && std::str::from_utf8(key).is_ok()).then(|| (key.to_vec(), value.to_vec()))
}

impl Taken {
    /// Revisions below this one cannot be read; −1 for none. A compaction that had begun is as good as one that has ended.
    pub fn compacted(&self) -> i64 {
        self.scheduled.max(self.finished).unwrap_or(-1)
    }

    /// Takes a row; `None` if it cannot be understood.
    pub fn take(&mut self, bucket: &str, key: &[u8], value: &[u8]) -> Option<()> {
        match bucket {
            LEASE => {
                let row = LeaseRow::decode(value).ok()?;
                (key == row.id.to_be_bytes()).then_some(())?;
                self.leases.push((row.id, row.ttl, row.remaining_ttl));
            }
            ALARM => self.alarms.push(AlarmMember::decode(key).ok()?),
            META if key == SCHEDULED_COMPACT => self.scheduled = Some(RevisionKey::decode(value)?.main),
            META if key == FINISHED_COMPACT => self.finished = Some(RevisionKey::decode(value)?.main),
            AUTH if key == AUTH_ENABLED => self.auth.is_on = value == [1],
            AUTH if key == AUTH_REVISION => self.auth.revision = value.try_into().map(u64::from_be_bytes).ok()?,
            AUTH_USERS => self.auth.users.push(named(key, value, &User::decode(value).ok()?.name)?),
            AUTH_ROLES => self.auth.roles.push(named(key, value, &Role::decode(value).ok()?.name)?),
            // Who belonged to the cluster, and where its log stood, is of no use to another one.
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::AlarmType;
    use keelson_api::keelson::VoterSet;
    use keelson_state::Position;

    use super::*;

    #[test]
    fn revisions_are_etcds_keys() {
        let put = RevisionKey { main: 258, sub: 3, is_delete: false };
        assert_eq!(put.encode(), [0, 0, 0, 0, 0, 0, 1, 2, b'_', 0, 0, 0, 0, 0, 0, 0, 3]);
        let delete = RevisionKey { is_delete: true, ..put };
        assert_eq!(delete.encode()[17..], [b't']);
        for key in [put, delete] {
            assert_eq!(RevisionKey::decode(&key.encode()), Some(key));
            assert_eq!(key.encode().len(), RevisionKey::len(key.is_delete));
        }
        for damaged in [&put.encode()[..16], &[0xff; 17], &[b'_'; 19], b"", &[&put.encode()[..], b"tt"].concat()] {
            assert_eq!(RevisionKey::decode(damaged), None, "{damaged:x?}");
        }
    }

    fn around() -> Surroundings {
        let membership = MembershipRow {
            configs: vec![VoterSet { voters: vec![1, 2] }],
            nodes: vec![1, 2, 3],
            present: true,
            ..MembershipRow::default()
        };
        let member = |id: u64, number: u8, name: &str| Member {
            id,
            name: name.into(),
            peer_urls: vec![format!("http://m{number}:2380")],
            ..Member::default()
        };
        Surroundings {
            position: Position { term: 5, index: 300, membership: Some(membership) },
            leases: vec![(-7, 10, 0), (0x7f, 60, 30)],
            alarms: vec![AlarmMember { member_id: 1, alarm: AlarmType::Nospace.into() }],
            members: vec![member(0x8e9e_05c5_2164_694d, 1, "one"), Member { is_learner: true, ..member(2, 2, "") }],
            removed: vec![0xab],
            cluster_version: "3.7.0".into(),
            auth: AuthRows {
                is_on: true,
                revision: 6,
                users: vec![(b"root".to_vec(), User { name: "root".into(), ..User::default() }.encode_to_vec())],
                roles: vec![(b"r".to_vec(), Role { name: "r".into(), ..Role::default() }.encode_to_vec())],
            },
        }
    }

    #[test]
    fn rows_are_ordered_and_read_as_etcd_writes_them() {
        let around = around();
        let buckets = rows_beside_keys(&Marks { revision: 9, compacted: 4 }, &around, "3.7.0");
        assert_eq!(buckets.len(), BUCKETS.len() - 1);
        let find = |bucket: &str, key: &[u8]| {
            let rows = &buckets.iter().find(|(name, _)| *name == bucket).unwrap().1;
            assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "{bucket}");
            rows.iter().find(|(k, _)| k == key).map(|(_, v)| String::from_utf8_lossy(v).into_owned())
        };
        let expected: [(&str, &[u8], &str); 16] = [
            (META, b"confState", r#"{"voters":[1,2],"learners":[3],"auto_leave":false}"#),
            (META, b"consistent_index", "\0\0\0\0\0\0\x01\x2c"),
            (META, b"term", "\0\0\0\0\0\0\0\x05"),
            (META, b"storageVersion", "3.7.0"),
            (META, b"finishedCompactRev", "\0\0\0\0\0\0\0\x04_\0\0\0\0\0\0\0\0"),
            (META, b"scheduledCompactRev", "\0\0\0\0\0\0\0\x04_\0\0\0\0\0\0\0\0"),
            (MEMBERS, b"8e9e05c52164694d", r#"{"id":10276657743932975437,"peerURLs":["http://m1:2380"],"name":"one"}"#),
            (MEMBERS, b"2", r#"{"id":2,"peerURLs":["http://m2:2380"],"isLearner":true}"#),
            (MEMBERS_REMOVED, b"ab", "removed"),
            (CLUSTER, b"clusterVersion", "3.7.0"),
            (AUTH, b"authEnabled", "\x01"),
            (AUTH, b"authRevision", "\0\0\0\0\0\0\0\x06"),
            (AUTH_USERS, b"root", "\x0a\x04root"),
            (AUTH_ROLES, b"r", "\x0a\x01r"),
            (ALARM, &[8, 1, 16, 1], ""),
            (LEASE, &[0, 0, 0, 0, 0, 0, 0, 0x7f], "\x08\x7f\x10\x3c\x18\x1e"),
        ];
        for (bucket, key, value) in expected {
            assert_eq!(find(bucket, key).as_deref(), Some(value), "{bucket} {key:?}");
        }

        let mut taken = Taken::default();
        for (bucket, rows) in &buckets {
            rows.iter().for_each(|(k, v)| taken.take(bucket, k, v).unwrap());
        }
        taken.leases.sort_unstable();
        assert_eq!((taken.leases.as_slice(), &taken.alarms), (around.leases.as_slice(), &around.alarms));
        assert_eq!(taken.auth, around.auth);
        assert_eq!(taken.compacted(), 4);
    }

    #[test]
    fn a_store_that_was_never_compacted_says_so() {
        let buckets = rows_beside_keys(&Marks::default(), &Surroundings::default(), "3.7.0");
        let mut taken = Taken::default();
        for (bucket, rows) in &buckets {
            rows.iter().for_each(|(k, v)| taken.take(bucket, k, v).unwrap());
        }
        assert_eq!(taken, Taken::default());
        assert_eq!(taken.compacted(), -1);
    }

    #[test]
    fn a_compaction_that_had_only_begun_counts_and_damaged_rows_do_not() {
        let mut taken = Taken::default();
        taken.take(META, SCHEDULED_COMPACT, &RevisionKey::of(9).encode()).unwrap();
        taken.take(META, FINISHED_COMPACT, &RevisionKey::of(5).encode()).unwrap();
        assert_eq!(taken.compacted(), 9);
        assert_eq!(taken.take(META, FINISHED_COMPACT, b"x"), None);
        assert_eq!(taken.take(LEASE, &[0; 8], &LeaseRow { id: 1, ..LeaseRow::default() }.encode_to_vec()), None);
        assert_eq!(taken.take(ALARM, &[0xff], b""), None);
        assert_eq!(taken.take(AUTH_USERS, b"root", b""), None, "a user of another name");
        assert_eq!(taken.take(AUTH, AUTH_REVISION, b"1"), None);
        taken.take(AUTH, AUTH_ENABLED, &[0]).unwrap();
        assert_eq!(taken.auth, AuthRows::default());
    }
}
