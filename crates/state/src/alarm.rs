//! Alarms: a member raises one, the whole cluster heeds it, a person disarms it.

use std::collections::BTreeSet;

use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse, AlarmType};
use keelson_mvcc::{StorageError, Table, WriteBatch};

const PREFIX: &[u8] = b"alarm/";

/// Raised alarms as (type, member).
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms {
    raised: BTreeSet<(i32, u64)>,
}

fn row_key(kind: i32, member: u64) -> Vec<u8> {
    [PREFIX, &kind.to_be_bytes(), &member.to_be_bytes()].concat()
}

impl Alarms {
    pub(crate) fn is_raised(&self, kind: AlarmType) -> bool {
        self.raised.iter().any(|(k, _)| *k == kind as i32)
    }

    pub(crate) fn list(&self) -> Vec<AlarmMember> {
        self.raised.iter().map(|(alarm, id)| AlarmMember { member_id: *id, alarm: *alarm }).collect()
    }

    fn of_kind(&self, kind: i32) -> Vec<AlarmMember> {
        let wanted = |a: &AlarmMember| kind == AlarmType::None as i32 || a.alarm == kind;
        self.list().into_iter().filter(wanted).collect()
    }

    pub(crate) fn apply(&mut self, r: &AlarmRequest, batch: &mut impl WriteBatch) -> AlarmResponse {
        let alarms = match r.action() {
            AlarmAction::Get => self.of_kind(r.alarm),
            AlarmAction::Activate => {
                if r.alarm == AlarmType::None as i32 {
                    Vec::new()
                } else {
                    self.raised.insert((r.alarm, r.member_id));
                    batch.put(Table::Meta, &row_key(r.alarm, r.member_id), &[]);
                    vec![AlarmMember { member_id: r.member_id, alarm: r.alarm }]
                }
            }
            AlarmAction::Deactivate => {
                if self.raised.remove(&(r.alarm, r.member_id)) {
                    batch.delete(Table::Meta, &row_key(r.alarm, r.member_id));
                    vec![AlarmMember { member_id: r.member_id, alarm: r.alarm }]
                } else {
                    Vec::new()
                }
            }
        };
        AlarmResponse { header: None, alarms }
    }

    pub(crate) fn load_row(&mut self, key: &[u8]) -> Result<bool, StorageError> {
        let Some(rest) = key.strip_prefix(PREFIX) else { return Ok(false) };
        let damaged = || StorageError("an alarm row cannot be decoded: the state store is damaged".into());
        let (kind, member) = rest.split_at_checked(4).ok_or_else(damaged)?;
        let kind = kind.try_into().map(i32::from_be_bytes).map_err(|_| damaged())?;
        let member = member.try_into().map(u64::from_be_bytes).map_err(|_| damaged())?;
        self.raised.insert((kind, member));
        Ok(true)
    }
}
