//! How a command ends: etcdctl's exit codes, and the one line on stderr that says why.

use std::error::Error as _;

use keelson_api::Error;
use tonic::{Code, Status};

pub const ERROR: u8 = 1;
pub const BAD_CONNECTION: u8 = 2;
pub const INVALID_INPUT: u8 = 3;
/// A flag that exists, with a value that it does not have.
pub const BAD_FEATURE: u8 = 4;
pub const INTERRUPTED: u8 = 5;
pub const BAD_ARGS: u8 = 128;
/// As a shell reports a program that Ctrl-C has ended.
pub const BROKEN_OFF: u8 = 130;
/// As a shell reports a program that wrote where nobody reads any more.
pub const NOBODY_READS: u8 = 141;

/// Why a command did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    /// Nothing when stderr has been told already.
    pub message: Option<String>,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }

    pub fn error(message: impl Into<String>) -> Self {
        Self::new(ERROR, message)
    }

    pub fn args(message: impl Into<String>) -> Self {
        Self::new(BAD_ARGS, message)
    }

    /// For what has been told on stderr in words of its own.
    pub fn told(code: u8) -> Self {
        Self { code, message: None }
    }

    /// The same trouble under another code.
    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// "failed to … (why)".
    pub fn while_doing(self, what: &str) -> Self {
        let message = self.message.map(|why| format!("{what} ({why})"));
        Self { message, ..self }
    }

    pub fn text(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// Whether the server said just this.
    pub fn is(&self, error: Error) -> bool {
        self.text() == error.text()
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::error(describe(&status))
    }
}

/// What the API has a text for is told in that text alone; anything else the way Go's gRPC writes it.
pub fn describe(status: &Status) -> String {
    match known(status.message()).filter(|_| status.code() != Code::Unknown) {
        Some(error) => error.text().to_owned(),
        None => {
            let reason = status.source().map_or_else(|| status.message().to_owned(), innermost);
            format!("rpc error: code = {} desc = {reason}", name(status.code()))
        }
    }
}

/// The reason at the bottom of an error, which alone means something to people.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut reason = error;
    while let Some(deeper) = reason.source() {
        reason = deeper;
    }
    reason.to_string()
}

pub fn known(text: &str) -> Option<Error> {
    Error::ALL.iter().copied().find(|error| error.text() == text)
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_api_are_told_without_their_code_and_others_with_it() {
        let compacted = Status::out_of_range(Error::Compacted.text());
        assert_eq!(Failure::from(compacted).text(), "etcdserver: mvcc: required revision has been compacted");
        let other = Status::unimplemented("unknown service etcdserverpb.Auth");
        let text = "rpc error: code = Unimplemented desc = unknown service etcdserverpb.Auth";
        assert_eq!(Failure::from(other), Failure::error(text));
    }
}
