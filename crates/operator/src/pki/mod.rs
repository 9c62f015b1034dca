//! Certificates: read, issued, and put into Secrets. Nothing here asks anybody anything.

mod issue;
mod read;
mod secrets;
mod wanted;

pub use issue::{Pair, authority, leaf};
pub use read::{Shown, chain, first};
pub use secrets::{Desk, Held, Signing, since};
pub use wanted::Wanted;

/// What a Secret with a certificate has: those who are trusted, the certificate, and its key.
pub const TRUSTED: &str = "ca.crt";
pub const CERTIFICATE: &str = "tls.crt";
pub const KEY: &str = "tls.key";
/// The authority that takes over, in the Secret of the one that signs still.
pub const NEXT_CERTIFICATE: &str = "next.crt";
pub const NEXT_KEY: &str = "next.key";
