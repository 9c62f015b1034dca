//! Websockets, for browsers: each message of the client is one of the request, each line of the answer
//! becomes a message. As in etcd, streams are made for this; any other call waits for the socket to be closed.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{Sink, SinkExt, StreamExt};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::arriving::Counted;
use crate::grpc::half;
use crate::http::{Download, Front, Upload};

/// What the answer to a key is made of (RFC 6455).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The version of the protocol that there is.
const VERSION: &str = "13";
/// Bytes that a socket reads at once; it holds room for them as long as it lives.
const READ: usize = 16 << 10;

fn has(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
}

/// Whether a request wants to become a websocket.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    has(headers, header::CONNECTION, "upgrade") && has(headers, header::UPGRADE, "websocket")
}

/// Lets a request become a websocket.
pub fn accept(front: Arc<Front>, upgrade: OnUpgrade, head: &Parts) -> Response<Download> {
    if head.method != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED);
    }
    let key = head.headers.get(header::SEC_WEBSOCKET_KEY).and_then(|v| v.to_str().ok());
    let key = key.filter(|k| BASE64_STANDARD.decode(k).is_ok_and(|raw| raw.len() == 16));
    let (Some(key), true) = (key, has(&head.headers, header::SEC_WEBSOCKET_VERSION, VERSION)) else {
        return refuse(StatusCode::BAD_REQUEST);
    };
    let mut response = Response::new(Download::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(proof) = HeaderValue::from_str(&proof(key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, proof);
    }
    if protocol(&head.headers).starts_with("Bearer") {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("Bearer"));
    }
    let mut call = Request::new(()).into_parts().0;
    call.method = Method::POST;
    call.uri = head.uri.clone();
    if let Some(token) = authorization(&head.headers) {
        call.headers.insert(header::AUTHORIZATION, token);
    }
    tokio::spawn(converse(front, upgrade, call));
    response
}

fn refuse(status: StatusCode) -> Response<Download> {
    let text = format!("{}\n", status.canonical_reason().unwrap_or_default());
    let mut response = Response::new(Download::Whole(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    response
}

fn proof(key: &str) -> String {
    BASE64_STANDARD.encode(Sha1::digest(format!("{key}{GUID}")))
}

fn protocol(headers: &HeaderMap) -> &str {
    headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// Pages cannot set headers: the token comes as a protocol after `Bearer`, or as a cookie.
fn authorization(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    let cookie = cookies.find_map(|c| c.trim().strip_prefix("token="));
    let token = cookie.or_else(|| protocol(headers).split_once("Bearer,").map(|(_, token)| token.trim_matches(' ')))?;
    HeaderValue::from_str(&format!("Bearer {token}")).ok()
}

async fn converse(front: Arc<Front>, upgrade: OnUpgrade, call: Parts) {
    // It only fails when the connection does.
    let Ok(io) = upgrade.await else { return };
    let limit = Some(front.gateway.limit());
    let config = WebSocketConfig::default().max_message_size(limit).max_frame_size(limit).read_buffer_size(READ);
    let (io, count) = Counted::new(TokioIo::new(io), &half::OF_CLIENTS);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let (messages, upload) = mpsc::channel(1);
    let receive = async {
        loop {
            let message = tokio::select! {
                message = source.next() => message,
                () = count.overdue() => break,
            };
            let Some(Ok(message)) = message else { break };
            count.is_whole();
            if message.is_text() || message.is_binary() {
                let line = [&message.into_data()[..], b"\n"].concat();
                // A call may have stopped listening, and still have something to say.
                let _ = messages.send(Bytes::from(line)).await;
            }
        }
    };
    let answer = async {
        let sent = match front.gateway.serve(&call, Upload::Messages(upload)).await.into_body() {
            Download::Whole(lines) => send_lines(&mut sink, &lines).await,
            Download::Stream(mut pieces) => {
                // A large line comes in pieces; a message of a socket is sent whole.
                let mut lines = Vec::new();
                loop {
                    let Some(piece) = pieces.recv().await else { break Ok(()) };
                    lines.extend_from_slice(&piece);
                    if lines.ends_with(b"\n")
                        && let Err(e) = send_lines(&mut sink, &std::mem::take(&mut lines)).await
                    {
                        break Err(e);
                    }
                }
            }
            // Of a call of one answer, whose request ends with the socket: nobody is there any more.
            Download::Large(_) => Ok(()),
        };
        if sent.is_ok() {
            // Nobody may be there any more to be told.
            let _ = sink.close().await;
        }
    };
    tokio::select! {
        () = receive => {}
        () = answer => {}
    }
}

async fn send_lines<S: Sink<Message> + Unpin>(sink: &mut S, lines: &[u8]) -> Result<(), S::Error> {
    for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        sink.send(Message::text(String::from_utf8_lossy(line).into_owned())).await?;
    }
    Ok(())
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(HeaderName, &'static str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn websockets_are_told_from_other_requests_and_their_keys_are_answered() {
        let asked = headers(&[(header::CONNECTION, "keep-alive, Upgrade"), (header::UPGRADE, "WebSocket")]);
        assert!(is_asked_for(&asked));
        assert!(!is_asked_for(&headers(&[(header::UPGRADE, "websocket")])));
        // The example of RFC 6455.
        assert_eq!(proof("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn tokens_come_as_protocols_and_cookies() {
        let of = |all: &[(HeaderName, &'static str)]| authorization(&headers(all)).map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(of(&[(header::SEC_WEBSOCKET_PROTOCOL, "Bearer, abc.1")]), Some("Bearer abc.1".into()));
        assert_eq!(of(&[(header::COOKIE, "a=b; token=t; c=d")]), Some("Bearer t".into()));
        assert_eq!(of(&[(header::SEC_WEBSOCKET_PROTOCOL, "chat")]), None);
    }
}
