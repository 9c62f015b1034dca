//! What was asked for, when, and what was answered when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::events::Found;

/// The empty string stands for "no such key": values are never empty.
pub const ABSENT: &str = "";

#[derive(Clone, Debug)]
pub enum Request {
    Put {
        key: String,
        value: String,
    },
    Get {
        key: String,
    },
    /// Writes if the value is the expected one; reads otherwise.
    Swap {
        key: String,
        expect: String,
        value: String,
    },
    Delete {
        key: String,
    },
    /// The same value into several keys at once.
    PutAll {
        keys: Vec<String>,
        value: String,
    },
    /// All keys with a prefix. Serializable reads may be of the past.
    List {
        prefix: String,
        serializable: bool,
    },
}

impl Request {
    /// What it changes if it is carried out.
    pub fn puts(&self) -> (&[String], Option<&str>) {
        match self {
            Self::Put { key, value } | Self::Swap { key, value, .. } => (std::slice::from_ref(key), Some(value.as_str())),
            Self::PutAll { keys, value } => (keys.as_slice(), Some(value.as_str())),
            Self::Get { .. } | Self::Delete { .. } | Self::List { .. } => (&[], None),
        }
    }

    pub fn is_serializable(&self) -> bool {
        matches!(self, Self::List { serializable: true, .. })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the header.
    pub revision: i64,
    /// Whether something was written or deleted.
    pub done: bool,
    /// What was read.
    pub found: BTreeMap<String, Found>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody said whether it was carried out.
    Unknown,
    /// It was certainly not carried out.
    Refused,
    Answered(Answer),
}

/// One request of one client, which has one at a time. Times are since the run began.
#[derive(Clone, Debug)]
pub struct Record {
    pub client: usize,
    pub member: usize,
    pub request: Request,
    pub call: Duration,
    pub end: Duration,
    pub outcome: Outcome,
}

impl Record {
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Unknown | Outcome::Refused => None,
        }
    }
}

pub type Records = Arc<Mutex<Vec<Record>>>;
