//! Member and cluster ids by etcd's rule, so that equal flags give equal ids.

use sha1::{Digest, Sha1};

fn first_eight(hash: &[u8]) -> u64 {
    hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Id of a member of a new cluster. `peer_urls` must be sorted.
#[must_use]
pub fn member_id(peer_urls: &[String], cluster_token: &str) -> u64 {
    let mut hash = Sha1::new();
    peer_urls.iter().for_each(|url| hash.update(url));
    hash.update(cluster_token);
    first_eight(&hash.finalize())
}

/// Id of a member that is added to a running cluster: the time keeps it from ever having been given.
#[must_use]
pub fn added_member_id(peer_urls: &[String], unix_seconds: u64) -> u64 {
    member_id(peer_urls, &unix_seconds.to_string())
}

/// Id of a new cluster of these members.
#[must_use]
pub fn cluster_id(members: &[u64]) -> u64 {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    sorted.iter().for_each(|id| hash.update(id.to_be_bytes()));
    first_eight(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_member_has_etcds_well_known_ids() {
        let member = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster");
        assert_eq!(format!("{member:x}"), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", cluster_id(&[member])), "cdf818194e3a8c32");
    }
}
