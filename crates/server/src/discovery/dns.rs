//! Members from SRV records: `_etcd-server-ssl._tcp.DOMAIN` has those with https, `_etcd-server._tcp.DOMAIN` those with
//! http. The records have no names of members. Which one this is shows by its address; the others are counted.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{anyhow, bail};
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use super::Named;
use crate::config::Config;

/// A server as a record names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
    /// Where that leads.
    addresses: BTreeSet<SocketAddr>,
}

/// Asks for both kinds.
pub async fn find(config: &Config, domain: &str, service: &str) -> anyhow::Result<Named> {
    let suffix = if service.is_empty() { String::new() } else { format!("-{service}") };
    let mut own = Vec::new();
    for url in &config.advertise_peer {
        let parsed = url::Url::parse(url)?;
        let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else { continue };
        own.push((parsed.scheme().to_owned(), addresses(host, port).await));
    }
    let mut found = Named::new();
    let mut why = Vec::new();
    for (scheme, kind) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
        let name = format!("_{kind}{suffix}._tcp.{domain}");
        match targets(&name).await {
            Ok(targets) => {
                tracing::info!(record = name, found = targets.len(), "asked DNS for members");
                why.extend(add(&mut found, &config.name, scheme, &targets, &own));
            }
            Err(e) => why.push(format!("error querying DNS SRV records for {name}: {e}")),
        }
    }
    if found.is_empty() {
        bail!("no members found by --discovery-srv={domain}: {}", why.join("; "));
    }
    if !found.contains_key(&config.name) {
        why.push(format!(
            "none of the records leads to an address of --initial-advertise-peer-urls={}",
            config.advertise_peer.join(",")
        ));
        bail!("cannot find local etcd member {:?} in SRV records: {}", config.name, why.join("; "));
    }
    Ok(found)
}

/// What one SRV record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name of the host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Who is asked first: the lowest.
    pub priority: u16,
    /// How often, among equals.
    pub weight: u16,
}

/// The SRV records of a name.
pub async fn services(name: &str) -> anyhow::Result<Vec<Service>> {
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(|e| anyhow!("{e}"))?;
    let answer = resolver.srv_lookup(format!("{name}.")).await.map_err(|e| anyhow!("{e}"))?;
    let mut services = Vec::new();
    for record in answer.answers() {
        let RData::SRV(srv) = &record.data else { continue };
        let host = srv.target.to_string().trim_end_matches('.').to_owned();
        services.push(Service { host, port: srv.port, priority: srv.priority, weight: srv.weight });
    }
    Ok(services)
}

async fn targets(name: &str) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for Service { host, port, .. } in services(name).await? {
        let addresses = addresses(&host, port).await;
        targets.push(Target { host, port, addresses });
    }
    // Answers come in any order, and all members should count alike.
    targets.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
    Ok(targets)
}

async fn addresses(host: &str, port: u16) -> BTreeSet<SocketAddr> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    tokio::net::lookup_host((host, port)).await.map(Iterator::collect).unwrap_or_default()
}

/// Adds the targets of one kind, and says which could not be.
fn add(found: &mut Named, name: &str, scheme: &str, targets: &[Target], own: &[(String, BTreeSet<SocketAddr>)]) -> Vec<String> {
    let mut why = Vec::new();
    let mut others = 0;
    for target in targets {
        let url = format!("{scheme}://{}:{}", target.host, target.port);
        if target.addresses.is_empty() {
            why.push(format!("{} has no address", target.host));
            continue;
        }
        let mine: Vec<&String> =
            own.iter().filter(|(_, addresses)| !addresses.is_disjoint(&target.addresses)).map(|(scheme, _)| scheme).collect();
        let member = if mine.is_empty() {
            others += 1;
            (others - 1).to_string()
        } else if mine.iter().all(|own| *own != scheme) {
            why.push(format!("{url} is this member by its address, but --initial-advertise-peer-urls has another scheme"));
            continue;
        } else {
            name.to_owned()
        };
        let urls = found.entry(member).or_default();
        urls.push(url);
        urls.sort();
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, address: &str) -> Target {
        Target { host: host.into(), port: 2380, addresses: address.parse().into_iter().collect() }
    }

    #[test]
    fn this_member_is_known_by_its_address_and_the_others_are_counted() {
        let own = [("http".to_owned(), BTreeSet::from(["10.0.0.2:2380".parse().unwrap()]))];
        let targets = [target("a.x", "10.0.0.1:2380"), target("b.x", "10.0.0.2:2380"), target("c.x", "10.0.0.3:2380")];
        let mut found = Named::new();
        assert!(add(&mut found, "me", "http", &targets, &own).is_empty());
        let named: Vec<_> = found.iter().map(|(name, urls)| (name.as_str(), urls[0].as_str())).collect();
        assert_eq!(named, [("0", "http://a.x:2380"), ("1", "http://c.x:2380"), ("me", "http://b.x:2380")]);
    }

    #[test]
    fn a_target_without_an_address_or_of_another_scheme_is_left_out() {
        let own = [("http".to_owned(), BTreeSet::from(["10.0.0.2:2380".parse().unwrap()]))];
        let targets = [target("gone.x", "nowhere"), target("b.x", "10.0.0.2:2380")];
        let mut found = Named::new();
        let why = add(&mut found, "me", "https", &targets, &own).join(" ");
        assert!(found.is_empty() && why.contains("gone.x has no address") && why.contains("another scheme"), "{why}");
    }
}
