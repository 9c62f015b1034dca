//! Who asks. A call brings a token that its user was given when it signed in, or comes over a connection with a
//! certificate that names one. What users may do is replicated state (`keelson_state::Users`); this is about who they are.

mod jwt;
mod keys;
mod password;
mod simple;
mod tokens;

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use keelson_api::Error;
use keelson_api::etcdserverpb::RangeRequest;
use keelson_state::{Caller, Right};

use crate::grpc::Call;
use crate::member::Member;

pub use keys::knows as knows_sign_method;
pub use password::{hash, is_right, significant, too_dear};
pub use simple::new_prefix;
pub use tokens::Tokens;

/// Who asks, as found out when the request came in: the user, and the auth revision. Nobody has neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// Its user.
    pub user: String,
    /// Auth revision at which that was so.
    pub revision: u64,
}

impl Asker {
    /// The same, to be checked.
    pub fn caller(&self) -> Caller<'_> {
        Caller { user: &self.user, revision: self.revision }
    }
}

/// The token of a call, under either of the names that clients have for it.
fn token(headers: &HeaderMap) -> Option<Result<&str, Error>> {
    let value = headers.get("token").or_else(|| headers.get(http::header::AUTHORIZATION))?;
    let text = value.to_str().map_err(|_| Error::InvalidAuthToken);
    Some(text.map(|text| text.strip_prefix("Bearer ").unwrap_or(text)))
}

/// The user that the certificate names. Those that a gateway passes on come over its own connection.
fn certified(call: &Call) -> Option<&str> {
    let name = call.certificate_name.as_deref()?;
    (!call.headers.contains_key("grpcgateway-accept")).then_some(name)
}

impl Member {
    /// Who makes this call, perhaps nobody; `None` while users are not asked for. A token that is not known is refused.
    pub async fn asker(&self, call: &Call) -> Result<Option<Asker>, Error> {
        if !self.state.auth_is_on() {
            return Ok(None);
        }
        // Boxed, so that calls have no room for it while there are no users.
        Box::pin(self.identify(call)).await.map(Some)
    }

    async fn identify(&self, call: &Call) -> Result<Asker, Error> {
        let Some(token) = token(&call.headers) else {
            let revision = self.state.users().revision();
            return Ok(certified(call).map_or_else(Asker::default, |name| Asker { user: name.to_owned(), revision }));
        };
        let token = token?;
        // Given by another member, it is known here once that has been applied.
        if let Some(index) = self.tokens.known_from(token)?
            && !self.node.has_applied(index)
            && !self.catches_up_to(index, call.timeout).await
        {
            return Err(Error::InvalidAuthToken);
        }
        let revision = self.state.users().revision();
        let asker = self.tokens.asker(token, revision, SystemTime::now());
        if asker.is_none() {
            tracing::warn!("invalid auth token");
        }
        asker.ok_or(Error::InvalidAuthToken)
    }

    /// Whether an entry has been applied here that somebody says has been applied elsewhere. If that is true, the proof that
    /// nothing newer is known elsewhere comes to it. It is not waited for without: it may be made up, and never come.
    async fn catches_up_to(&self, index: u64, timeout: Option<Duration>) -> bool {
        let limit = timeout.unwrap_or(self.request_timeout());
        let proof = tokio::time::timeout(limit, self.read_barrier()).await;
        matches!(proof, Ok(Ok(()))) && self.node.has_applied(index)
    }

    /// The same, who must be somebody.
    pub async fn somebody(&self, call: &Call) -> Result<Option<Asker>, Error> {
        match self.asker(call).await? {
            Some(asker) if asker.revision == 0 => Err(Error::UserEmpty),
            asker => Ok(asker),
        }
    }

    /// Lets nobody but root go on.
    pub async fn root(&self, call: &Call) -> Result<(), Error> {
        match self.asker(call).await? {
            Some(asker) => self.state.users().check_root(asker.caller()),
            None => Ok(()),
        }
    }

    /// Who makes this call, if it may read a range.
    pub async fn reader(&self, call: &Call, request: &RangeRequest) -> Result<Option<Asker>, Error> {
        let asker = self.asker(call).await?;
        if let Some(asker) = &asker {
            self.state.users().check(asker.caller(), Right::Read, &request.key, &request.range_end)?;
        }
        Ok(asker)
    }

    /// Refuses what has been read meanwhile if users have changed since the asker was let in.
    pub fn still_holds(&self, asker: Option<&Asker>) -> Result<(), Error> {
        match asker {
            Some(asker) if asker.revision != 0 && asker.revision != self.state.users().revision() => Err(Error::AuthOldRevision),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};

    use super::*;

    fn call(headers: &[(&'static str, &'static str)], certificate_name: Option<&str>) -> Call {
        let mut all = HeaderMap::new();
        all.insert("content-type", HeaderValue::from_static("application/grpc"));
        for (name, value) in headers {
            all.insert(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let call = Call::new(&Method::POST, all).unwrap();
        Call { certificate_name: certificate_name.map(Into::into), ..call }
    }

    #[test]
    fn a_token_comes_under_either_name_with_or_without_bearer() {
        let read = |headers: &[(&'static str, &'static str)]| token(&call(headers, None).headers).map(|t| t.unwrap().to_owned());
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("token", "a.1")]).as_deref(), Some("a.1"));
        assert_eq!(read(&[("authorization", "Bearer a.1")]).as_deref(), Some("a.1"));
        assert_eq!(read(&[("token", "Bearer a.1"), ("authorization", "b.2")]).as_deref(), Some("a.1"));
        assert!(token(&call(&[("token", "é")], None).headers).unwrap().is_err());
    }

    #[test]
    fn a_certificate_does_not_speak_for_whom_a_gateway_passes_on() {
        assert_eq!(certified(&call(&[], Some("ann"))), Some("ann"));
        assert_eq!(certified(&call(&[("grpcgateway-accept", "x")], Some("ann"))), None);
        assert_eq!(certified(&call(&[], None)), None);
    }
}
