//! Users, their roles, and what those give: who may do what, and since which auth revision.
//!
//! All of it is replicated state. That revision counts changes of users and roles, apart from the revision of keys: a request
//! was admitted at one, and is refused if it is applied at a later one.

mod change;
mod check;
mod rights;
mod rows;

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_api::Error;
use keelson_api::authpb::permission::Type;
use keelson_api::authpb::{Permission, Role, User};

pub use rights::Right;
use rights::Rights;

/// The role that may do everything, and the user that must have it before users are asked for.
const ROOT: &str = "root";
/// Auth revision of a store without users.
const FIRST: u64 = 1;

/// Who asks, and at which auth revision that was found out. Nobody has neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Caller<'a> {
    pub user: &'a str,
    pub revision: u64,
}

/// What becomes of the tokens of who has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// A token stands for a user from now on.
    Given {
        /// The token.
        token: String,
        /// Its user.
        user: String,
    },
    /// No token of this user is good any more.
    Taken(String),
    /// No token is.
    AllTaken,
}

/// A user, and what its roles come to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    row: User,
    rights: Rights,
}

impl Known {
    fn has(&self, role: &str) -> bool {
        self.row.roles.iter().any(|r| r == role)
    }

    fn has_password(&self) -> bool {
        !self.row.options.as_ref().is_some_and(|options| options.no_password)
    }
}

/// All users and roles.
#[derive(Clone, Debug, PartialEq)]
pub struct Users {
    is_on: bool,
    revision: u64,
    by_name: BTreeMap<String, Known>,
    roles: BTreeMap<String, Role>,
}

impl Default for Users {
    fn default() -> Self {
        Self { is_on: false, revision: FIRST, by_name: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

impl Users {
    /// Whether requests are checked at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.is_on
    }

    /// The auth revision.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Names of all users.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    /// Names of all roles.
    #[must_use]
    pub fn role_names(&self) -> Vec<String> {
        self.roles.keys().cloned().collect()
    }

    /// Roles of a user.
    pub fn roles_of(&self, name: &str) -> Result<Vec<String>, Error> {
        self.user(name).map(|known| known.row.roles.clone())
    }

    /// Whether there is such a user with such a role.
    #[must_use]
    pub fn has_role(&self, name: &str, role: &str) -> bool {
        self.by_name.get(name).is_some_and(|known| known.has(role))
    }

    /// What a role gives.
    pub fn permissions(&self, role: &str) -> Result<Vec<Permission>, Error> {
        let found = self.roles.get(role).ok_or(Error::RoleNotFound)?;
        if role == ROOT {
            let range_end = Bytes::from_static(&[0]);
            return Ok(vec![Permission { perm_type: Type::Readwrite.into(), key: Bytes::new(), range_end }]);
        }
        Ok(found.key_permission.clone())
    }

    /// The hash of a user's password, to compare with what is said to be that password.
    pub fn password(&self, name: &str) -> Result<Bytes, Error> {
        if !self.is_on {
            return Err(Error::AuthNotEnabled);
        }
        let known = self.by_name.get(name).ok_or(Error::AuthFailed)?;
        if known.has_password() { Ok(known.row.password.clone()) } else { Err(Error::NoPasswordUser) }
    }

    fn user(&self, name: &str) -> Result<&Known, Error> {
        self.by_name.get(name).ok_or(Error::UserNotFound)
    }
}
