//! The outcome of a call.

use http::{HeaderMap, HeaderValue};
use keelson_api::{Code, Error};

/// A failed call: code and text as the client sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// gRPC code.
    pub code: Code,
    /// Text; clients match on it.
    pub message: String,
}

impl Status {
    /// A status with a text that is not in the error table.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Name of the code as metrics label it.
    pub const fn code_name(code: Option<Code>) -> &'static str {
        match code {
            None => "OK",
            Some(Code::Canceled) => "Canceled",
            Some(Code::Unknown) => "Unknown",
            Some(Code::InvalidArgument) => "InvalidArgument",
            Some(Code::DeadlineExceeded) => "DeadlineExceeded",
            Some(Code::NotFound) => "NotFound",
            Some(Code::PermissionDenied) => "PermissionDenied",
            Some(Code::ResourceExhausted) => "ResourceExhausted",
            Some(Code::FailedPrecondition) => "FailedPrecondition",
            Some(Code::OutOfRange) => "OutOfRange",
            Some(Code::Unimplemented) => "Unimplemented",
            Some(Code::Internal) => "Internal",
            Some(Code::Unavailable) => "Unavailable",
            Some(Code::DataLoss) => "DataLoss",
            Some(Code::Unauthenticated) => "Unauthenticated",
        }
    }

    /// Writes the status into trailers.
    pub fn write(result: Result<(), &Self>, trailers: &mut HeaderMap) {
        match result {
            Ok(()) => drop(trailers.insert("grpc-status", HeaderValue::from_static("0"))),
            Err(status) => {
                trailers.insert("grpc-status", HeaderValue::from(status.code as u16));
                if let Ok(text) = HeaderValue::from_bytes(&percent_encode(&status.message)) {
                    trailers.insert("grpc-message", text);
                }
            }
        }
    }
}

impl From<Error> for Status {
    fn from(e: Error) -> Self {
        Self::new(e.code(), e.text())
    }
}

/// gRPC's encoding of messages: everything outside printable ASCII, and `%`, as `%XX`.
fn percent_encode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_as_header_values() {
        assert_eq!(percent_encode("100% é\n"), b"100%25 %C3%A9%0A");
        let mut trailers = HeaderMap::new();
        Status::write(Err(&Error::Compacted.into()), &mut trailers);
        assert_eq!(trailers["grpc-status"], "11");
        assert_eq!(trailers["grpc-message"], Error::Compacted.text());
    }
}
