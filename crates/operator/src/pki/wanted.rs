//! What has to be in a certificate: who shows it, and under which names.

use jiff::SignedDuration;

use crate::api::{Leaf, Rotation, Tls, digest};
use crate::render::Names;

/// A certificate as it should be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub leaf: Leaf,
    /// Its common name.
    pub name: String,
    /// DNS names and addresses it is for.
    pub hosts: Vec<String>,
    pub rotation: Rotation,
}

impl Wanted {
    pub fn of(leaf: Leaf, names: &Names, tls: &Tls) -> Self {
        let Names { cluster, namespace } = names;
        // Members are certified together: their names change, and they are one store.
        let members = ["svc", "svc.cluster.local"].map(|domain| format!("*.{}.{namespace}.{domain}", names.peers()));
        let hosts = match leaf {
            Leaf::Client => Vec::new(),
            Leaf::Peer => members.to_vec(),
            Leaf::Server => {
                let service = [
                    cluster.clone(),
                    format!("{cluster}.{namespace}"),
                    format!("{cluster}.{namespace}.svc"),
                    format!("{cluster}.{namespace}.svc.cluster.local"),
                ];
                let here = ["localhost", "127.0.0.1", "::1"].map(String::from);
                let more = tls.client.iter().flat_map(|client| client.hosts.iter().cloned());
                service.into_iter().chain(members).chain(here).chain(more).collect()
            }
        };
        Self { leaf, name: format!("{cluster}-{}", leaf.as_str()), hosts, rotation: tls.rotation(leaf.side()) }
    }

    pub fn validity(&self) -> SignedDuration {
        self.rotation.validity()
    }

    /// Changes when, and only when, another certificate is needed.
    pub fn digest(&self) -> String {
        digest(&format!("{} {:?} {}", self.name, self.hosts, self.validity().as_secs()))
    }
}
