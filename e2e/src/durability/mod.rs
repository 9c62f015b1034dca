//! What a crash must not take. Clients write while the process is killed under them; after each
//! restart an [`audit`] compares what the server has with everything it ever told anybody.
//!
//! [`load`] writes and notes in a [`history`] what was answered, [`follow`] watches over all the
//! restarts, [`ledger`] holds the truth as far as it has been verified, and [`campaign`] repeats it.

pub mod audit;
pub mod blow;
pub mod campaign;
pub mod clients;
pub mod follow;
pub mod hashes;
pub mod history;
pub mod ledger;
pub mod load;
pub mod replay;
pub mod settings;
pub mod value;
