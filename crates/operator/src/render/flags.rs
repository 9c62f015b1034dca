//! The command line of a member.

use super::names::{CLIENT_PORT, Family, METRICS_PORT, Names, PEER_PORT, Scheme};
use crate::api::{Side, Template, options};
use crate::plan::Start;

pub const DATA_FOLDER: &str = "/var/lib/keelson";
pub const CLIENT_CERTIFICATES: &str = "/etc/keelson/client";
pub const PEER_CERTIFICATES: &str = "/etc/keelson/peer";

/// What a member is started with.
pub struct Identity<'a> {
    pub member: &'a str,
    pub token: &'a str,
    pub start: Start,
    /// `name=url,…` of all members, this one included.
    pub initial_cluster: &'a str,
    pub family: Family,
}

pub fn flags(names: &Names, identity: &Identity, template: &Template) -> Vec<String> {
    let tls = template.tls.clone().unwrap_or_default();
    let (client, peer) = (Scheme::of(tls.client.is_some()), Scheme::of(tls.peer.is_some()));
    let any = |scheme: Scheme, port: i32| format!("{}://{}:{port}", scheme.as_str(), identity.family.any());
    let mut flags = vec![
        ("name".to_string(), identity.member.to_string()),
        ("data-dir".into(), format!("{DATA_FOLDER}/data")),
        ("listen-peer-urls".into(), any(peer, PEER_PORT)),
        ("listen-client-urls".into(), any(client, CLIENT_PORT)),
        ("listen-metrics-urls".into(), any(Scheme::Http, METRICS_PORT)),
        ("initial-advertise-peer-urls".into(), names.peer_url(identity.member, peer)),
        ("advertise-client-urls".into(), names.client_url(identity.member, client)),
        ("initial-cluster-token".into(), identity.token.to_string()),
        ("initial-cluster".into(), identity.initial_cluster.to_string()),
        ("initial-cluster-state".into(), state(identity.start).to_string()),
    ];
    let mut certificates = |prefix: &str, verify: &str, folder: &str, asks: bool| {
        flags.push((format!("{prefix}cert-file"), format!("{folder}/tls.crt")));
        flags.push((format!("{prefix}key-file"), format!("{folder}/tls.key")));
        // Each of the two demands a certificate.
        if asks {
            flags.push((format!("{prefix}trusted-ca-file"), format!("{folder}/ca.crt")));
            flags.push((verify.to_string(), "true".into()));
        }
    };
    if tls.client.is_some() {
        certificates("", "client-cert-auth", CLIENT_CERTIFICATES, tls.asks(Side::Client));
    }
    if tls.peer.is_some() {
        certificates("peer-", "peer-client-cert-auth", PEER_CERTIFICATES, tls.asks(Side::Peer));
        // Instead of whether the caller's address leads back to a name in its certificate: pods change their addresses,
        // and Kubernetes' DNS calls them by longer names than those they are certified for.
        flags.push(("peer-cert-allowed-hostname".into(), names.host(identity.member)));
        flags.push(("peer-skip-client-san-verification".into(), "true".into()));
    }
    flags.extend(template.options.flags().into_iter().map(|(name, value)| (name.to_string(), value)));
    flags.extend(options::allowed(&template.extra_args).map(|(name, value)| (name.clone(), value.clone())));
    flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

/// The `initial-cluster-state` with which an empty volume becomes a new store.
pub fn founds() -> &'static str {
    state(Start::New)
}

pub fn state(start: Start) -> &'static str {
    match start {
        Start::New => "new",
        Start::Existing => "existing",
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;

    use super::*;
    use crate::api::{ClientTls, PeerTls, SecretRef, Tls};

    fn of(template: &Template) -> Vec<String> {
        on(Family::V4, template)
    }

    fn on(family: Family, template: &Template) -> Vec<String> {
        let names = Names { cluster: "c".into(), namespace: "ns".into() };
        let initial_cluster = "c-a=http://x:2380";
        flags(&names, &Identity { member: "c-a", token: "t", start: Start::New, initial_cluster, family }, template)
    }

    #[test]
    fn members_listen_where_their_pods_have_addresses() {
        let asked: Service = serde_json::from_value(serde_json::json!({ "spec": { "ipFamilies": ["IPv6"] } })).unwrap();
        assert_eq!((Family::of(Some(&asked)), Family::of(None)), (Family::V6, Family::V4));
        let flags = on(Family::V6, &Template::default());
        for flag in ["client-urls=http://[::]:2379", "peer-urls=http://[::]:2380", "metrics-urls=http://[::]:2381"] {
            assert!(flags.contains(&format!("--listen-{flag}")), "{flag} is missing: {flags:?}");
        }
    }

    #[test]
    fn client_certificates_are_asked_for_on_both_sides_and_leave_probes_in_plain_text() {
        let client = ClientTls { secret_ref: Some(SecretRef { name: "s".into() }), ..ClientTls::default() };
        let flags = of(&Template { tls: Some(Tls { client: Some(client), peer: None }), ..Template::default() });
        for flag in
            ["--client-cert-auth=true", "--listen-client-urls=https://0.0.0.0:2379", "--listen-metrics-urls=http://0.0.0.0:2381"]
        {
            assert!(flags.iter().any(|f| f == flag), "{flag} is missing: {flags:?}");
        }
        assert!(flags.iter().any(|f| f == "--listen-peer-urls=http://0.0.0.0:2380"));
    }

    #[test]
    fn clients_that_need_no_certificate_still_see_one() {
        let client = ClientTls { client_auth: false, ..ClientTls::default() };
        let flags = of(&Template { tls: Some(Tls { client: Some(client), peer: None }), ..Template::default() });
        assert!(flags.contains(&"--cert-file=/etc/keelson/client/tls.crt".to_string()), "{flags:?}");
        assert!(flags.iter().all(|flag| !flag.contains("client-cert-auth") && !flag.contains("trusted-ca-file")), "{flags:?}");
    }

    #[test]
    fn members_are_known_by_the_clusters_name_in_their_certificates_and_not_by_their_address() {
        let peer = PeerTls { secret_ref: Some(SecretRef { name: "s".into() }), ..PeerTls::default() };
        let flags = of(&Template { tls: Some(Tls { client: None, peer: Some(peer) }), ..Template::default() });
        for flag in [
            "--peer-client-cert-auth=true",
            "--peer-cert-allowed-hostname=c-a.c-peers.ns.svc",
            "--peer-skip-client-san-verification=true",
        ] {
            assert!(flags.iter().any(|f| f == flag), "{flag} is missing: {flags:?}");
        }
    }

    #[test]
    fn what_the_operator_sets_cannot_be_passed_besides() {
        let mut template = Template::default();
        for (name, value) in [("log-level", "debug"), ("initial-cluster-state", "new"), ("data-dir", "/elsewhere")] {
            template.extra_args.insert(name.into(), value.into());
        }
        let flags = of(&template);
        assert!(flags.contains(&"--log-level=debug".to_string()));
        assert_eq!(flags.iter().filter(|flag| flag.starts_with("--data-dir=")).count(), 1);
    }

    #[test]
    fn what_puts_data_at_risk_is_not_passed_on() {
        let mut template = Template::default();
        let refused = ["strict-reconfig-check", "auto-promote-learners", "unsafe-no-fsync", "peer-skip-client-san-verification"];
        for name in refused {
            template.extra_args.insert(name.into(), "true".into());
        }
        let flags = of(&template);
        assert!(!flags.iter().any(|flag| refused.iter().any(|name| flag.contains(name))), "{flags:?}");
    }
}
