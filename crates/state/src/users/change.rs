//! Changes of users and roles, as commands bring them. Each moves the auth revision on by one, apart from turning the
//! asking for users on.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_api::Error;
use keelson_api::authpb::{Permission, Role, User, UserAddOptions};
use keelson_api::etcdserverpb::{
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
};
use keelson_api::keelson::{SignIn, UserAdd, UserPassword};
use keelson_mvcc::WriteBatch;

use super::rights::Rights;
use super::{Known, ROOT, Users, rows};

impl Users {
    pub(crate) fn enable(&mut self, batch: &mut impl WriteBatch) -> Result<(), Error> {
        if self.is_on {
            return Ok(());
        }
        let root = self.by_name.get(ROOT).ok_or(Error::RootUserNotExist)?;
        if !root.has(ROOT) {
            return Err(Error::RootRoleNotExist);
        }
        self.is_on = true;
        rows::put_enabled(true, batch);
        Ok(())
    }

    pub(crate) fn disable(&mut self, batch: &mut impl WriteBatch) {
        if self.is_on {
            self.is_on = false;
            rows::put_enabled(false, batch);
            self.count(batch);
        }
    }

    /// Whether somebody whose password was right a moment ago may be given a token.
    pub(crate) fn sign_in(&self, r: &SignIn) -> Result<(), Error> {
        self.password(&r.name).map_err(|e| if e == Error::NoPasswordUser { Error::AuthFailed } else { e })?;
        if r.auth_revision == self.revision { Ok(()) } else { Err(Error::AuthOldRevision) }
    }

    pub(crate) fn add_user(&mut self, r: &UserAdd, batch: &mut impl WriteBatch) -> Result<(), Error> {
        if r.name.is_empty() {
            return Err(Error::UserEmpty);
        }
        if self.by_name.contains_key(&r.name) {
            return Err(Error::UserAlreadyExists);
        }
        let row = User {
            name: owned(r.name.as_bytes()),
            password: if r.no_password { Bytes::new() } else { owned(&r.password) },
            options: Some(UserAddOptions { no_password: r.no_password }),
            roles: Vec::new(),
        };
        rows::put_user(&row, batch);
        self.by_name.insert(r.name.clone(), Known { row, rights: Rights::default() });
        self.count(batch);
        Ok(())
    }

    pub(crate) fn delete_user(&mut self, name: &str, batch: &mut impl WriteBatch) -> Result<(), Error> {
        if self.is_on && name == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        self.by_name.remove(name).ok_or(Error::UserNotFound)?;
        rows::delete_user(name, batch);
        self.count(batch);
        Ok(())
    }

    pub(crate) fn set_password(&mut self, r: &UserPassword, batch: &mut impl WriteBatch) -> Result<(), Error> {
        let known = self.by_name.get_mut(&r.name).ok_or(Error::UserNotFound)?;
        known.row.password = if known.has_password() { owned(&r.password) } else { Bytes::new() };
        rows::put_user(&known.row, batch);
        self.count(batch);
        Ok(())
    }

    pub(crate) fn grant_role(&mut self, r: &AuthUserGrantRoleRequest, batch: &mut impl WriteBatch) -> Result<(), Error> {
        let known = self.by_name.get_mut(&r.user).ok_or(Error::UserNotFound)?;
        // There need not be a role of that name for what it means.
        if r.role != ROOT && !self.roles.contains_key(&r.role) {
            return Err(Error::RoleNotFound);
        }
        let Err(at) = known.row.roles.binary_search(&r.role) else { return Ok(()) };
        known.row.roles.insert(at, r.role.clone());
        rows::put_user(&known.row, batch);
        self.refresh(|user| user.name == r.user.as_bytes());
        self.count(batch);
        Ok(())
    }

    pub(crate) fn revoke_role(&mut self, r: &AuthUserRevokeRoleRequest, batch: &mut impl WriteBatch) -> Result<(), Error> {
        if self.is_on && r.name == ROOT && r.role == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        let known = self.by_name.get_mut(&r.name).ok_or(Error::UserNotFound)?;
        if !known.has(&r.role) {
            return Err(Error::RoleNotGranted);
        }
        known.row.roles.retain(|role| *role != r.role);
        rows::put_user(&known.row, batch);
        self.refresh(|user| user.name == r.name.as_bytes());
        self.count(batch);
        Ok(())
    }

    pub(crate) fn add_role(&mut self, name: &str, batch: &mut impl WriteBatch) -> Result<(), Error> {
        if name.is_empty() {
            return Err(Error::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(Error::RoleAlreadyExists);
        }
        let row = Role { name: owned(name.as_bytes()), key_permission: Vec::new() };
        rows::put_role(&row, batch);
        self.roles.insert(name.to_owned(), row);
        self.count(batch);
        Ok(())
    }

    pub(crate) fn delete_role(&mut self, name: &str, batch: &mut impl WriteBatch) -> Result<(), Error> {
        if self.is_on && name == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        self.roles.remove(name).ok_or(Error::RoleNotFound)?;
        rows::delete_role(name, batch);
        for known in self.by_name.values_mut().filter(|known| known.has(name)) {
            known.row.roles.retain(|role| role != name);
            known.rights = rights(&known.row, &self.roles);
            rows::put_user(&known.row, batch);
        }
        self.count(batch);
        Ok(())
    }

    pub(crate) fn grant_permission(
        &mut self,
        r: &AuthRoleGrantPermissionRequest,
        batch: &mut impl WriteBatch,
    ) -> Result<(), Error> {
        let wanted = r.perm.as_ref().ok_or(Error::PermissionNotGiven)?;
        if !is_valid(wanted) {
            return Err(Error::InvalidAuthMgmt);
        }
        let role = self.roles.get_mut(&r.name).ok_or(Error::RoleNotFound)?;
        let granted = &mut role.key_permission;
        // As in etcd, only the first range from a key on is replaced; another one from there is granted beside it.
        let first = granted.partition_point(|p| p.key < wanted.key);
        match granted.get_mut(first).filter(|p| is_same(p, &wanted.key, &wanted.range_end)) {
            Some(same) => same.perm_type = wanted.perm_type,
            None => {
                let after = granted.partition_point(|p| p.key <= wanted.key);
                let (key, range_end) = (owned(&wanted.key), owned(&wanted.range_end));
                granted.insert(after, Permission { perm_type: wanted.perm_type, key, range_end });
            }
        }
        rows::put_role(role, batch);
        self.refresh(|user| user.roles.contains(&r.name));
        self.count(batch);
        Ok(())
    }

    pub(crate) fn revoke_permission(
        &mut self,
        r: &AuthRoleRevokePermissionRequest,
        batch: &mut impl WriteBatch,
    ) -> Result<(), Error> {
        let role = self.roles.get_mut(&r.role).ok_or(Error::RoleNotFound)?;
        let before = role.key_permission.len();
        role.key_permission.retain(|p| !is_same(p, &r.key, &r.range_end));
        if role.key_permission.len() == before {
            return Err(Error::PermissionNotGranted);
        }
        rows::put_role(role, batch);
        self.refresh(|user| user.roles.contains(&r.role));
        self.count(batch);
        Ok(())
    }

    fn count(&mut self, batch: &mut impl WriteBatch) {
        // Its last value is never reached; a damaged row that claims it must not bring the process down.
        self.revision = self.revision.saturating_add(1);
        rows::put_revision(self.revision, batch);
    }

    /// Finds out anew what the roles of some users come to.
    pub(super) fn refresh(&mut self, concerned: impl Fn(&User) -> bool) {
        for known in self.by_name.values_mut().filter(|known| concerned(&known.row)) {
            known.rights = rights(&known.row, &self.roles);
        }
    }
}

fn rights(user: &User, roles: &BTreeMap<String, Role>) -> Rights {
    Rights::of(user.roles.iter().filter_map(|role| roles.get(role)).flat_map(|role| &role.key_permission))
}

fn is_same(permission: &Permission, key: &Bytes, range_end: &Bytes) -> bool {
    permission.key == *key && permission.range_end == *range_end
}

/// A range that some key can be in.
fn is_valid(permission: &Permission) -> bool {
    let (key, end) = (&permission.key, &permission.range_end);
    !key.is_empty() && (end.is_empty() || key < end || end[..] == [0])
}

/// A copy, so that what is kept for long does not keep a whole log entry alive.
fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
