//! The whole state at one moment, for a copy of it in another format; and the rows of a state that begins as such a copy.

use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::{AlarmMember, AlarmRequest};
use keelson_mvcc::{Backend, Cursor, Marks, ReadError, StorageError, Table, Versions, WriteBatch};
use prost::Message;

use crate::alarm::Alarms;
use crate::lease::Leases;
use crate::machine::{APPLIED, Position, Shared};
use crate::members::{Member, Members};

const AUTH_ENABLED: &[u8] = b"auth/enabled";
const AUTH_REVISION: &[u8] = b"auth/revision";
const USER: &[u8] = b"auth-user/";
const ROLE: &[u8] = b"auth-role/";

/// Users and roles, by name, as they are stored: messages of `authpb`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthRows {
    /// Callers are asked who they are.
    pub is_on: bool,
    /// Counts changes of all this; 0 if there was none.
    pub revision: u64,
    /// `User` by name.
    pub users: Vec<(Vec<u8>, Vec<u8>)>,
    /// `Role` by name.
    pub roles: Vec<(Vec<u8>, Vec<u8>)>,
}

impl AuthRows {
    fn load_row(&mut self, key: &[u8], value: &[u8]) -> Result<bool, StorageError> {
        let damaged = |_| StorageError("the revision of users cannot be decoded: the state store is damaged".into());
        if key == AUTH_ENABLED {
            self.is_on = true;
        } else if key == AUTH_REVISION {
            self.revision = value.try_into().map(u64::from_be_bytes).map_err(damaged)?;
        } else if let Some(name) = key.strip_prefix(USER) {
            self.users.push((name.to_vec(), value.to_vec()));
        } else if let Some(name) = key.strip_prefix(ROLE) {
            self.roles.push((name.to_vec(), value.to_vec()));
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn write(&self, batch: &mut impl WriteBatch) {
        if self.is_on {
            batch.put(Table::Meta, AUTH_ENABLED, &[]);
        }
        if self.revision > 0 {
            batch.put(Table::Meta, AUTH_REVISION, &self.revision.to_be_bytes());
        }
        for (prefix, rows) in [(USER, &self.users), (ROLE, &self.roles)] {
            for (name, row) in rows {
                batch.put(Table::Meta, &[prefix, name].concat(), row);
            }
        }
    }
}

/// Everything but the keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// How far the log was applied, and who took part in it.
    pub position: Position,
    /// Id, granted time to live and last checkpoint of each lease, ordered by id.
    pub leases: Vec<(i64, i64, i64)>,
    /// Raised alarms.
    pub alarms: Vec<AlarmMember>,
    /// Users and roles.
    pub auth: AuthRows,
    /// All members.
    pub members: Vec<Member>,
    /// Ids that never come back.
    pub removed: Vec<u64>,
    /// The version all members can speak, empty until it was agreed on.
    pub cluster_version: String,
}

/// The state at one moment.
pub struct Frozen<B> {
    /// Its newest and its compacted revision.
    pub marks: Marks,
    /// Everything but the keys.
    pub around: Surroundings,
    /// All versions that could be read.
    pub versions: Versions<B>,
}

impl<B: Backend> Shared<B> {
    /// The state at this moment. What it takes to read it is kept while the versions live.
    pub fn freeze(&self) -> Result<Frozen<B>, ReadError> {
        // Before the rows are read, so that nothing they speak of can be removed.
        let retained = self.store.retain()?;
        let (marks, around) = read_meta(self.store.backend())?;
        Ok(Frozen { marks, around, versions: retained.versions(marks) })
    }
}

/// One cursor sees one moment: these rows go together, whatever is being applied.
fn read_meta<B: Backend>(backend: &B) -> Result<(Marks, Surroundings), StorageError> {
    let (mut marks, mut position) = (Marks::default(), Position::default());
    let (mut leases, mut alarms, mut members) = (Leases::default(), Alarms::default(), Members::default());
    let mut auth = AuthRows::default();
    let mut cursor = backend.cursor(Table::Meta, None);
    cursor.seek(&[])?;
    while let Some((key, value)) = cursor.row() {
        if key == APPLIED {
            position = Position::decode(value)
                .map_err(|_| StorageError("the applied position cannot be decoded: the state store is damaged".into()))?;
        } else if !marks.load_row(key, value)?
            && !leases.load_row(key, value)?
            && !alarms.load_row(key)?
            && !auth.load_row(key, value)?
        {
            members.load_row(key, value)?;
        }
        cursor.step()?;
    }
    let mut granted: Vec<_> = leases.ids().map(|(id, l)| (id, l.ttl, l.remaining_ttl)).collect();
    granted.sort_unstable();
    let around = Surroundings {
        position,
        leases: granted,
        alarms: alarms.list(),
        auth,
        removed: members.removed(),
        cluster_version: members.version().to_owned(),
        members: members.list(),
    };
    Ok((marks, around))
}

impl Surroundings {
    /// Writes the rows of a state that begins with this. Its cluster agrees on a version by itself, and no member of it
    /// has been removed yet.
    pub fn write(&self, batch: &mut impl WriteBatch) {
        let mut leases = Leases::default();
        for (id, ttl, remaining) in &self.leases {
            leases.grant(*id, *ttl, batch);
            if *remaining > 0 {
                leases.checkpoint(*id, *remaining, batch);
            }
        }
        let mut alarms = Alarms::default();
        for AlarmMember { member_id, alarm } in &self.alarms {
            let raise = AlarmRequest { action: AlarmAction::Activate.into(), member_id: *member_id, alarm: *alarm };
            alarms.apply(&raise, batch);
        }
        self.auth.write(batch);
        Members::default().begin(&self.members, batch);
        batch.put(Table::Meta, APPLIED, &self.position.encode_to_vec());
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::authpb::{Role, User};
    use keelson_api::etcdserverpb::{AlarmType, PutRequest};
    use keelson_api::keelson::command::Action;
    use keelson_api::keelson::{Command, FirstMembers, LeaseGrant, MemberRemove};
    use keelson_mvcc::MemoryBackend;

    use super::*;
    use crate::Machine;

    fn applied(machine: &mut Machine<MemoryBackend>, action: Action) {
        machine.apply(&Command { action: Some(action), ..Command::default() }, 1, 1).unwrap().unwrap();
    }

    #[test]
    fn what_is_written_of_a_frozen_state_is_that_state() {
        let (mut machine, _) = Machine::open(MemoryBackend::default()).unwrap();
        let member = |id| Member { id, name: format!("m{id}"), ..Member::default() };
        applied(&mut machine, Action::FirstMembers(FirstMembers { members: vec![member(1), member(2)] }));
        applied(&mut machine, Action::MemberRemove(MemberRemove { id: 2 }));
        applied(&mut machine, Action::LeaseGrant(LeaseGrant { id: 7, ttl: 60 }));
        applied(&mut machine, Action::Put(PutRequest { key: "k".into(), lease: 7, ..PutRequest::default() }));
        let raise = AlarmRequest { action: AlarmAction::Activate.into(), member_id: 1, alarm: AlarmType::Nospace.into() };
        applied(&mut machine, Action::Alarm(raise));
        let position = Position { term: 3, index: 9, membership: None };
        machine.commit(&position).unwrap();

        let frozen = machine.shared().freeze().unwrap();
        assert_eq!(frozen.marks, Marks { revision: 2, compacted: -1 });
        let Surroundings { leases, alarms, members, removed, .. } = &frozen.around;
        assert_eq!((leases.as_slice(), alarms.len(), removed.as_slice()), ([(7, 60, 0)].as_slice(), 1, [2].as_slice()));
        assert_eq!((members.as_slice(), &frozen.around.position), ([member(1)].as_slice(), &position));

        let row = |name: &str, row: Vec<u8>| (name.as_bytes().to_vec(), row);
        let user = |name: &'static str| row(name, User { name: name.into(), ..User::default() }.encode_to_vec());
        let role = |name: &'static str| row(name, Role { name: name.into(), ..Role::default() }.encode_to_vec());
        let (users, roles) = (vec![user("root"), user("u")], vec![role("r")]);
        let auth = AuthRows { is_on: true, revision: 9, users, roles };
        let around = Surroundings { auth, removed: Vec::new(), ..frozen.around };

        let backend = MemoryBackend::default();
        let mut batch = backend.batch();
        around.write(&mut batch);
        backend.write(batch).unwrap();
        let (copy, at) = Machine::open(backend).unwrap();
        assert_eq!(at, position);
        assert_eq!(copy.shared().freeze().unwrap().around, around);
    }
}
