//! The outcome of a call.

use http::{HeaderMap, HeaderValue};
use keelson_api::{Code, Error};

/// Where a refusal among members is told. Any code may come from a proxy on the way; this cannot.
const REFUSAL: &str = "keelson-refusal";

/// A refusal that no other call of the same member, to whichever other, will change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller was removed from the cluster.
    Removed,
    /// The caller comes with another data directory than it joined with.
    DataGone,
    /// The caller does not understand the cluster's format.
    TooOld,
}

impl Refusal {
    const ALL: [Self; 3] = [Self::Removed, Self::DataGone, Self::TooOld];

    const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::DataGone => "data-gone",
            Self::TooOld => "too-old",
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::Removed => Code::PermissionDenied,
            Self::DataGone => Code::DataLoss,
            Self::TooOld => Code::FailedPrecondition,
        }
    }
}

/// A failed call: code and text as the client sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// gRPC code.
    pub code: Code,
    /// Text; clients match on it.
    pub message: String,
    /// What only a member says, to another.
    pub refusal: Option<Refusal>,
}

impl Status {
    /// A status with a text that is not in the error table.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), refusal: None }
    }

    /// A refusal of another member.
    pub fn refusing(refusal: Refusal, message: impl Into<String>) -> Self {
        Self { refusal: Some(refusal), ..Self::new(refusal.code(), message) }
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
                if let Some(refusal) = status.refusal {
                    trailers.insert(REFUSAL, HeaderValue::from_static(refusal.name()));
                }
            }
        }
    }
}

/// Codes in the order of their numbers.
const CODES: [Code; 14] = [
    Code::Canceled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

impl Status {
    /// Reads the status from trailers, if they have one.
    pub fn read(trailers: &HeaderMap) -> Option<Result<(), Self>> {
        let number: u16 = trailers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        if number == 0 {
            return Some(Ok(()));
        }
        let code = CODES.into_iter().find(|c| *c as u16 == number).unwrap_or(Code::Unknown);
        let text = trailers.get("grpc-message").map(|v| percent_decode(v.as_bytes())).unwrap_or_default();
        let refusal = trailers.get(REFUSAL).and_then(|v| Refusal::ALL.into_iter().find(|r| v == r.name()));
        Some(Err(Self { refusal, ..Self::new(code, text) }))
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

fn percent_decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let escaped =
            tail.get(..2).filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
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
        let refusals = Refusal::ALL.map(|refusal| Status::refusing(refusal, "x"));
        for status in [Error::Compacted.into(), Status::new(Code::Unknown, "100% é\n %zz %")].into_iter().chain(refusals) {
            let mut trailers = HeaderMap::new();
            Status::write(Err(&status), &mut trailers);
            assert_eq!(Status::read(&trailers), Some(Err(status)));
        }
    }
}
