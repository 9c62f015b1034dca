//! The members of a new cluster, and where they reach each other.

use keelson_api::initial_cluster::{self, Named, own_urls};

use super::urls::parse_advertised;

/// The members that `--initial-cluster` names; this one alone when it is empty.
pub fn initial_cluster(name: &str, text: &str, advertise_peer: &[String]) -> Result<Named, String> {
    if text.is_empty() {
        return Ok(Named::from([(name.to_owned(), advertise_peer.to_vec())]));
    }
    let cluster = parse_cluster(text)?;
    own_urls(&cluster, name, advertise_peer)?;
    Ok(cluster)
}

/// Members and their peer URLs as `--initial-cluster` has them.
pub fn parse_cluster(text: &str) -> Result<Named, String> {
    initial_cluster::parse_cluster(text, |url| parse_advertised("initial-cluster", url))
}
