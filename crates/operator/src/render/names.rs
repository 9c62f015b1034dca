//! Names and addresses of a cluster's objects.

use k8s_openapi::api::core::v1::Service;
use rand::Rng;

use crate::api::{Leaf, Side};

pub const CLIENT_PORT: i32 = 2379;
pub const PEER_PORT: i32 = 2380;
/// Health and metrics, in plain text also when the client port asks for certificates: the kubelet has none.
pub const METRICS_PORT: i32 = 2381;

/// Where a cluster's objects are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub cluster: String,
    pub namespace: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn of(tls: bool) -> Self {
        if tls { Scheme::Https } else { Scheme::Http }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The family of addresses that pods are reached at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// As the API server filled it in for a Service that leaves it open; IPv4 while it is not known.
    pub fn of(service: Option<&Service>) -> Self {
        let families = service.and_then(|service| service.spec.as_ref()?.ip_families.as_ref());
        match families.and_then(|families| families.first()).map(String::as_str) {
            Some("IPv6") => Family::V6,
            _ => Family::V4,
        }
    }

    /// Every address, as in a URL. That of IPv6 takes IPv4 as well, but is none where there is no IPv6.
    pub fn any(self) -> &'static str {
        match self {
            Family::V4 => "0.0.0.0",
            Family::V6 => "[::]",
        }
    }
}

impl Names {
    /// The headless Service in which every member has a name of its own.
    pub fn peers(&self) -> String {
        format!("{}-peers", self.cluster)
    }

    pub fn connection(&self) -> String {
        format!("{}-connection", self.cluster)
    }

    /// The Secret with a certificate that nobody else was asked to name.
    pub fn certificate(&self, leaf: Leaf) -> String {
        leaf.secret(&self.cluster)
    }

    /// The Secret with the authority of one port.
    pub fn authority(&self, side: Side) -> String {
        format!("{}-{}-ca", self.cluster, side.as_str())
    }

    /// The DNS name of a member. Pods change their IP, members keep this.
    pub fn host(&self, member: &str) -> String {
        format!("{member}.{}.{}.svc", self.peers(), self.namespace)
    }

    pub fn peer_url(&self, member: &str, scheme: Scheme) -> String {
        format!("{}://{}:{PEER_PORT}", scheme.as_str(), self.host(member))
    }

    pub fn client_url(&self, member: &str, scheme: Scheme) -> String {
        format!("{}://{}:{CLIENT_PORT}", scheme.as_str(), self.host(member))
    }

    /// The URL of the Service for clients.
    pub fn endpoint(&self, scheme: Scheme) -> String {
        format!("{}://{}.{}.svc:{CLIENT_PORT}", scheme.as_str(), self.cluster, self.namespace)
    }

    /// Which member a peer URL is of; `None` for one that is not this cluster's.
    pub fn member_of(&self, peer_url: &str) -> Option<String> {
        let (_, rest) = peer_url.split_once("://")?;
        let host = rest.split(':').next()?;
        let member = host.strip_suffix(&format!(".{}.{}.svc", self.peers(), self.namespace))?;
        (!member.is_empty() && !member.contains('.')).then(|| member.to_string())
    }
}

/// Random, so that a name never meets its past; without vowels, so that it never means anything.
fn random(length: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

/// A name for a new member.
pub fn random_name(cluster: &str) -> String {
    format!("{cluster}-{}", random(6))
}

/// A token for a new store.
pub fn random_token(cluster: &str) -> String {
    format!("{cluster}-{}", random(12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_recognised_by_their_own_urls_only() {
        let names = Names { cluster: "c".into(), namespace: "ns".into() };
        assert_eq!(names.member_of(&names.peer_url("c-x1", Scheme::Https)).as_deref(), Some("c-x1"));
        for url in [
            "http://c-x1.d-peers.ns.svc:2380",
            "http://c-x1.c-peers.other.svc:2380",
            "http://10.0.0.1:2380",
            "http://.c-peers.ns.svc:1",
            "c-x1",
        ] {
            assert_eq!(names.member_of(url), None, "{url}");
        }
    }
}
