//! How to reach a cluster, from the flags.

use std::time::Duration;

use super::srv;
use super::tls::Files;
use crate::cli::Values;
use crate::exit::Failure;
use crate::password;

/// gRPC probes no more often, whatever is asked for: servers take it for an attack.
const SHORTEST_PROBE: Duration = Duration::from_secs(10);
const DEFAULT_REQUEST_BYTES: usize = 2 * 1024 * 1024;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Nobody,
    Token(String),
    Password { user: String, password: String },
}

impl Login {
    /// `user` is a name, or name and password with a colon between; who leaves the password out is asked.
    pub fn of(user: &str, password: &str, prompt: &str) -> Result<Self, Failure> {
        if user.is_empty() {
            return Ok(Login::Nobody);
        }
        let (user, password) = match user.split_once(':') {
            _ if !password.is_empty() => (user, password.to_owned()),
            Some((user, password)) => (user, password.to_owned()),
            None => (user, password::ask(prompt)?),
        };
        Ok(Login::Password { user: user.to_owned(), password })
    }
}

/// What connections of one command line have in common, wherever they lead.
#[derive(Clone, Debug)]
pub struct Ways {
    pub dial_timeout: Duration,
    pub probe_after: Duration,
    pub probe_timeout: Duration,
    pub request_bytes: usize,
    pub response_bytes: usize,
    /// How long one call may take; `None` for those that wait for ever.
    pub limit: Option<Duration>,
    pub debug: bool,
}

impl Ways {
    pub fn of(flags: &Values) -> Result<Self, Failure> {
        let bytes = |name, default: usize| match usize::try_from(flags.int(name)) {
            Ok(0) | Err(_) => default,
            Ok(bytes) => bytes,
        };
        let (send, receive) = (flags.int("max-request-bytes"), flags.int("max-recv-bytes"));
        if receive > 0 && send > receive {
            return Err(Failure::new(
                crate::exit::BAD_CONNECTION,
                format!("gRPC message recv limit ({receive} bytes) must be greater than send limit ({send} bytes)"),
            ));
        }
        Ok(Self {
            dial_timeout: flags.duration("dial-timeout"),
            probe_after: flags.duration("keepalive-time"),
            probe_timeout: flags.duration("keepalive-timeout"),
            request_bytes: bytes("max-request-bytes", DEFAULT_REQUEST_BYTES),
            response_bytes: bytes("max-recv-bytes", i32::MAX as usize),
            limit: Some(flags.duration("command-timeout")),
            debug: flags.on("debug"),
        })
    }

    /// How often to probe a connection, unless it is never to be.
    pub fn probe(&self) -> Option<Duration> {
        (!self.probe_after.is_zero()).then(|| self.probe_after.max(SHORTEST_PROBE))
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub endpoints: Vec<String>,
    pub files: Files,
    pub login: Login,
    pub ways: Ways,
}

impl Config {
    pub async fn of(flags: &Values) -> Result<Self, Failure> {
        for name in ["cert", "key", "cacert"] {
            if flags.given(name) && flags.text(name).is_empty() {
                return Err(Failure::args(format!("empty string is passed to --{name} option")));
            }
        }
        let domain = flags.text("discovery-srv");
        let take_insecure = flags.on("insecure-discovery");
        let files = Files {
            cert: flags.text("cert").into(),
            key: flags.text("key").into(),
            authorities: flags.text("cacert").into(),
            // Whoever answers for a domain is trusted only when all of them must show a certificate for it.
            server_name: if take_insecure { String::new() } else { domain.into() },
            without_tls: flags.on("insecure-transport"),
            trust_anybody: flags.on("insecure-skip-tls-verify"),
        };
        let login = match flags.text("auth-jwt-token") {
            "" => Login::of(flags.text("user"), flags.text("password"), "Password: ")?,
            token => Login::Token(token.into()),
        };
        let mut endpoints = Vec::new();
        if !domain.is_empty() {
            endpoints = srv::find(domain, flags.text("discovery-srv-name"), take_insecure).await?;
        }
        if endpoints.is_empty() {
            endpoints = flags.list("endpoints").iter().map(|endpoint| endpoint.trim().to_owned()).collect();
        }
        Ok(Self { endpoints, files, login, ways: Ways::of(flags)? })
    }

    /// The same, for one endpoint.
    pub fn at(&self, endpoint: &str) -> Self {
        Self { endpoints: vec![endpoint.to_owned()], ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_stand_behind_the_name_or_alone() {
        let login = |user: &str, password: &str| Login::of(user, password, "").unwrap();
        let both = |user: &str, password: &str| Login::Password { user: user.into(), password: password.into() };
        assert_eq!(login("", "ignored"), Login::Nobody);
        assert_eq!(login("root:a:b", ""), both("root", "a:b"));
        assert_eq!(login("ro:ot", "secret"), both("ro:ot", "secret"));
    }
}
