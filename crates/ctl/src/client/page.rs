//! A page that a member serves over plain HTTP, such as its metrics.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::call::Client;

impl Client {
    /// From the first endpoint. In HTTP/1.0 an answer ends with its connection, and needs no taking apart.
    pub async fn page(&self, path: &str) -> io::Result<String> {
        let mut dial = self.first();
        if let Some(tls) = &mut dial.tls {
            let mut config = (*tls.config).clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            tls.config = Arc::new(config);
        }
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", dial.endpoint.authority());
        let mut io = dial.open().await?;
        io.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        match io.read_to_end(&mut answer).await {
            // Some servers end a TLS connection without saying so.
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(e),
            _ => {}
        }
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&*answer, ""));
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(io::Error::other(status.to_owned())) }
    }
}
