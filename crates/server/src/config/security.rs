//! What the flags say of certificates: those of clients' ports, and those among members.

use std::fmt;
use std::path::PathBuf;

use super::settings::Settings;
use super::urls::ListenUrl;
use crate::tls::Protocol;

/// A file, and the flag that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The flag, with its dashes.
    pub flag: String,
    /// Where the file is.
    pub path: PathBuf,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.flag, self.path.display())
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Certificate, and those that lead from it to the authority.
    pub cert: Named,
    /// Its private key.
    pub key: Named,
}

/// TLS of one kind of port, and of calls to ports of that kind.
#[derive(Clone, Debug)]
pub struct Security {
    /// The server's certificate.
    pub own: Option<Pair>,
    /// What the server shows when it is the client; its own certificate if there is none.
    pub as_client: Option<Pair>,
    /// Who may sign the certificates of others; the system's authorities if there is none.
    pub trusted_ca: Option<Named>,
    /// Clients have to show a certificate.
    pub demands_certificate: bool,
    /// Who shows one without a token is the user of its common name.
    pub names_users: bool,
    /// Certificates that were taken back.
    pub revoked: Option<Named>,
    /// Common names, one of which a certificate must have; any if empty.
    pub allowed_names: Vec<String>,
    /// Host names, for one of which a certificate must be good; any if empty.
    pub allowed_hosts: Vec<String>,
    /// A client's certificate must be good for the address it comes from.
    pub checks_address: bool,
    /// The server makes its own certificate, valid for so many years.
    pub made_for_years: Option<u32>,
    /// Whoever is called need not prove who it is.
    pub trusts_anybody: bool,
    /// Versions and ciphers.
    pub protocol: Protocol,
}

/// The flags that differ by name only.
struct Names {
    side: &'static str,
    revoked: &'static str,
    names: &'static str,
    hosts: &'static str,
}

const CLIENT: Names =
    Names { side: "", revoked: "client-crl-file", names: "client-cert-allowed-cn", hosts: "client-cert-allowed-hostname" };
const PEER: Names =
    Names { side: "peer-", revoked: "peer-crl-file", names: "peer-cert-allowed-cn", hosts: "peer-cert-allowed-hostname" };

/// Reads the flags of client ports.
pub fn of_clients(s: &Settings, protocol: &Protocol) -> Result<Security, String> {
    // As in etcd, by the flag alone: naming an authority is not enough for this.
    let names_users = s.bool("client-cert-auth");
    Ok(Security { names_users, ..read(&CLIENT, s, protocol)? })
}

/// Reads the flags of members among themselves.
pub fn of_peers(s: &Settings, protocol: &Protocol) -> Result<Security, String> {
    let skips = s.bool("peer-skip-client-san-verification");
    Ok(Security { checks_address: !skips, ..read(&PEER, s, protocol)? })
}

fn read(names: &Names, s: &Settings, protocol: &Protocol) -> Result<Security, String> {
    let flag = |name: &str| format!("{}{name}", names.side);
    let own = s.pair(&flag("cert-file"), &flag("key-file"))?;
    let trusted_ca = s.file(&flag("trusted-ca-file"));
    let (allowed_names, allowed_hosts) = (s.list(names.names), s.list(names.hosts));
    if !allowed_names.is_empty() && !allowed_hosts.is_empty() {
        return Err(format!("--{} and --{} are mutually exclusive", names.names, names.hosts));
    }
    let years = s.text("self-signed-cert-validity").parse().ok().filter(|years| (1..=1000).contains(years));
    let made_for_years = match (s.bool(&flag("auto-tls")), years) {
        (true, Some(years)) if own.is_none() => Some(years),
        (true, None) => return Err("--self-signed-cert-validity must be a number of years greater than 0".into()),
        _ => None,
    };
    Ok(Security {
        as_client: s.pair(&flag("client-cert-file"), &flag("client-key-file"))?,
        // As in etcd, naming an authority is enough.
        demands_certificate: trusted_ca.is_some() || s.bool(&flag("client-cert-auth")),
        names_users: false,
        revoked: s.file(names.revoked),
        checks_address: false,
        // Nobody vouches for certificates that others have made.
        trusts_anybody: made_for_years.is_some(),
        protocol: protocol.clone(),
        own,
        trusted_ca,
        allowed_names,
        allowed_hosts,
        made_for_years,
    })
}

impl Security {
    /// Nothing at all.
    pub fn none(protocol: &Protocol) -> Self {
        Self {
            own: None,
            as_client: None,
            trusted_ca: None,
            demands_certificate: false,
            names_users: false,
            revoked: None,
            allowed_names: Vec::new(),
            allowed_hosts: Vec::new(),
            checks_address: false,
            made_for_years: None,
            trusts_anybody: false,
            protocol: protocol.clone(),
        }
    }

    /// Whether there is a certificate to serve https with, if it has still to be made.
    pub const fn is_there(&self) -> bool {
        self.own.is_some() || self.made_for_years.is_some()
    }

    /// Whether anything is said of how to call https.
    pub const fn can_call(&self) -> bool {
        self.is_there() || self.as_client.is_some() || self.trusted_ca.is_some()
    }
}

/// Refuses https without a certificate, and tells of http with one.
pub fn check_urls(
    kind: &str,
    flags: &str,
    urls: &[ListenUrl],
    security: &Security,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    for url in urls {
        if url.is_secure && !security.is_there() {
            return Err(format!(
                "TLS key/cert (--{flags}cert-file, --{flags}key-file) must be provided for {kind} url {url} with HTTPS scheme"
            ));
        }
        if !url.is_secure && security.is_there() {
            warnings.push(format!("{kind} url {url} is not encrypted; key and cert files are not used for it"));
        }
        if !url.is_secure && security.demands_certificate {
            warnings.push(format!("{kind} url {url} is not encrypted; certificates are not demanded of who connects to it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(flags: &[(&'static str, &str)]) -> Result<Security, String> {
        of_clients(&Settings::of(flags), &protocol())
    }

    fn peers(flags: &[(&'static str, &str)]) -> Result<Security, String> {
        of_peers(&Settings::of(flags), &protocol())
    }

    fn protocol() -> Protocol {
        Protocol::new("TLS1.2", "", &[]).unwrap().0
    }

    #[test]
    fn what_kubeadm_passes_demands_certificates_of_clients_and_peers() {
        let client = [("cert-file", "/a"), ("key-file", "/b"), ("trusted-ca-file", "/c"), ("client-cert-auth", "true")];
        let read = clients(&client).unwrap();
        assert!(read.demands_certificate && read.names_users && read.is_there() && !read.checks_address);
        assert!(!clients(&client[..3]).unwrap().names_users);
        assert_eq!(read.own.unwrap().key.to_string(), "--key-file=/b");
        let peer = [("peer-cert-file", "/a"), ("peer-key-file", "/b"), ("peer-trusted-ca-file", "/c")];
        let read = peers(&peer).unwrap();
        assert!(read.demands_certificate && read.checks_address);
        assert!(!peers(&[]).unwrap().can_call());
    }

    #[test]
    fn half_of_a_pair_and_two_rules_for_names_are_refused() {
        assert!(clients(&[("cert-file", "/a")]).unwrap_err().contains("--key-file"));
        assert!(peers(&[("peer-client-key-file", "/a")]).unwrap_err().contains("--peer-client-cert-file"));
        let both = [("peer-cert-allowed-cn", "a"), ("peer-cert-allowed-hostname", "b")];
        assert!(peers(&both).unwrap_err().contains("mutually exclusive"));
        let zero = [("auto-tls", "true"), ("self-signed-cert-validity", "0")];
        assert!(clients(&zero).unwrap_err().contains("years"));
    }

    #[test]
    fn certificates_that_are_given_are_not_made() {
        assert_eq!(peers(&[("peer-auto-tls", "true")]).unwrap().made_for_years, Some(1));
        let given = [("auto-tls", "true"), ("cert-file", "/a"), ("key-file", "/b")];
        assert_eq!(clients(&given).unwrap().made_for_years, None);
    }
}
