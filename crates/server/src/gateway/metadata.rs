//! What a call takes from the headers of its HTTP request.

use http::{HeaderMap, HeaderName, HeaderValue};
use keelson_api::Code;

use crate::grpc::Status;

/// What such headers begin with: the rest of the name is the name of the metadata.
const PREFIX: &str = "grpc-metadata-";
/// The most digits of a timeout that a call may have.
const DIGITS: usize = 8;

/// Metadata of a call.
pub fn of(headers: &HeaderMap) -> Result<HeaderMap, Status> {
    let mut metadata = HeaderMap::new();
    if let Some(token) = headers.get(http::header::AUTHORIZATION) {
        metadata.insert(http::header::AUTHORIZATION, token.clone());
        let bare = token.to_str().ok().and_then(|t| HeaderValue::from_str(t.strip_prefix("Bearer ").unwrap_or(t)).ok());
        metadata.extend(bare.map(|token| (HeaderName::from_static("token"), token)));
    }
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        if is_free(name)
            && let Ok(name) = HeaderName::from_bytes(name.as_bytes())
        {
            metadata.append(name, value.clone());
        }
    }
    if let Some(timeout) = headers.get("grpc-timeout") {
        let text = timeout.to_str().unwrap_or_default();
        match timeout_of(text) {
            Ok(Some(timeout)) => drop(metadata.insert("grpc-timeout", timeout)),
            Ok(None) => {}
            Err(()) => return Err(Status::new(Code::InvalidArgument, format!("invalid grpc-timeout: {text}"))),
        }
    }
    Ok(metadata)
}

/// Whether a name is not one that the call itself has a use for.
fn is_free(name: &str) -> bool {
    const TAKEN: [&str; 10] = [
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ];
    !name.is_empty() && !name.starts_with("grpc-") && !name.ends_with("-bin") && !TAKEN.contains(&name)
}

/// A time limit as calls have it; nothing for no limit.
fn timeout_of(text: &str) -> Result<Option<HeaderValue>, ()> {
    let digits = text.strip_suffix(['H', 'M', 'S', 'm', 'u', 'n']).ok_or(())?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(());
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(None);
    }
    let unit = &text[digits.len()..];
    let longest = "9".repeat(DIGITS);
    let digits = if significant.len() > DIGITS { longest.as_str() } else { significant };
    HeaderValue::from_str(&format!("{digits}{unit}")).map(Some).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(headers: &[(&'static str, &'static str)]) -> Result<HeaderMap, Status> {
        of(&headers.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect())
    }

    #[test]
    fn tokens_metadata_and_time_limits_are_passed_on_and_nothing_else() {
        let passed = metadata(&[
            ("authorization", "Bearer abc"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-content-type", "text/plain"),
            ("grpc-metadata-grpc-timeout", "1n"),
            ("grpc-timeout", "0005S"),
            ("accept", "*/*"),
        ])
        .unwrap();
        let mut names: Vec<_> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "grpc-timeout", "hasleader", "token"]);
        assert_eq!(passed["token"], "abc");
        assert_eq!(passed["grpc-timeout"], "5S");
        assert!(metadata(&[("grpc-timeout", "0m")]).unwrap().is_empty());
        assert_eq!(metadata(&[("grpc-timeout", "1234567890n")]).unwrap()["grpc-timeout"], "99999999n");
        for wrong in ["5", "S", "-5S", "five"] {
            assert_eq!(metadata(&[("grpc-timeout", wrong)]).unwrap_err().message, format!("invalid grpc-timeout: {wrong}"));
        }
    }
}
