//! Shaking hands with a member, to learn whom it trusts and what it shows: Secrets reach its files when its kubelet says so.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::pki::{Pair, Shown, chain};

const LIMIT: Duration = Duration::from_secs(2);

/// Where a member listens, and by which name it is certified.
pub struct Door<'a> {
    pub ip: &'a str,
    pub port: i32,
    pub host: &'a str,
}

/// What a member shows to a caller that trusts `trusted` and shows `own`; an error if one of the two does not take the other's.
pub async fn shake(door: &Door<'_>, trusted: &[u8], own: &Pair) -> Result<Shown, String> {
    let late = |_| format!("{} does not answer", door.host);
    timeout(LIMIT, speak(door, trusted, own)).await.map_err(late)?
}

async fn speak(door: &Door<'_>, trusted: &[u8], own: &Pair) -> Result<Shown, String> {
    let port = u16::try_from(door.port).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(door.host.to_string()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(config(trusted, own)?));
    let unheard = |error: std::io::Error| format!("{}: {error}", door.host);
    let stream = TcpStream::connect((door.ip, port)).await.map_err(unheard)?;
    let mut stream = connector.connect(name, stream).await.map_err(unheard)?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown = Shown::of(leaf.ok_or("it shows no certificate")?)?;
    // A client is done with its handshake before the server has looked at its certificate; the first byte of an answer,
    // whatever it is, says that it was taken.
    let question = format!("GET /version HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", door.host);
    stream.write_all(question.as_bytes()).await.map_err(unheard)?;
    stream.read_u8().await.map_err(unheard)?;
    Ok(shown)
}

fn config(trusted: &[u8], own: &Pair) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for authority in chain(trusted)? {
        roots.add(authority).map_err(|error| error.to_string())?;
    }
    let shown = chain(own.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|error| error.to_string())?;
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| error.to_string())?.with_root_certificates(roots);
    builder.with_client_auth_cert(shown, key).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::api::{Leaf, Tls};
    use crate::pki::{Wanted, authority, first, leaf};
    use crate::render::Names;

    fn signed(by: &Pair, kind: Leaf) -> Pair {
        let names = Names { cluster: "db".into(), namespace: "shop".into() };
        leaf(by, &Wanted::of(kind, &names, &Tls::default()), Timestamp::now()).unwrap()
    }

    /// A member that shows what `shows` signed and trusts `trusts`; answers the port it listens on.
    async fn member(shows: &Pair, trusts: &Pair) -> i32 {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(chain(trusts.certificate.as_bytes()).unwrap().remove(0)).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let own = signed(shows, Leaf::Server);
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(own.certificate.as_bytes()).unwrap(), key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await;
                    let _ = stream.shutdown().await;
                }
            }
        });
        i32::from(port)
    }

    #[tokio::test]
    async fn who_trusts_whom_is_known_after_the_first_byte() {
        let [old, new] = ["old", "new"].map(|name| authority(name, Timestamp::now()).unwrap());
        let both = format!("{}{}", old.certificate, new.certificate);
        let port = member(&old, &old).await;
        let door = Door { ip: "127.0.0.1", port, host: "db-a.db-peers.shop.svc" };
        let shown = shake(&door, both.as_bytes(), &signed(&old, Leaf::Client)).await.unwrap();
        assert_eq!(shown.issuer, first(old.certificate.as_bytes()).unwrap().subject);
        assert!(shake(&door, both.as_bytes(), &signed(&new, Leaf::Client)).await.is_err(), "it does not trust the new one");
        assert!(shake(&door, new.certificate.as_bytes(), &signed(&old, Leaf::Client)).await.is_err(), "nor is it trusted");
        let follows = Door { port: member(&new, &new).await, ..door };
        let shown = shake(&follows, both.as_bytes(), &signed(&new, Leaf::Client)).await.unwrap();
        assert_eq!(shown.issuer, first(new.certificate.as_bytes()).unwrap().subject);
    }
}
