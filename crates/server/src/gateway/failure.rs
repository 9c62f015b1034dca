//! What failed calls look like: the status of HTTP, and code and text in the body.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use keelson_api::Code;

use super::write::quoted;
use crate::grpc::Status;
use crate::http::Download;

const JSON: &str = "application/json";

/// HTTP's status for a code.
pub fn http_status(code: Code) -> StatusCode {
    match code {
        // Not one of HTTP's own: the client went away first.
        Code::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Code and text.
fn body(status: &Status) -> String {
    let mut fields = format!("\"code\":{}", status.code as u16);
    if !status.message.is_empty() {
        fields.push_str(",\"message\":");
        fields.push_str(&quoted(&status.message));
    }
    format!("{{{fields}}}")
}

/// The answer of a call that failed.
pub fn answer(status: &Status) -> Response<Download> {
    let mut response = Response::new(Download::Whole(body(status).into()));
    *response.status_mut() = http_status(status.code);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    if status.code == Code::Unauthenticated
        && let Ok(why) = HeaderValue::from_str(&status.message)
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, why);
    }
    response
}

/// The line with which a stream ends that failed.
pub fn line(status: &Status) -> String {
    format!("{{\"error\":{}}}\n", body(status))
}

/// The answer of a stream that failed before it had anything to say.
pub fn of_stream(status: &Status) -> Response<Download> {
    answer(status).map(|_| Download::Whole(line(status).into()))
}

/// What answers have in their head that went well.
pub fn headers_of_success() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    // What the call inside was answered with. Nobody needs it; it is one of the signs of etcd's gateway.
    headers.insert("grpc-metadata-content-type", HeaderValue::from_static("application/grpc"));
    headers
}

#[cfg(test)]
mod tests {
    use keelson_api::Error;

    use super::*;

    fn whole(response: Response<Download>) -> (u16, String) {
        let status = response.status().as_u16();
        let Download::Whole(body) = response.into_body() else { panic!("a stream") };
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn errors_have_etcds_shape() {
        let empty: Status = Error::EmptyKey.into();
        let text = r#"{"code":3,"message":"etcdserver: key is not provided"}"#;
        assert_eq!(whole(answer(&empty)), (400, text.to_owned()));
        assert_eq!(whole(of_stream(&empty)), (400, format!("{{\"error\":{text}}}\n")));
        let token: Status = Error::InvalidAuthToken.into();
        assert_eq!(answer(&token).headers()[header::WWW_AUTHENTICATE], Error::InvalidAuthToken.text());
        let codes = [(Code::Canceled, 499), (Code::Unavailable, 503), (Code::ResourceExhausted, 429), (Code::Unimplemented, 501)];
        assert!(codes.iter().all(|(code, http)| http_status(*code).as_u16() == *http));
    }
}
