//! Where a new cluster's members are found when the flags do not name them.

use std::time::Duration;

use super::security::Security;
use super::settings::Settings;
use crate::tls::Protocol;

/// How the first members find each other.
#[derive(Clone, Debug)]
pub enum Discovery {
    /// They are named by `--initial-cluster`.
    Named,
    /// DNS has a list of them.
    Dns {
        /// The domain that has the list.
        domain: String,
        /// Tells several clusters of one domain apart; may be empty.
        service: String,
    },
    /// They write themselves into a cluster that runs already.
    Registry(Box<Registry>),
}

/// A cluster that members of a new one meet in.
#[derive(Clone, Debug)]
pub struct Registry {
    /// Tells new clusters apart.
    pub token: String,
    /// Where it is.
    pub endpoints: Vec<String>,
    /// For a connection to be made.
    pub dial_limit: Duration,
    /// For a call.
    pub call_limit: Duration,
    /// Between pings.
    pub ping: Duration,
    /// How it is called over https.
    pub security: Security,
    /// Name and password, where it has users.
    pub user: Option<(String, String)>,
}

/// Reads the flags.
pub fn read(s: &Settings, protocol: &Protocol) -> Result<Discovery, String> {
    if s.text("discovery-fallback") != "exit" {
        return Err("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"; the value is exit".into());
    }
    let is_named = !s.text("initial-cluster").is_empty();
    let (domain, token) = (s.text("discovery-srv"), s.text("discovery-token"));
    let endpoints: Vec<String> = match s.text("discovery-endpoints") {
        none if none.is_empty() => Vec::new(),
        list => list.split(',').map(|endpoint| endpoint.trim().to_owned()).collect(),
    };
    if [is_named, !domain.is_empty(), !endpoints.is_empty()].into_iter().filter(|set| *set).count() > 1 {
        return Err(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \
                    \"discovery-srv\""
                .into(),
        );
    }
    if token.is_empty() != endpoints.is_empty() {
        return Err("both --discovery-token and --discovery-endpoints must be set".into());
    }
    if endpoints.iter().any(String::is_empty) {
        return Err("--discovery-endpoints must not contain empty endpoints".into());
    }
    if !domain.is_empty() {
        return Ok(Discovery::Dns { domain, service: s.text("discovery-srv-name") });
    }
    if endpoints.is_empty() {
        return Ok(Discovery::Named);
    }
    let as_client = s.pair("discovery-cert", "discovery-key")?;
    let trusted_ca = s.file("discovery-cacert");
    let trusts_anybody = s.bool("discovery-insecure-skip-tls-verify");
    let security = Security { as_client, trusted_ca, trusts_anybody, ..Security::none(protocol) };
    let user = match (s.text("discovery-user"), s.text("discovery-password")) {
        (user, _) if user.is_empty() => None,
        (user, password) if password.is_empty() => match user.split_once(':') {
            Some((user, password)) => Some((user.to_owned(), password.to_owned())),
            None => return Err("--discovery-user needs a password: NAME:PASSWORD, or --discovery-password".into()),
        },
        both => Some(both),
    };
    // A scheme that is not written is a matter of a flag.
    let scheme = if s.bool("discovery-insecure-transport") { "http" } else { "https" };
    let endpoints = endpoints.into_iter().map(|e| if e.contains("://") { e } else { format!("{scheme}://{e}") }).collect();
    Ok(Discovery::Registry(Box::new(Registry {
        dial_limit: s.duration("discovery-dial-timeout")?,
        call_limit: s.duration("discovery-request-timeout")?,
        ping: s.duration("discovery-keepalive-timeout")?,
        token,
        endpoints,
        security,
        user,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flags: &[(&'static str, &str)], is_named: bool) -> Result<Discovery, String> {
        let mut s = Settings::of(flags);
        if is_named {
            s.values.insert("initial-cluster", "a=http://a:1".to_owned());
        }
        read(&s, &Protocol::new("TLS1.2", "", &[]).unwrap().0)
    }

    #[test]
    fn members_are_found_one_way_only() {
        assert!(matches!(of(&[], true), Ok(Discovery::Named)));
        assert!(matches!(of(&[("discovery-srv", "example.com")], false), Ok(Discovery::Dns { .. })));
        assert!(of(&[("discovery-srv", "example.com")], true).unwrap_err().contains("multiple discovery"));
        assert!(of(&[("discovery-token", "t")], false).unwrap_err().contains("both"));
        assert!(of(&[("discovery-endpoints", "a")], false).unwrap_err().contains("both"));
        assert!(of(&[("discovery-token", "t"), ("discovery-endpoints", "a,,b")], false).unwrap_err().contains("empty"));
        assert!(of(&[("discovery-fallback", "proxy")], true).unwrap_err().contains("proxy"));
    }

    #[test]
    fn a_registry_has_urls_and_a_user_with_a_password() {
        let both = [("discovery-token", "t"), ("discovery-endpoints", "a:2379,https://b:2379"), ("discovery-user", "u:p:q")];
        let Ok(Discovery::Registry(registry)) = of(&both, false) else { panic!() };
        assert_eq!(registry.endpoints, ["http://a:2379", "https://b:2379"]);
        assert_eq!(registry.user, Some(("u".into(), "p:q".into())));
        assert_eq!(registry.dial_limit, Duration::from_secs(2));
        let no_password = [("discovery-token", "t"), ("discovery-endpoints", "a"), ("discovery-user", "u")];
        assert!(of(&no_password, false).unwrap_err().contains("password"));
    }
}
