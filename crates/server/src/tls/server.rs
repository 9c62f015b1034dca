//! The serving side: handshakes, and who is let in.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::load;
use super::names::{Allowed, fits_address, name_of};
use super::pending::Pending;
use super::reloaded::Reloaded;
use crate::config::{Named, Pair, Security};

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// TLS of one kind of port.
pub struct Server {
    config: Reloaded<Arc<ServerConfig>>,
    allowed: Allowed,
    checks_address: bool,
    names_users: bool,
    /// Handshakes that are not finished.
    pub pending: Pending,
}

impl Server {
    /// Reads the files; an error names the one that cannot be used.
    pub fn new(security: &Security, own: &Pair) -> Result<Self, String> {
        let mut files: Vec<PathBuf> = vec![own.cert.path.clone(), own.key.path.clone()];
        files.extend([&security.trusted_ca, &security.revoked].into_iter().flatten().map(|f: &Named| f.path.clone()));
        if let Some(pair) = &security.as_client {
            // A mistake that would show only once it is used.
            load::pair(pair, &security.protocol.provider)?;
        }
        let (used, own) = (security.clone(), own.clone());
        Ok(Self {
            config: Reloaded::new(files, move || configure(&used, &own))?,
            allowed: Allowed::of(security),
            checks_address: security.checks_address,
            names_users: security.names_users,
            pending: Pending::default(),
        })
    }

    /// Shakes hands with who has connected. Nobody if it does not come to an end in time, or is not let in.
    pub async fn accept<T>(&self, io: T, from: Option<IpAddr>) -> Option<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut turn = self.pending.begin();
        let remote_addr = from.map_or_else(|| "unix socket".to_owned(), |ip| ip.to_string());
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(HANDSHAKE, self.shake(io, from)) => accepted,
            () = turn.over() => {
                tracing::debug!(remote_addr, "a TLS handshake was broken off: there is no room for more connections");
                return None;
            }
        };
        match accepted {
            Ok(Ok(io)) => Some(io),
            Ok(Err(Refused::Gone)) => None,
            Ok(Err(Refused::Because(why))) => {
                tracing::warn!(remote_addr, error = why, "rejected connection");
                None
            }
            Err(_) => {
                tracing::warn!(remote_addr, "rejected connection: no TLS handshake within {HANDSHAKE:?}");
                None
            }
        }
    }

    /// The user that a client's certificate names, if certificates name users.
    pub fn user_of<T>(&self, io: &TlsStream<T>) -> Option<Arc<str>> {
        let leaf = io.get_ref().1.peer_certificates()?.first()?;
        self.names_users.then(|| name_of(leaf).into())
    }

    async fn shake<T>(&self, io: T, from: Option<IpAddr>) -> Result<TlsStream<T>, Refused>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let io = TlsAcceptor::from(self.config.get()).accept(io).await.map_err(|e| match e.kind() {
            // Whoever only looks whether the port is open.
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => Refused::Gone,
            _ => Refused::Because(e.to_string()),
        })?;
        if let Some(leaf) = io.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
            self.allowed.check(leaf).map_err(Refused::Because)?;
            if let Some(from) = from.filter(|_| self.checks_address) {
                fits_address(leaf, from).await.map_err(Refused::Because)?;
            }
        }
        Ok(io)
    }
}

enum Refused {
    Gone,
    Because(String),
}

fn configure(security: &Security, own: &Pair) -> Result<Arc<ServerConfig>, String> {
    let protocol = &security.protocol;
    let provider = &protocol.provider;
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&protocol.versions).map_err(|e| e.to_string())?;
    let builder = if security.demands_certificate {
        let roots = load::roots(security.trusted_ca.as_ref())?;
        let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        if let Some(file) = &security.revoked {
            // An authority without a list has taken nothing back.
            verifier = verifier.with_crls(load::revoked(file)?).allow_unknown_revocation_status();
        }
        let verifier = verifier.build().map_err(|e| match (&security.revoked, &security.trusted_ca) {
            (Some(file), _) => format!("{file} cannot be used: {e}"),
            (None, Some(file)) => format!("{file} cannot be used: {e}"),
            (None, None) => format!("the system has no authorities to check clients' certificates with: {e}"),
        })?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(load::pair(own, provider)?)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Each connection proves itself anew: what was good a while ago may have expired or been taken back.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
