//! What is not HTTP/2, or only nearly. The connection it comes on is closed; no other one notices.

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::RangeRequest;
use keelson_e2e::program::Program;
use keelson_e2e::raw::framed;
use keelson_e2e::raw::wire::{PREFACE, Wire, call_headers, flag, frame, header, kind};

use super::common::{start, start_as, unharmed};

const RANGE: &str = "/etcdserverpb.KV/Range";
/// The reason for a refusal, by its number in RFC 9113.
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

/// First bytes that no server of this API can go on from.
fn other_protocols() -> Vec<(&'static str, Vec<u8>)> {
    let long_headers = || (0..).map(|i| format!("x-{i}: {}\r\n", "y".repeat(1000)));
    vec![
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on, for more bytes than a preface has".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        ("zeros", vec![0; 1000]),
        ("another version of HTTP", b"GET /health HTTP/9.9\r\n\r\n".to_vec()),
        ("HTTP with a broken header", b"GET /health HTTP/1.1\r\nno colon\r\n\r\n".to_vec()),
        ("HTTP with two lengths", b"POST /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec()),
        ("an endless first line", [b"GET /".to_vec(), vec![b'a'; 4 << 20]].concat()),
        ("endless headers", [&b"GET / HTTP/1.1\r\n"[..], long_headers().take(4000).collect::<String>().as_bytes()].concat()),
        ("nearly a preface", b"PRI * HTTP/2.0\r\n\r\nNO\r\n\r\n".to_vec()),
    ]
}

/// Frames that break the protocol after a good beginning, so that the connection must end.
fn broken_frames() -> Vec<(&'static str, Vec<u8>)> {
    let headers = call_headers(RANGE);
    let begun = frame(kind::HEADERS, flag::NONE, 1, &headers);
    vec![
        ("a call on an even stream", frame(kind::HEADERS, flag::END_HEADERS, 2, &headers)),
        ("a call on stream 0", frame(kind::HEADERS, flag::END_HEADERS, 0, &headers)),
        ("data on a stream that was never opened", frame(kind::DATA, flag::NONE, 5, b"data")),
        ("data on stream 0", frame(kind::DATA, flag::NONE, 0, b"data")),
        ("a frame longer than allowed", frame(kind::DATA, flag::NONE, 1, &vec![0; 2 << 20])),
        ("headers that are no HPACK", frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xff; 64])),
        ("a header table of 4 GiB", frame(kind::HEADERS, flag::END_HEADERS, 1, &[0x3f, 0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("headers interrupted by a ping", [begun.clone(), frame(kind::PING, flag::NONE, 0, &[0; 8])].concat()),
        ("headers continued on another stream", [begun, frame(kind::CONTINUATION, flag::NONE, 3, &[])].concat()),
        ("a continuation of nothing", frame(kind::CONTINUATION, flag::NONE, 1, &[])),
        ("a ping of 7 bytes", frame(kind::PING, flag::NONE, 0, &[0; 7])),
        ("a ping on a stream", frame(kind::PING, flag::NONE, 1, &[0; 8])),
        ("settings cut off", frame(kind::SETTINGS, flag::NONE, 0, &[0; 5])),
        ("an acknowledgement with content", frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])),
        ("a window of 2^31", frame(kind::SETTINGS, flag::NONE, 0, &[0, 4, 0x80, 0, 0, 0])),
        ("a window grown past its end", frame(kind::WINDOW_UPDATE, flag::NONE, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("a window grown by nothing", frame(kind::WINDOW_UPDATE, flag::NONE, 0, &[0; 4])),
        ("a reset of a stream that was never opened", frame(kind::RST_STREAM, flag::NONE, 7, &[0; 4])),
        ("a pushed promise", frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2])),
    ]
}

#[tokio::test]
async fn what_is_not_http_ends_only_its_own_connection() -> Result<()> {
    let mut server = start(&[]).await?;
    for (what, bytes) in other_protocols() {
        let mut wire = Wire::connect(&server).await?;
        // The server may close before everything is sent.
        let _ = wire.send(&bytes).await;
        wire.until_closed().await.with_context(|| what)?;
    }
    unharmed(&mut server).await
}

#[tokio::test]
async fn what_breaks_http2_ends_only_its_own_connection() -> Result<()> {
    let mut server = start(&[]).await?;
    for (what, bytes) in broken_frames() {
        let mut wire = Wire::open(&server).await?;
        let _ = wire.send(&bytes).await;
        wire.until_closed().await.with_context(|| what)?;
    }
    unharmed(&mut server).await
}

/// Every place at which a good conversation can break off.
#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_anything_leaves_nothing_behind() -> Result<()> {
    let mut server = start(&[]).await?;
    let request = framed(&RangeRequest { key: "key".into(), ..Default::default() });
    let conversation = [
        PREFACE,
        &frame(kind::SETTINGS, flag::NONE, 0, &[]),
        &frame(kind::HEADERS, flag::END_HEADERS, 1, &call_headers(RANGE)),
        &frame(kind::DATA, flag::END_STREAM, 1, &request),
    ]
    .concat();
    let before = server.open_files()?;
    for length in 0..=conversation.len() {
        let mut wire = Wire::connect(&server).await?;
        wire.send(&conversation[..length]).await?;
    }
    keelson_e2e::wait::until("the connections are closed", keelson_e2e::raw::ANSWER_LIMIT, async || {
        Ok(server.open_files()? <= before)
    })
    .await?;
    unharmed(&mut server).await
}

/// Opens streams until one is refused; how many were not.
async fn streams_until_refused(program: Program, allowed: u32) -> Result<u32> {
    let mut server = start_as(program, &["--max-concurrent-streams", &allowed.to_string()]).await?;
    let mut wire = Wire::open(&server).await?;
    let settings = wire.until(kind::SETTINGS).await?;
    let announced = settings.payload.chunks(6).find(|setting| setting[..2] == [0, 3]).context("the limit is not announced")?;
    ensure!(announced[2..] == allowed.to_be_bytes(), "announced {announced:?}");
    // Acknowledged, so that the server may hold this client to it.
    wire.send(&frame(kind::SETTINGS, flag::ACK, 0, &[])).await?;
    for number in 0..=allowed {
        let headers = call_headers("/etcdserverpb.Watch/Watch");
        wire.send(&frame(kind::HEADERS, flag::END_HEADERS, 2 * number + 1, &headers)).await?;
    }
    let refused = wire.until(kind::RST_STREAM).await?;
    ensure!(refused.payload == REFUSED_STREAM, "{refused:?}");
    unharmed(&mut server).await?;
    Ok((refused.stream - 1) / 2)
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_those_within_are_not() -> Result<()> {
    assert_eq!(streams_until_refused(Program::Etcd, 16).await.context("etcd")?, 16);
    assert_eq!(streams_until_refused(Program::under_test()?, 16).await?, 16);
    Ok(())
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() -> Result<()> {
    let mut server = start(&[]).await?;
    let mut wire = Wire::open(&server).await?;
    let filler = header("x", &"y".repeat(100));
    let mut fragment: Vec<u8> = call_headers(RANGE);
    while fragment.len() + filler.len() < 16_384 {
        fragment.extend_from_slice(&filler);
    }
    // 16 MiB of headers that never end, if the server lets it come to that.
    let mut refused = wire.send(&frame(kind::HEADERS, flag::END_STREAM, 1, &fragment)).await.is_err();
    for _ in 0..1024 {
        refused = refused || wire.send(&frame(kind::CONTINUATION, flag::NONE, 1, &fragment)).await.is_err();
    }
    if !refused {
        wire.until_closed().await.context("16 MiB of headers")?;
    }
    unharmed(&mut server).await
}
