//! What requests on client ports go through first, in etcd's order: older paths, the names that the
//! server may be called by, and what browsers want to know before they let scripts of other origins in.

use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{Download, TEXT};
use crate::config::{Allowed, Web};

/// The gateway's path in releases before 3.4.
pub const OLD: &str = "/v3beta/";

/// Brings the path of older clients up to date.
pub fn renew_path(head: &mut Parts) {
    let Some(rest) = head.uri.path().strip_prefix(OLD) else { return };
    let query = head.uri.query().map_or(String::new(), |q| format!("?{q}"));
    let Ok(path) = PathAndQuery::try_from(format!("/v3/{rest}{query}")) else { return };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.path_and_query = Some(path);
    // With another path it is as much of a URI as before.
    head.uri = Uri::from_parts(parts).unwrap_or_default();
}

/// The answer to a request that calls the server by a name it may not be called by.
pub fn refuse(web: &Web, is_secure: bool, head: &Parts) -> Option<Response<Download>> {
    // A page that has its name point here has no certificate for it, so TLS is proof enough.
    if is_secure || web.hosts == Allowed::All {
        return None;
    }
    let host = host_of(head);
    if web.hosts.has(&host) {
        return None;
    }
    tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
    Some(misdirected(&host))
}

fn misdirected(host: &str) -> Response<Download> {
    let text = format!(
        "This server was called {host:?}, which is not a name that it knows: a page may be trying to reach it through a browser \
         (DNS rebinding).\nIf the name is right, start the server with it in --host-whitelist, or use https.\n"
    );
    refused(StatusCode::MISDIRECTED_REQUEST, text)
}

fn refused(status: StatusCode, text: String) -> Response<Download> {
    let mut response = Response::new(Download::Whole(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response
}

/// The answer to a request that comes as a user where that does not count. As in etcd, it is not taken for nobody's.
pub fn refuse_user(user: &str) -> Response<Download> {
    let text = format!(
        "The certificate of this connection names the user {user:?}, which does not count for calls as JSON.\nCome with a \
         certificate without a common name, or none, and with the token of a user (/v3/auth/authenticate); or call by gRPC.\n"
    );
    refused(StatusCode::BAD_REQUEST, text)
}

/// What a request calls the server, without the port.
fn host_of(head: &Parts) -> String {
    let named = head.headers.get(header::HOST).and_then(|v| v.to_str().ok());
    let host = head.uri.authority().map(http::uri::Authority::as_str).or(named).unwrap_or("");
    without_port(host).to_owned()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') => name,
        Some((name, _)) => name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(host),
        None => host,
    }
}

/// Adds what browsers look for in an answer.
pub fn tell_browsers(web: &Web, asked: &HeaderMap, answer: &mut HeaderMap) {
    let origin = match &web.origins {
        Allowed::All => HeaderValue::from_static("*"),
        Allowed::These(origins) => match asked.get(header::ORIGIN) {
            Some(origin) if origin.to_str().is_ok_and(|o| origins.contains(o)) => origin.clone(),
            _ => return,
        },
    };
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"));
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("accept, content-type, authorization"));
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str, host: &str) -> Parts {
        Request::get(uri).header(header::HOST, host).body(()).unwrap().into_parts().0
    }

    #[test]
    fn hosts_are_compared_without_their_ports() {
        for (host, name) in [
            ("localhost:2379", "localhost"),
            ("localhost", "localhost"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:2379", "::1"),
            ("localhost:::", "localhost:::"),
        ] {
            assert_eq!(host_of(&head("/health", host)), name);
        }
        assert_eq!(host_of(&head("http://authority:1/health", "other")), "authority");
        let web = crate::config::web("", "known");
        assert_eq!(refuse(&web, false, &head("/health", "other")).unwrap().status(), 421);
        assert!(refuse(&web, true, &head("/health", "other")).is_none());
        assert!(refuse(&web, false, &head("/health", "known:2379")).is_none());
    }

    #[test]
    fn older_paths_are_renewed_and_only_those() {
        for (old, new) in [("/v3beta/kv/range?a=b", "/v3/kv/range?a=b"), ("/x/v3beta/kv", "/x/v3beta/kv")] {
            let mut head = head(old, "h");
            renew_path(&mut head);
            assert_eq!(head.uri.to_string(), new);
        }
    }

    #[test]
    fn browsers_are_told_of_their_origin_only() {
        let ask = |web: &Web, origin: &'static str| {
            let mut answer = HeaderMap::new();
            let asked = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
            tell_browsers(web, &asked, &mut answer);
            answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|v| v.to_str().unwrap().to_owned())
        };
        assert_eq!(ask(&crate::config::web("*", ""), "http://a:1"), Some("*".into()));
        let one = crate::config::web("http://a:1", "");
        assert_eq!(ask(&one, "http://a:1"), Some("http://a:1".into()));
        assert_eq!(ask(&one, "http://b:1"), None);
    }
}
