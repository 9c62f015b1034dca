//! The member list: who belongs to the cluster, under which name and at which addresses. Consensus
//! knows ids only; the leader leads it to what this list says.

use std::collections::{BTreeMap, BTreeSet};

use keelson_api::keelson::{ClusterVersion, MemberAdd, MemberAttributes, OnlyMember};
use keelson_api::{Error, format};
use keelson_mvcc::{StorageError, Table, WriteBatch};
use prost::Message;

const PREFIX: &[u8] = b"member/";
const REMOVED: &[u8] = b"member-removed/";
const VERSION: &[u8] = b"cluster-version";
const FORMAT: &[u8] = b"cluster-format";

/// One member of the cluster.
pub type Member = MemberAttributes;

/// Members by id, ids that never come back, and the version and format all agreed on.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    by_id: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    version: String,
    format: u32,
}

impl Default for Members {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), removed: BTreeSet::new(), version: String::new(), format: format::OLDEST }
    }
}

fn row_key(prefix: &[u8], id: u64) -> Vec<u8> {
    [prefix, &id.to_be_bytes()].concat()
}

impl Members {
    pub(crate) fn list(&self) -> Vec<Member> {
        self.by_id.values().cloned().collect()
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Member> {
        self.by_id.get(&id)
    }

    pub(crate) fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    pub(crate) fn removed(&self) -> Vec<u64> {
        self.removed.iter().copied().collect()
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn format(&self) -> u32 {
        self.format
    }

    /// The newest format that every member understands, those that have not come yet included: who knows what they are.
    pub(crate) fn understood_by_all(&self) -> u32 {
        self.by_id.values().map(|m| format::told(m.format)).min().unwrap_or(format::OLDEST)
    }

    fn set(&mut self, member: Member, batch: &mut impl WriteBatch) {
        batch.put(Table::Meta, &row_key(PREFIX, member.id), &member.encode_to_vec());
        self.by_id.insert(member.id, member);
    }

    fn known(&self, id: u64) -> Result<Member, Error> {
        self.by_id.get(&id).cloned().ok_or(Error::MemberNotFound)
    }

    fn urls_are_free(&self, urls: &[String], but: u64) -> Result<(), Error> {
        let taken = self.by_id.values().any(|m| m.id != but && m.peer_urls.iter().any(|u| urls.contains(u)));
        if taken { Err(Error::PeerUrlExists) } else { Ok(()) }
    }

    /// Begins the list; only the first beginning counts.
    pub(crate) fn begin(&mut self, members: &[Member], batch: &mut impl WriteBatch) {
        if self.by_id.is_empty() && self.removed.is_empty() {
            members.iter().for_each(|m| self.set(m.clone(), batch));
        }
    }

    pub(crate) fn add(&mut self, r: &MemberAdd, batch: &mut impl WriteBatch) -> Result<(), Error> {
        if self.by_id.contains_key(&r.id) || self.removed.contains(&r.id) {
            return Err(Error::MemberExists);
        }
        self.urls_are_free(&r.peer_urls, r.id)?;
        let learners = self.by_id.values().filter(|m| m.is_learner).count();
        if r.is_learner && learners >= r.max_learners as usize {
            return Err(Error::TooManyLearners);
        }
        let (peer_urls, is_learner) = (r.peer_urls.clone(), r.is_learner);
        self.set(Member { id: r.id, peer_urls, is_learner, ..Member::default() }, batch);
        Ok(())
    }

    pub(crate) fn remove(&mut self, id: u64, batch: &mut impl WriteBatch) -> Result<(), Error> {
        self.known(id)?;
        self.by_id.remove(&id);
        self.removed.insert(id);
        batch.delete(Table::Meta, &row_key(PREFIX, id));
        batch.put(Table::Meta, &row_key(REMOVED, id), &[]);
        Ok(())
    }

    pub(crate) fn update(&mut self, id: u64, peer_urls: &[String], batch: &mut impl WriteBatch) -> Result<(), Error> {
        let member = self.known(id)?;
        self.urls_are_free(peer_urls, id)?;
        self.set(Member { peer_urls: peer_urls.to_vec(), ..member }, batch);
        Ok(())
    }

    pub(crate) fn promote(&mut self, id: u64, batch: &mut impl WriteBatch) -> Result<(), Error> {
        let member = self.known(id)?;
        if !member.is_learner {
            return Err(Error::MemberNotLearner);
        }
        self.set(Member { is_learner: false, ..member }, batch);
        Ok(())
    }

    /// Leaves one member, as a voter, and removes all others for good.
    pub(crate) fn leave_only(&mut self, r: &OnlyMember, batch: &mut impl WriteBatch) -> Result<(), Error> {
        if self.removed.contains(&r.id) {
            return Err(Error::MemberNotFound);
        }
        let others: Vec<u64> = self.by_id.keys().copied().filter(|id| *id != r.id).collect();
        for id in others {
            self.remove(id, batch)?;
        }
        let known = self.by_id.get(&r.id).cloned();
        let member = known.unwrap_or_else(|| Member { id: r.id, peer_urls: r.peer_urls.clone(), ..Member::default() });
        self.set(Member { is_learner: false, ..member }, batch);
        Ok(())
    }

    /// What a member says of itself. The data directory it first came with is remembered for good.
    pub(crate) fn publish(&mut self, of: &Member, batch: &mut impl WriteBatch) -> Result<(), Error> {
        let mut member = self.known(of.id)?;
        member.name.clone_from(&of.name);
        member.client_urls.clone_from(&of.client_urls);
        member.format = of.format;
        if member.data_dir_uuid.is_empty() {
            member.data_dir_uuid.clone_from(&of.data_dir_uuid);
        }
        self.set(member, batch);
        Ok(())
    }

    /// Whether the format is raised by that command.
    pub(crate) fn rises(&self, on: &ClusterVersion) -> bool {
        on.format > self.format && on.format <= self.understood_by_all()
    }

    /// Takes a first version, or a format that has come to be understood by all, with its version. Anything else was
    /// overtaken: by a member that came, or went back to an older build.
    pub(crate) fn agree(&mut self, on: &ClusterVersion, batch: &mut impl WriteBatch) {
        let rises = self.rises(on);
        if rises {
            batch.put(Table::Meta, FORMAT, &on.format.to_be_bytes());
            self.format = on.format;
        }
        if rises || self.version.is_empty() {
            batch.put(Table::Meta, VERSION, on.version.as_bytes());
            self.version.clone_from(&on.version);
        }
    }

    pub(crate) fn load_row(&mut self, key: &[u8], value: &[u8]) -> Result<bool, StorageError> {
        let damaged = || StorageError("a member row cannot be decoded: the state store is damaged".into());
        if key == VERSION {
            self.version = String::from_utf8(value.to_vec()).map_err(|_| damaged())?;
            return Ok(true);
        }
        if key == FORMAT {
            self.format = value.try_into().map(u32::from_be_bytes).map_err(|_| damaged())?;
            if self.format < format::OLDEST {
                return Err(damaged());
            }
            format::check("the state store", self.format).map_err(|e| StorageError(e.to_string()))?;
            return Ok(true);
        }
        if let Some(id) = key.strip_prefix(REMOVED) {
            self.removed.insert(id.try_into().map(u64::from_be_bytes).map_err(|_| damaged())?);
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
    use keelson_mvcc::{Backend, MemoryBackend};

    use super::*;

    #[test]
    fn ids_never_return_urls_are_one_members_and_the_first_data_directory_is_kept() {
        let batch = &mut MemoryBackend::default().batch();
        let mut members = Members::default();
        let urls = |n: u64| vec![format!("http://m{n}:2380")];
        members.begin(&[Member { id: 1, peer_urls: urls(1), ..Member::default() }], batch);
        members.begin(&[Member { id: 9, peer_urls: urls(9), ..Member::default() }], batch);
        assert_eq!(members.list().len(), 1);

        let add = |id, n, is_learner| MemberAdd { id, peer_urls: urls(n), is_learner, max_learners: 1 };
        assert_eq!(members.add(&add(2, 1, false), batch), Err(Error::PeerUrlExists));
        members.add(&add(2, 2, true), batch).unwrap();
        assert_eq!(members.add(&add(3, 3, true), batch), Err(Error::TooManyLearners));
        assert_eq!(members.promote(1, batch), Err(Error::MemberNotLearner));
        members.promote(2, batch).unwrap();
        assert_eq!(members.update(2, &urls(1), batch), Err(Error::PeerUrlExists));
        members.update(2, &urls(4), batch).unwrap();

        let said = |uuid: &str| Member { id: 2, name: "two".into(), data_dir_uuid: uuid.into(), ..Member::default() };
        members.publish(&said("first"), batch).unwrap();
        members.publish(&said("second"), batch).unwrap();
        let two = members.list().pop().unwrap();
        assert_eq!((two.peer_urls, two.data_dir_uuid.as_str(), two.is_learner), (urls(4), "first", false));

        members.remove(2, batch).unwrap();
        assert!(members.is_removed(2) && !members.is_removed(1));
        assert_eq!(members.add(&add(2, 5, false), batch), Err(Error::MemberExists));
        assert_eq!(members.publish(&said("first"), batch), Err(Error::MemberNotFound));
    }

    #[test]
    fn the_only_member_left_votes_and_the_others_never_come_back() {
        let batch = &mut MemoryBackend::default().batch();
        let mut members = Members::default();
        let member = |id, is_learner| Member { id, is_learner, name: format!("m{id}"), ..Member::default() };
        members.begin(&[member(1, false), member(2, true), member(3, false)], batch);
        let only = |id| OnlyMember { id, peer_urls: vec!["http://new:2380".into()] };
        members.leave_only(&only(2), batch).unwrap();
        assert_eq!(members.list(), [member(2, false)]);
        assert!(members.is_removed(1) && members.is_removed(3));
        assert_eq!(members.leave_only(&only(3), batch), Err(Error::MemberNotFound));
        members.leave_only(&only(4), batch).unwrap();
        assert_eq!(members.list()[0].peer_urls, ["http://new:2380"]);
    }

    #[test]
    fn the_format_rises_once_all_members_understand_it_and_never_falls() {
        let backend = MemoryBackend::default();
        let batch = &mut backend.batch();
        let mut members = Members::default();
        let member = |id| Member { id, ..Member::default() };
        let says = |id, format| Member { id, name: format!("m{id}"), format, ..Member::default() };
        let raise = |format| ClusterVersion { version: format!("v{format}"), format };
        members.agree(&raise(2), batch);
        assert_eq!((members.format(), members.version()), (1, "v2"), "nobody has said anything yet");
        members.begin(&[member(1), member(2), member(3)], batch);
        for id in [1, 2] {
            members.publish(&says(id, 3), batch).unwrap();
        }
        assert_eq!(members.understood_by_all(), 1, "a member has not come yet");
        members.publish(&says(3, 0), batch).unwrap();
        assert_eq!(members.understood_by_all(), 1, "a member of before there were formats");
        members.publish(&says(3, 2), batch).unwrap();
        assert_eq!(members.understood_by_all(), 2);

        // Rolled back while the proposal was on its way.
        members.publish(&says(1, 1), batch).unwrap();
        members.agree(&raise(2), batch);
        assert_eq!(members.format(), 1);
        members.publish(&says(1, 3), batch).unwrap();
        members.agree(&raise(3), batch);
        assert_eq!(members.format(), 1, "one does not understand 3");
        members.agree(&raise(2), batch);
        assert_eq!((members.format(), members.version()), (2, "v2"));
        members.agree(&raise(1), batch);
        members.add(&MemberAdd { id: 4, ..MemberAdd::default() }, batch).unwrap();
        assert_eq!((members.format(), members.understood_by_all()), (2, 1), "what was agreed on stays");
        members.remove(4, batch).unwrap();
        members.publish(&says(3, 3), batch).unwrap();
        members.agree(&raise(3), batch);
        assert_eq!((members.format(), members.version()), (3, "v3"));
    }

    #[test]
    fn a_state_of_a_newer_format_is_refused_with_what_to_do_and_one_of_no_format_is_damage() {
        let newer = Members::default().load_row(FORMAT, &(format::newest() + 1).to_be_bytes()).unwrap_err();
        assert!(newer.0.starts_with("the state store has format") && newer.0.contains(format::ADVICE), "{newer}");
        let mut members = Members::default();
        assert!(members.load_row(FORMAT, &1_u32.to_be_bytes()).unwrap());
        assert_eq!(members.format(), 1);
        for damage in [&[][..], &[0, 0, 0, 0], &[1], &[0, 0, 0, 0, 1]] {
            assert!(members.load_row(FORMAT, damage).unwrap_err().0.contains("damaged"));
        }
    }

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
