//! Listen addresses as URLs.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Where to listen, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    /// Where.
    pub address: Address,
    /// It is https or unixs.
    pub is_secure: bool,
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.is_secure { "s" } else { "" };
        match &self.address {
            Address::Tcp(address) => write!(f, "http{s}://{address}"),
            Address::Unix(path) => write!(f, "unix{s}://{}", path.display()),
        }
    }
}

/// Reads a comma separated list of listen URLs of the flag `name`.
pub fn parse_listen(name: &str, list: &str) -> Result<Vec<ListenUrl>, String> {
    list.split(',').filter(|u| !u.is_empty()).map(|u| parse_one(name, u.trim())).collect()
}

fn parse_one(name: &str, text: &str) -> Result<ListenUrl, String> {
    for (scheme, is_secure) in [("unix://", false), ("unixs://", true)] {
        if let Some(path) = text.strip_prefix(scheme) {
            // etcd reads what follows as an address or a path relative to the working directory.
            return Ok(ListenUrl { address: Address::Unix(PathBuf::from(path)), is_secure });
        }
    }
    let url = url::Url::parse(text).map_err(|e| format!("--{name}: {text:?} is not a URL: {e}"))?;
    let (is_secure, default_port) = match url.scheme() {
        "http" => (false, 80),
        "https" => (true, 443),
        other => return Err(format!("--{name}: URL scheme must be http, https, unix, or unixs: {other}://")),
    };
    // A scheme's own port is left out of what is parsed.
    let port = url.port().or_else(|| text.trim_end_matches('/').ends_with(&format!(":{default_port}")).then_some(default_port));
    let port = port.ok_or_else(|| format!("--{name}: URL address does not have the form \"host:port\": {text}"))?;
    let ip = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.into(),
        Some(url::Host::Ipv6(ip)) => ip.into(),
        Some(url::Host::Domain("localhost")) => std::net::Ipv4Addr::LOCALHOST.into(),
        _ => return Err(format!("--{name}: expected IP in URL for binding ({text})")),
    };
    Ok(ListenUrl { address: Address::Tcp(SocketAddr::new(ip, port)), is_secure })
}

/// Checks a comma separated list of advertised URLs and puts it in order.
pub fn parse_advertised(name: &str, list: &str) -> Result<Vec<String>, String> {
    let mut urls = Vec::new();
    for text in list.split(',').filter(|u| !u.is_empty()) {
        let text = text.trim();
        if !text.starts_with("unix") {
            let url = url::Url::parse(text).map_err(|e| format!("--{name}: {text:?} is not a URL: {e}"))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(format!("--{name}: URL scheme must be http, https, unix, or unixs: {text}"));
            }
            if !matches!(url.path(), "" | "/") {
                return Err(format!("--{name}: URL must not contain a path: {text}"));
            }
        }
        urls.push(text.trim_end_matches('/').to_owned());
    }
    urls.sort();
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_can_be_bound_are_taken() {
        let one = |u| parse_listen("listen-client-urls", u);
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        assert_eq!(one("http://127.0.0.1:80").unwrap(), [ListenUrl { address: tcp("127.0.0.1:80"), is_secure: false }]);
        assert_eq!(one("https://127.0.0.1:443/").unwrap(), [ListenUrl { address: tcp("127.0.0.1:443"), is_secure: true }]);
        assert_eq!(one("unixs://x.sock").unwrap()[0].to_string(), "unixs://x.sock");
        assert_eq!(one("http://[::1]:2379,unix:///tmp/x.sock").unwrap().len(), 2);
        assert!(one("http://example.com:2379").unwrap_err().contains("expected IP"));
        assert!(one("ftp://127.0.0.1:1").unwrap_err().contains("scheme"));
        assert!(one("http://127.0.0.1").unwrap_err().contains("host:port"));
        assert!(parse_advertised("advertise-client-urls", "http://a:1/x").is_err());
    }
}
