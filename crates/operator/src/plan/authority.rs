//! What the planner knows of certificates: until when each is good, and how far an authority of the operator's own has come.
//!
//! An authority is replaced in three steps, each of which is one write of its Secret: both are trusted, then the new one
//! signs, then the old one is dropped. *Invariant*: whoever shows a certificate shows it to those who trust its authority,
//! at every moment in between, however late a kubelet brings Secrets to its pods.

use jiff::Timestamp;

use crate::api::{Leaf, Side};

/// A certificate that the cluster uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The Secret it is in.
    pub secret: String,
    pub until: Timestamp,
    /// By then it ought to have been renewed.
    pub overdue: Timestamp,
}

/// The operator's own authority for one port.
#[derive(Clone, Debug)]
pub struct Authority {
    pub side: Side,
    pub trust: Trust,
    /// Certificates that are missing or not as they should be: soon to end, by another signer, for other names, or beside
    /// another list of authorities.
    pub due: Vec<Leaf>,
    /// Why the authority is to be replaced, if it is.
    pub outdated: Option<String>,
    /// Clients have had the time they were promised since the last step.
    pub overlapped: bool,
    /// Members that passed the test of the step that a replacement is in: they trust the next one, or show what it signed.
    pub followed: Vec<String>,
}

/// Who signs, and who is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// There is no authority.
    Nobody,
    /// One that signs, and nobody else.
    One,
    /// The one that signs, and the next.
    Next,
    /// The new one, which signs, and the old.
    Former,
}

/// A step of an authority's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Turn {
    /// Makes one. Where certificates are left whose authority is gone, it is only trusted at first, beside that one.
    Found,
    /// Makes the next one and trusts it, too.
    Trust,
    /// The next one signs from now on, the old one is still trusted.
    Sign,
    /// Only the one that signs is trusted.
    Drop,
}
