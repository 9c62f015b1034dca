//! A thin gRPC server on `h2`. tonic's own server costs 12–21 µs of CPU per call under load, more
//! than half of what a whole range may cost here; this path does only what etcd's API needs:
//! gzip for requests, deadlines, size limits, trailers and flow control.

mod account;
mod call;
mod client;
mod encoding;
mod frame;
pub mod half;
mod status;
mod stream;

pub use account::Account;
pub use call::{Call, Ends, Respond, is_grpc, parse_timeout, too_late};
pub use client::{Answers, Arrival, CallError, Connection, MAX_MESSAGE};
pub use encoding::Encoding;
pub use frame::{FrameError, MessageReader, put_header};
pub use status::{Refusal, Status};
pub use stream::{Answer, Gone, Pieces, Sender, Told};

/// Bytes of an HTTP/2 frame that the other side may send, be it a client or a member.
pub const MAX_FRAME: u32 = 256 << 10;
