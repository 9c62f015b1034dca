//! Addresses of members: `host:port`, `http://…`, `https://…`, `unix:…` and `unixs:…`.

use std::path::PathBuf;

use crate::exit::Failure;

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secured {
    Always,
    Never,
    /// If there are certificates or other reasons to.
    IfConfigured,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(String),
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As the user wrote it.
    pub text: String,
    pub address: Address,
    /// What its certificate must be for.
    pub host: String,
    pub secured: Secured,
}

impl Endpoint {
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            // With one colon the path is relative.
            None => match text.split_once(':') {
                Some((scheme @ ("unix" | "unixs"), rest)) => (scheme, rest),
                _ => ("", text),
            },
        };
        let secured = match scheme {
            "https" | "unixs" => Secured::Always,
            "http" => Secured::Never,
            _ => Secured::IfConfigured,
        };
        if let "unix" | "unixs" = scheme {
            let host = rest.rsplit('/').next().unwrap_or_default().to_owned();
            return Ok(Self { text: text.into(), address: Address::Unix(rest.into()), host, secured });
        }
        let authority = rest.split('/').next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => {
                return Err(Failure::error(format!(
                    "the endpoint {text:?} cannot be used: it needs a host and a port, as in 127.0.0.1:2379"
                )));
            }
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { text: text.into(), address: Address::Tcp(authority.into()), host, secured })
    }

    /// What requests name as their server.
    pub fn authority(&self) -> &str {
        match &self.address {
            Address::Tcp(authority) => authority,
            Address::Unix(_) => "localhost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_in_all_of_etcds_forms() {
        let parsed = |text: &str| {
            let endpoint = Endpoint::parse(text).unwrap();
            (endpoint.address, endpoint.host, endpoint.secured)
        };
        let tcp = |text: &str| Address::Tcp(text.into());
        let unix = |text: &str| Address::Unix(text.into());
        assert_eq!(parsed("127.0.0.1:2379"), (tcp("127.0.0.1:2379"), "127.0.0.1".into(), Secured::IfConfigured));
        assert_eq!(parsed("http://a.b:1/path"), (tcp("a.b:1"), "a.b".into(), Secured::Never));
        assert_eq!(parsed("https://[::1]:2379"), (tcp("[::1]:2379"), "::1".into(), Secured::Always));
        assert_eq!(parsed("unix:///run/k.sock"), (unix("/run/k.sock"), "k.sock".into(), Secured::IfConfigured));
        assert_eq!(parsed("unix://k.sock:1"), (unix("k.sock:1"), "k.sock:1".into(), Secured::IfConfigured));
        assert_eq!(parsed("unixs:k.sock"), (unix("k.sock"), "k.sock".into(), Secured::Always));
        assert!(Endpoint::parse("nonsense").is_err());
        assert!(Endpoint::parse("").is_err());
    }
}
