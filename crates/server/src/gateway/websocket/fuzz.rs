//! Fuzz target for the headers of a request that wants to become a websocket. Frames are read by a library.

use keelson_fuzz::target;

use super::*;

const PIECES: [&str; 10] = ["upgrade", "WebSocket", "Bearer", "Bearer,", "token=", ";", ",", " ", "a.1", "\u{e9}"];

#[test]
fn any_headers_ask_for_a_websocket_or_do_not_and_give_one_token_at_most() {
    target!(10_000).with_type::<Vec<(u8, Vec<u8>)>>().for_each(|lines| {
        let names = [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_PROTOCOL, header::COOKIE, header::AUTHORIZATION];
        let mut headers = HeaderMap::new();
        for (name, pieces) in lines.iter().take(8) {
            let value: String = pieces.iter().take(8).map(|n| PIECES[usize::from(*n) % PIECES.len()]).collect();
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(names[usize::from(*name) % names.len()].clone(), value);
            }
        }
        if is_asked_for(&headers) {
            assert!(headers.contains_key(header::CONNECTION) && headers.contains_key(header::UPGRADE));
        }
        if let Some(token) = authorization(&headers) {
            assert!(token.as_bytes().starts_with(b"Bearer "));
            let is_from_a_page = headers.contains_key(header::COOKIE) || headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
            assert!(is_from_a_page, "{headers:?}");
        }
    });
}
