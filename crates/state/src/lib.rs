//! The replicated state machine: commands go in, replies and events come out. Keys, leases, alarms,
//! users and the member list live here; time and ids arrive inside commands, so that equal logs give
//! equal state on every member.

mod alarm;
mod export;
mod lease;
mod machine;
mod members;
mod range;
mod txn;
mod users;
mod validate;

pub use export::{AuthRows, Frozen, Surroundings};
pub use lease::Lease;
pub use machine::{APPLIED, Applied, Machine, Position, Reply, Shared, Transaction};
pub use members::Member;
pub use range::{plain_query, range_keys_fast, range_response};
pub use txn::read_only_txn;
pub use users::{Caller, Right, TokenChange, Users};
pub use validate::{
    check_delete, check_put, check_range, check_range_stream, check_txn, is_read_only, is_serializable, quota_cost_put,
    quota_cost_txn,
};
