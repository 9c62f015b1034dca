//! Users: who may do what, as etcd decides it; passwords, tokens and certificates; several members that have to agree on it.

mod certificates;
mod common;
mod members;
mod methods;
mod passwords;
mod random;
mod rights;
mod tokens;
