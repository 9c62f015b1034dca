//! `--initial-cluster`: the members of a new cluster as whoever begins one names them, be it with the store or with a
//! snapshot. What may be a URL is the caller's to say.

use std::collections::{BTreeMap, BTreeSet};

/// Peer URLs, in order, by the member's name.
pub type Named = BTreeMap<String, Vec<String>>;

/// Reads `NAME=URL,NAME=URL`; a member of several URLs is there once with each.
pub fn parse_cluster(text: &str, urls: impl Fn(&str) -> Result<Vec<String>, String>) -> Result<Named, String> {
    let mut cluster = Named::new();
    for member in text.split(',').filter(|m| !m.is_empty()) {
        let Some((name, url)) = member.split_once('=').filter(|(name, url)| !name.is_empty() && !url.is_empty()) else {
            return Err(format!("--initial-cluster: {member:?} is not NAME=URL"));
        };
        cluster.entry(name.trim().to_owned()).or_default().extend(urls(url)?);
    }
    let mut seen = BTreeSet::new();
    for urls in cluster.values_mut() {
        urls.sort();
        if let Some(twice) = urls.iter().find(|url| !seen.insert((*url).clone())) {
            return Err(format!("--initial-cluster has duplicate URL {twice}: each member needs peer URLs of its own"));
        }
    }
    Ok(cluster)
}

/// The URLs of the member `name`, which must be those that it advertises.
pub fn own_urls<'a>(cluster: &'a Named, name: &str, advertised: &[String]) -> Result<&'a [String], String> {
    let Some(own) = cluster.get(name) else {
        return Err(format!("couldn't find local name {name:?} in the initial cluster configuration"));
    };
    if own != advertised {
        return Err(format!(
            "--initial-cluster has {name}={} but missing from --initial-advertise-peer-urls={}",
            own.join(","),
            advertised.join(",")
        ));
    }
    Ok(own)
}
