//! What the flags ask for, made ready: certificates are read, or made, before a port is opened.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Client, Server, auto};
use crate::config::{Address, Config, Discovery, ListenUrl, Pair, Security};

/// TLS of this process. What is not there is not needed.
#[derive(Clone, Default)]
pub struct Tls {
    /// For ports of clients, and for those of metrics.
    pub clients: Option<Arc<Server>>,
    /// For ports of members.
    pub peers: Option<Arc<Server>>,
    /// For calls to members.
    pub calls: Option<Arc<Client>>,
}

impl Tls {
    /// Reads all files; an error names the one that cannot be used.
    pub fn open(config: &Config) -> Result<Self, String> {
        let (client, peer) = (&config.client_security, &config.peer_security);
        let own = own_pair(config, "--auto-tls", "client", client, &config.listen_client, &config.advertise_client)?;
        let of_clients = config.listen_client.iter().chain(&config.listen_client_http).chain(&config.listen_metrics);
        let clients = server(of_clients, client, own.as_ref())?;
        let own = own_pair(config, "--peer-auto-tls", "peer", peer, &config.listen_peer, &config.advertise_peer)?;
        let peers = server(config.listen_peer.iter(), peer, own.as_ref())?;
        let calls_https = config.initial_cluster.values().flatten().any(|url| url.starts_with("https://"));
        let may_find_https = matches!(config.discovery, Discovery::Dns { .. } | Discovery::Registry(_));
        let server_name = config.peer_server_name.clone();
        let calls = if peer.can_call() || calls_https {
            Some(Arc::new(Client::new(peer, own.as_ref(), server_name)?))
        } else if may_find_https {
            Some(Arc::new(Client::if_needed(peer, own.as_ref(), server_name)?))
        } else {
            None
        };
        Ok(Self { clients, peers, calls })
    }
}

fn server<'a>(
    mut urls: impl Iterator<Item = &'a ListenUrl>,
    security: &Security,
    own: Option<&Pair>,
) -> Result<Option<Arc<Server>>, String> {
    match own.filter(|_| urls.any(|url| url.is_secure)) {
        Some(own) => Server::new(security, own).map(|server| Some(Arc::new(server))),
        None => Ok(None),
    }
}

fn own_pair(
    config: &Config,
    flag: &str,
    folder: &str,
    security: &Security,
    listen: &[ListenUrl],
    advertised: &[String],
) -> Result<Option<Pair>, String> {
    let Some(years) = security.made_for_years else { return Ok(security.own.clone()) };
    let bound = listen.iter().filter_map(|url| match &url.address {
        Address::Tcp(address) => Some(address.ip().to_string()),
        Address::Unix(_) => None,
    });
    let told = advertised.iter().filter_map(|url| url::Url::parse(url).ok()?.host_str().map(str::to_owned));
    let hosts: BTreeSet<String> =
        bound.chain(told).map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned()).collect();
    let folder = config.data_dir.join("fixtures").join(folder);
    auto::make_missing(flag, &folder, hosts.into_iter().collect(), years).map(Some)
}
