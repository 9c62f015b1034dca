//! Where connections can go: what the flag says, or what SRV records of DNS say.

use std::fmt;
use std::path::Path;

use anyhow::bail;
use tokio::net::TcpStream;

use super::flags::Settings;
use super::{DIAL_LIMIT, dial};
use crate::config::{Named, Security};
use crate::discovery::{Service, services};
use crate::tls::{self, Protocol};

/// A place to connect to, with what SRV records say of it: the lowest priority first, and by weight among equals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// 0 if nobody has said any.
    pub priority: u16,
    /// 0 if nobody has said any.
    pub weight: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Target {
    /// Reads `HOST:PORT`, or a URL of which no more than that counts.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("error parsing endpoint {text:?}: it must be HOST:PORT, or a URL with a port");
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let place = rest.split_once('/').map_or(rest, |(place, _)| place);
        let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(address) => address.strip_suffix(']').ok_or_else(wrong)?,
            None if host.is_empty() || host.contains(':') => return Err(wrong()),
            None => host,
        };
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| wrong())?, priority: 0, weight: 0 })
    }
}

impl From<Service> for Target {
    fn from(service: Service) -> Self {
        let Service { host, port, priority, weight } = service;
        Self { host, port, priority, weight }
    }
}

/// The members: those in DNS if there are any that can be trusted, or those of the flag.
pub async fn find(settings: &Settings) -> anyhow::Result<Vec<Target>> {
    let found = if settings.domain.is_empty() { Vec::new() } else { in_dns(settings).await? };
    if found.is_empty() && !settings.domain.is_empty() {
        tracing::warn!("none of the members that DNS names can be used; taking those of --endpoints");
    }
    let targets = if found.is_empty() { settings.endpoints.clone() } else { found };
    if targets.is_empty() {
        bail!("no endpoints found; name some with --endpoints");
    }
    Ok(targets)
}

async fn in_dns(settings: &Settings) -> anyhow::Result<Vec<Target>> {
    let Settings { domain, service, .. } = settings;
    let suffix = if service.is_empty() { String::new() } else { format!("-{service}") };
    let (mut found, mut why) = (Vec::new(), Vec::new());
    for (kind, is_secure) in [("etcd-client-ssl", true), ("etcd-client", false)] {
        let name = format!("_{kind}{suffix}._tcp.{domain}");
        match services(&name).await {
            Ok(services) => found.extend(services.into_iter().map(|service| (Target::from(service), is_secure))),
            Err(e) => why.push(format!("{name}: {e}")),
        }
    }
    if found.is_empty() && why.len() == 2 {
        bail!("dns lookup errors: {}", why.join("; "));
    }
    tracing::info!(server = domain, found = found.len(), "discovered cluster from SRV");
    if settings.trusts_dns {
        return Ok(found.into_iter().map(|(target, _)| target).collect());
    }
    let checker = settings.trusted_ca.as_deref().map(|file| checker(file, domain)).transpose().map_err(anyhow::Error::msg)?;
    let mut good = Vec::new();
    for (target, is_secure) in found {
        let checked = if is_secure { check(&target, checker.as_ref()).await } else { Err("it is insecure".to_owned()) };
        match checked {
            Ok(()) => good.push(target),
            Err(e) => tracing::warn!(address = %target, error = e, "failed to validate a discovered endpoint"),
        }
    }
    Ok(good)
}

/// Checks certificates: they must be for the domain.
fn checker(trusted_ca: &Path, domain: &str) -> Result<tls::Client, String> {
    let (protocol, _) = Protocol::new("TLS1.2", "", &[])?;
    let trusted_ca = Named { flag: "--trusted-ca-file".to_owned(), path: trusted_ca.to_owned() };
    let security = Security { trusted_ca: Some(trusted_ca), ..Security::none(&protocol) };
    tls::Client::new(&security, None, Some(domain.to_owned()))
}

/// Whether a member can be reached and, where an authority is known, is whom the domain means.
async fn check(target: &Target, checker: Option<&tls::Client>) -> Result<(), String> {
    let connection: TcpStream = dial(target).await?;
    let Some(checker) = checker else { return Ok(()) };
    match tokio::time::timeout(DIAL_LIMIT, checker.connect(&target.host, connection)).await {
        Ok(shaken) => shaken.map(|_| ()),
        Err(_) => Err(format!("no TLS handshake within {DIAL_LIMIT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_places_with_or_without_a_scheme() {
        for (text, place) in [
            ("127.0.0.1:2379", "127.0.0.1:2379"),
            ("localhost:1", "localhost:1"),
            ("https://a.b:2379", "a.b:2379"),
            ("http://a.b:2379/path", "a.b:2379"),
            ("[::1]:2379", "[::1]:2379"),
        ] {
            assert_eq!(Target::parse(text).unwrap().to_string(), place);
        }
        for text in ["", "a", "a:", "a:b", ":1", "::1:2379", "[::1:2379", "a:65536", "http://a"] {
            assert!(Target::parse(text).unwrap_err().contains("error parsing endpoint"), "{text}");
        }
    }
}
