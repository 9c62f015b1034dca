//! What a call has asked and what it was answered, kept while it lasts: of one that takes long the log tells.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;

/// An account of one call.
#[derive(Clone, Default)]
pub struct Account {
    request: OnceLock<Bytes>,
    response_bytes: OnceLock<usize>,
    response_count: OnceLock<i64>,
    condition: OnceLock<bool>,
}

// Each is told once; there is nothing to do about a second time.
impl Account {
    /// The encoded request has come.
    pub(super) fn asked(&self, request: Bytes) {
        let _ = self.request.set(request);
    }

    /// It is answered with a message of so many bytes.
    pub(super) fn answered(&self, bytes: usize) {
        let _ = self.response_bytes.set(bytes);
    }

    /// The answer is about so many keys.
    pub fn counted(&self, keys: i64) {
        let _ = self.response_count.set(keys);
    }

    /// The conditions of a transaction were met, or not.
    pub fn decided(&self, succeeded: bool) {
        let _ = self.condition.set(succeeded);
    }

    /// The encoded request.
    pub fn request(&self) -> Option<&Bytes> {
        self.request.get()
    }

    /// How long the answer is; nothing if there was none.
    pub fn response_bytes(&self) -> Option<usize> {
        self.response_bytes.get().copied()
    }

    /// Keys that the answer is about.
    pub fn response_count(&self) -> i64 {
        self.response_count.get().copied().unwrap_or_default()
    }

    /// Whether the conditions were met; nothing if that was not found out.
    pub fn condition(&self) -> Option<bool> {
        self.condition.get().copied()
    }
}

/// What clients write is not for everybody's eyes.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account")
    }
}
