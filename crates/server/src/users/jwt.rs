//! JSON web tokens: who it is and at which auth revision, signed. Whoever has the public key can check one, so members need not
//! know of each other's; an outdated one says so itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keelson_api::Error;
use serde_json::{Value, json};

use super::Asker;
use super::keys::Key;
use crate::config::JwtOptions;

/// Signs and reads tokens.
pub struct Jwt {
    method: String,
    key: Key,
    ttl: Duration,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Whether a moment that a token may name lies on the right side of now. One that is no number is on neither.
fn allows(claims: &Value, name: &str, fits: impl FnOnce(f64) -> bool) -> bool {
    match claims.get(name) {
        None => true,
        Some(moment) => moment.as_f64().is_some_and(fits),
    }
}

impl Jwt {
    /// Reads the keys.
    pub fn open(options: &JwtOptions) -> Result<Self, String> {
        Ok(Self { method: options.method.clone(), key: Key::open(options)?, ttl: options.ttl })
    }

    /// A token for a user whose password was right at this auth revision.
    pub fn sign(&self, user: &str, revision: u64, now: SystemTime) -> Result<String, Error> {
        let header = json!({ "alg": self.method, "typ": "JWT" });
        let claims = json!({ "username": user, "revision": revision, "exp": seconds(now + self.ttl) });
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Who a token is about, if it was signed with the key, in the way that was asked for, and its time has not passed.
    pub fn read(&self, token: &str, now: SystemTime) -> Option<Asker> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let (header, signature) = (decode(header)?, URL_SAFE_NO_PAD.decode(signature).ok()?);
        // What a token says of its own signature is not to be trusted: one way alone is good.
        if header.get("alg")?.as_str()? != self.method || !self.key.has_signed(signed.as_bytes(), &signature) {
            return None;
        }
        let (claims, now) = (decode(claims)?, seconds(now) as f64);
        if !allows(&claims, "exp", |end| now < end) || !allows(&claims, "nbf", |begin| now >= begin) {
            return None;
        }
        let user = claims.get("username")?.as_str()?.to_owned();
        let revision = claims.get("revision")?.as_f64()? as u64;
        Some(Asker { user, revision })
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
