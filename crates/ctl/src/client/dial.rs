//! Opens connections, over TCP or a unix socket, with TLS or without.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::endpoint::{Address, Endpoint};
use super::tls::Tls;

/// Whatever bytes travel through.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Opens connections to one endpoint, and asks nobody where that is.
#[derive(Clone)]
pub struct Dial {
    pub endpoint: Endpoint,
    pub tls: Option<Tls>,
}

impl Dial {
    pub async fn open(self) -> io::Result<Box<dyn Socket>> {
        let io: Box<dyn Socket> = match &self.endpoint.address {
            Address::Tcp(authority) => {
                let io = TcpStream::connect(authority.as_str()).await?;
                io.set_nodelay(true)?;
                Box::new(io)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        let Some(tls) = self.tls else { return Ok(io) };
        let host = tls.server_name.unwrap_or(self.endpoint.host);
        let name = ServerName::try_from(host).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        Ok(Box::new(TlsConnector::from(tls.config).connect(name, io).await?))
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Box<dyn Socket>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { dial.open().await.map(TokioIo::new) })
    }
}
