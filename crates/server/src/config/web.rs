//! What concerns plain HTTP on client ports: the gateway, and who may use it from where.

use std::collections::BTreeSet;

/// Settings of plain HTTP.
#[derive(Clone, Debug)]
pub struct Web {
    /// Calls are served as JSON.
    pub gateway: bool,
    /// Origins whose scripts browsers may let read answers.
    pub origins: Allowed,
    /// Names that requests without TLS may call this server by.
    pub hosts: Allowed,
}

/// What may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Anything.
    All,
    /// These, and nothing that only looks like one of them.
    These(BTreeSet<String>),
}

impl Allowed {
    /// Whether `one` may be.
    pub fn has(&self, one: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.contains(one),
        }
    }
}

/// Reads the settings.
pub fn read(gateway: bool, cors: &str, host_whitelist: &str) -> Result<Web, String> {
    Ok(Web { gateway, origins: origins(cors)?, hosts: hosts(host_whitelist) })
}

/// As etcd has it, origins are URLs with a port, and `*` stands alone.
fn origins(list: &str) -> Result<Allowed, String> {
    if matches!(list, "" | "*") {
        return Ok(Allowed::All);
    }
    let mut origins = BTreeSet::new();
    for text in list.split(',').map(str::trim) {
        let wrong = |why: &str| format!("--cors: {text:?} {why}");
        let url = url::Url::parse(text).map_err(|e| wrong(&format!("is not a URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("must begin with http:// or https://"));
        }
        let address = text.split_once("://").map_or("", |(_, address)| address);
        if address.contains(['/', '?', '#']) {
            return Err(wrong("must not contain a path"));
        }
        if address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(wrong("does not have the form \"scheme://host:port\""));
        }
        origins.insert(text.to_owned());
    }
    Ok(Allowed::These(origins))
}

fn hosts(list: &str) -> Allowed {
    let hosts: BTreeSet<_> = list.split(',').map(str::to_owned).collect();
    if list.is_empty() || hosts.contains("*") { Allowed::All } else { Allowed::These(hosts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_urls_with_a_port_and_hosts_are_names() {
        assert_eq!(origins("*").unwrap(), Allowed::All);
        let some = origins("http://a.example:80,https://b.example:1").unwrap();
        assert!(some.has("http://a.example:80") && some.has("https://b.example:1"));
        assert!(!some.has("http://a.example") && !some.has("*"));
        for wrong in ["a.example", "http://a.example", "ftp://a.example:1", "http://a.example:1/x", "*,http://a.example:1"] {
            assert!(origins(wrong).is_err(), "{wrong}");
        }
        assert_eq!((hosts(""), hosts("a,*")), (Allowed::All, Allowed::All));
        let some = hosts("a,b");
        assert!(some.has("a") && some.has("b") && !some.has("c") && !some.has("a,b"));
    }
}
