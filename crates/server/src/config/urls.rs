//! Listen addresses as URLs.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenUrl {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Reads a comma separated list of listen URLs of the flag `name`.
pub fn parse_listen(name: &str, list: &str) -> Result<Vec<ListenUrl>, String> {
    list.split(',').filter(|u| !u.is_empty()).map(|u| parse_one(name, u.trim())).collect()
}

fn parse_one(name: &str, text: &str) -> Result<ListenUrl, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        // etcd reads what follows as an address or a path relative to the working directory.
        return Ok(ListenUrl::Unix(PathBuf::from(path)));
    }
    let url = url::Url::parse(text).map_err(|e| format!("--{name}: {text:?} is not a URL: {e}"))?;
    match url.scheme() {
        "http" => {}
        "https" => return Err(format!("--{name}: {text}: TLS is not supported by this version; listen on http://")),
        other => return Err(format!("--{name}: URL scheme must be http, https, unix, or unixs: {other}://")),
    }
    let port = url.port().or_else(|| text.ends_with(":80").then_some(80));
    let port = port.ok_or_else(|| format!("--{name}: URL address does not have the form \"host:port\": {text}"))?;
    let ip = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.into(),
        Some(url::Host::Ipv6(ip)) => ip.into(),
        Some(url::Host::Domain("localhost")) => std::net::Ipv4Addr::LOCALHOST.into(),
        _ => return Err(format!("--{name}: expected IP in URL for binding ({text})")),
    };
    Ok(ListenUrl::Tcp(SocketAddr::new(ip, port)))
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
        assert_eq!(one("http://127.0.0.1:80").unwrap(), [ListenUrl::Tcp("127.0.0.1:80".parse().unwrap())]);
        assert_eq!(one("http://[::1]:2379,unix:///tmp/x.sock").unwrap().len(), 2);
        assert!(one("http://example.com:2379").unwrap_err().contains("expected IP"));
        assert!(one("ftp://127.0.0.1:1").unwrap_err().contains("scheme"));
        assert!(one("http://127.0.0.1").unwrap_err().contains("host:port"));
        assert!(parse_advertised("advertise-client-urls", "http://a:1/x").is_err());
    }
}
