//! How the first members of a new cluster find each other when the flags do not name them. Done once: later the
//! member list says who belongs to the cluster.

mod dns;
mod registry;

use std::collections::BTreeMap;

use crate::config::{Config, Discovery};

pub use dns::{Service, services};

/// Peer URLs of members by name.
pub type Named = BTreeMap<String, Vec<String>>;

/// The first members, if they have to be looked for.
pub async fn find(config: &Config) -> anyhow::Result<Option<Named>> {
    match &config.discovery {
        Discovery::Named => Ok(None),
        Discovery::Dns { domain, service } => dns::find(config, domain, service).await.map(Some),
        Discovery::Registry(registry) => registry::find(config, registry).await.map(Some),
    }
}
