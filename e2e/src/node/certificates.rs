//! Certificates of an authority of the test's own, given to a cluster as Secrets.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::Place;
use crate::pki::{Pki, Wanted};

/// Issues what the documentation asks for; the numbers tell certificates apart.
pub fn issue(pki: &Pki, place: &Place, cluster: &str, serial: u64) -> Result<()> {
    let service = place.host(cluster);
    let peers = format!("*.{}", place.host(&format!("{cluster}-peers")));
    pki.issue("members", &Wanted { name: "members", hosts: &[&service, &peers], serial, ..Wanted::default() })?;
    pki.issue("peers", &Wanted { name: "peers", hosts: &[&peers], serial: serial + 1, ..Wanted::default() })
}

/// What a spec says of the Secrets.
pub fn tls(cluster: &str) -> Value {
    json!({
        "client": {
            "secretRef": { "name": format!("{cluster}-members") },
            "clientSecretRef": { "name": format!("{cluster}-client") },
        },
        "peer": { "secretRef": { "name": format!("{cluster}-peers-tls") } },
    })
}

/// Writes the Secrets, trusting `authorities`.
pub async fn write(place: &Place, cluster: &str, pki: &Pki, authorities: &[&Pki]) -> Result<()> {
    let mut trusted = String::new();
    for authority in authorities {
        trusted += &fs::read_to_string(authority.path("ca.crt"))?;
    }
    pki.write("trusted.crt", trusted.as_bytes())?;
    for (secret, certificate) in [("members", "members"), ("peers-tls", "peers"), ("client", "client")] {
        let secret = format!("{cluster}-{secret}");
        let from = |key: &str, file: &str| format!("--from-file={key}={}", pki.path(file).display());
        let files = [
            from("tls.crt", &format!("{certificate}.crt")),
            from("tls.key", &format!("{certificate}.key")),
            from("ca.crt", "trusted.crt"),
        ];
        place.kubectl(&["delete", "secret", &secret, "--ignore-not-found"]).await?;
        place.kubectl(&["create", "secret", "generic", &secret, &files[0], &files[1], &files[2]]).await?;
    }
    Ok(())
}
