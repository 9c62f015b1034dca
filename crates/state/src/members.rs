//! The member list: names and addresses, which consensus does not know.

use std::collections::BTreeMap;

use keelson_api::keelson::MemberAttributes;
use keelson_mvcc::{StorageError, Table, WriteBatch};
use prost::Message;

const PREFIX: &[u8] = b"member/";
const VERSION: &[u8] = b"cluster-version";

/// One member of the cluster.
pub type Member = MemberAttributes;

/// Members by id, and the version they agreed on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    by_id: BTreeMap<u64, Member>,
    version: String,
}

impl Members {
    pub(crate) fn list(&self) -> Vec<Member> {
        self.by_id.values().cloned().collect()
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn set(&mut self, member: Member, batch: &mut impl WriteBatch) {
        let key = [PREFIX, &member.id.to_be_bytes()].concat();
        batch.put(Table::Meta, &key, &member.encode_to_vec());
        self.by_id.insert(member.id, member);
    }

    pub(crate) fn set_version(&mut self, version: String, batch: &mut impl WriteBatch) {
        batch.put(Table::Meta, VERSION, version.as_bytes());
        self.version = version;
    }

    pub(crate) fn load_row(&mut self, key: &[u8], value: &[u8]) -> Result<bool, StorageError> {
        let damaged = || StorageError("a member row cannot be decoded: the state store is damaged".into());
        if key == VERSION {
            self.version = String::from_utf8(value.to_vec()).map_err(|_| damaged())?;
            return Ok(true);
        }
        let Some(id) = key.strip_prefix(PREFIX) else { return Ok(false) };
        let member = Member::decode(value).map_err(|_| damaged())?;
        if id != member.id.to_be_bytes() {
            return Err(damaged());
        }
        self.by_id.insert(member.id, member);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_row_under_another_members_key_is_damage() {
        let row = Member { id: 7, ..Member::default() }.encode_to_vec();
        let key = |id: u64| [PREFIX, &id.to_be_bytes()].concat();
        assert!(Members::default().load_row(&key(7), &row).unwrap());
        assert!(Members::default().load_row(&key(8), &row).is_err());
        assert!(Members::default().load_row(&[PREFIX, &[7]].concat(), &row).is_err());
        assert!(!Members::default().load_row(b"other", &row).unwrap());
    }
}
