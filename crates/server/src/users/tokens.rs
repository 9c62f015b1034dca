//! Which kind of tokens there are, by `--auth-token`.

use std::time::{Instant, SystemTime};

use keelson_api::Error;
use keelson_state::TokenChange;

use super::Asker;
use super::jwt::Jwt;
use super::simple::{self, SimpleTokens};
use crate::config::{Config, TokenKind};

/// What users are given for their passwords.
pub enum Tokens {
    /// What all members know from the log.
    Simple(SimpleTokens),
    /// What tells of itself, and is signed.
    Jwt(Box<Jwt>),
    /// Nothing: there are certificates only.
    None,
}

impl Tokens {
    /// Reads the keys, if there are any; an error names the file that cannot be used.
    pub fn open(config: &Config) -> Result<Self, String> {
        Ok(match &config.tokens {
            TokenKind::Simple => Self::Simple(SimpleTokens::new(config.simple_token_ttl)),
            TokenKind::Jwt(options) => Self::Jwt(Box::new(Jwt::open(options)?)),
            TokenKind::None => Self::None,
        })
    }

    /// The log entry up to which this member must have applied all before it can tell whose token this is.
    pub fn known_from(&self, token: &str) -> Result<Option<u64>, Error> {
        match self {
            Self::Simple(_) => simple::index_of(token).map(Some).ok_or(Error::InvalidAuthToken),
            Self::Jwt(_) | Self::None => Ok(None),
        }
    }

    /// Whose token this is. A simple one does not tell since when: its user is known at the present auth revision.
    pub fn asker(&self, token: &str, revision: u64, now: SystemTime) -> Option<Asker> {
        match self {
            Self::Simple(tokens) => tokens.user_of(token, Instant::now()).map(|user| Asker { user, revision }),
            Self::Jwt(jwt) => jwt.read(token, now),
            Self::None => None,
        }
    }

    /// Follows what the log says of tokens.
    pub fn follow(&self, changes: Vec<TokenChange>) {
        if let Self::Simple(tokens) = self {
            let now = Instant::now();
            changes.into_iter().for_each(|change| tokens.follow(change, now));
        }
    }
}
