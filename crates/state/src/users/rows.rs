//! Users and roles as rows of the state store.

use keelson_api::authpb::{Role, User};
use keelson_mvcc::{StorageError, Table, WriteBatch};
use prost::Message;

use super::rights::Rights;
use super::{Known, Users};

const ENABLED: &[u8] = b"auth/enabled";
const REVISION: &[u8] = b"auth/revision";
const USER: &[u8] = b"auth-user/";
const ROLE: &[u8] = b"auth-role/";

fn damaged() -> StorageError {
    StorageError("a row of a user or a role cannot be decoded: the state store is damaged".into())
}

fn row_key(prefix: &[u8], name: &str) -> Vec<u8> {
    [prefix, name.as_bytes()].concat()
}

pub(super) fn put_user(user: &User, batch: &mut impl WriteBatch) {
    batch.put(Table::Meta, &[USER, &user.name[..]].concat(), &user.encode_to_vec());
}

pub(super) fn delete_user(name: &str, batch: &mut impl WriteBatch) {
    batch.delete(Table::Meta, &row_key(USER, name));
}

pub(super) fn put_role(role: &Role, batch: &mut impl WriteBatch) {
    batch.put(Table::Meta, &[ROLE, &role.name[..]].concat(), &role.encode_to_vec());
}

pub(super) fn delete_role(name: &str, batch: &mut impl WriteBatch) {
    batch.delete(Table::Meta, &row_key(ROLE, name));
}

pub(super) fn put_enabled(is_on: bool, batch: &mut impl WriteBatch) {
    if is_on {
        batch.put(Table::Meta, ENABLED, &[]);
    } else {
        batch.delete(Table::Meta, ENABLED);
    }
}

pub(super) fn put_revision(revision: u64, batch: &mut impl WriteBatch) {
    batch.put(Table::Meta, REVISION, &revision.to_be_bytes());
}

/// The name in a key, which is also in its row.
fn name_of(key: &[u8], row: &[u8]) -> Result<String, StorageError> {
    if key != row {
        return Err(damaged());
    }
    String::from_utf8(key.to_vec()).map_err(|_| damaged())
}

impl Users {
    /// Takes a row if it is one of these. What roles give is found out once all are there: [`Self::settle`].
    pub(crate) fn load_row(&mut self, key: &[u8], value: &[u8]) -> Result<bool, StorageError> {
        if key == ENABLED {
            self.is_on = true;
        } else if key == REVISION {
            let revision = value.try_into().map(u64::from_be_bytes).map_err(|_| damaged())?;
            self.revision = Some(revision).filter(|r| *r > 0).ok_or_else(damaged)?;
        } else if let Some(name) = key.strip_prefix(USER) {
            let row = User::decode(value).map_err(|_| damaged())?;
            self.by_name.insert(name_of(name, &row.name)?, Known { row, rights: Rights::default() });
        } else if let Some(name) = key.strip_prefix(ROLE) {
            let row = Role::decode(value).map_err(|_| damaged())?;
            self.roles.insert(name_of(name, &row.name)?, row);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Makes use of the rows that were loaded.
    pub(crate) fn settle(&mut self) {
        self.refresh(|_| true);
    }
}
