//! Calls that are wrong as gRPC: framing, headers, names. Each is sent to etcd as well, so that the
//! table cannot claim what etcd does not say.

use anyhow::{Context, Result, bail};
use http::Method;
use keelson_api::etcdserverpb::RangeRequest;
use keelson_e2e::program::Program;
use keelson_e2e::raw::call::{Answer, Call, Connection};
use keelson_e2e::raw::{framed, framed_as};
use keelson_e2e::server::Server;
use prost::Message;

use crate::common::{start, start_as, unharmed};

/// What must come back.
enum Expected {
    Grpc(i32, &'static str),
    Http(u16),
}
use Expected::{Grpc, Http};

fn range() -> RangeRequest {
    RangeRequest { key: "key".into(), ..Default::default() }
}

fn body(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn cases() -> Vec<(&'static str, Call, Expected)> {
    let call = Call::range;
    let whole = framed(&range());
    let message = range().encode_to_vec();
    vec![
        ("nothing wrong", call(), Grpc(0, "")),
        // Framing.
        ("no message", call().body(""), Grpc(13, "?")),
        ("a header cut off", call().body(whole.slice(..3)), Grpc(13, "?")),
        ("a message cut off", call().body(whole.slice(..7)), Grpc(13, "?")),
        ("a message shorter than announced", call().body(framed_as(0, Some(100), &message)), Grpc(13, "?")),
        ("a message over the limit", call().body(framed_as(0, Some(2_097_153), &message)), Grpc(8, "?")),
        ("a message over the limit, not ended", call().body(framed_as(0, Some(2_097_153), &message)).hangs(), Grpc(8, "?")),
        ("the longest length there is", call().body(framed_as(0, Some(u32::MAX), &message)), Grpc(8, "?")),
        ("a second message", call().body(body(&[&whole, &whole])), Grpc(13, "?")),
        ("half a second message", call().body(body(&[&whole, &whole[..4]])), Grpc(13, "?")),
        ("compressed without saying how", call().body(framed_as(1, None, &message)), Grpc(13, "?")),
        ("an unknown flag", call().body(framed_as(2, None, &message)), Grpc(13, "?")),
        ("an encoding nobody knows", call().header("grpc-encoding", "nope").body(framed_as(1, None, &message)), Grpc(12, "?")),
        ("an encoding announced, not used", call().header("grpc-encoding", "gzip"), Grpc(12, "?")),
        ("gzip that is none", call().header("grpc-encoding", "gzip").body(framed_as(1, None, &message)), Grpc(13, "?")),
        // Names.
        ("an unknown service", call().path("/etcdserverpb.Nope/Range"), Grpc(12, "?")),
        ("an unknown method", call().path("/etcdserverpb.KV/Nope"), Grpc(12, "?")),
        ("no method", call().path("/etcdserverpb.KV/"), Grpc(12, "?")),
        ("no service", call().path("/"), Grpc(12, "?")),
        ("one name only", call().path("/nope"), Grpc(12, "?")),
        ("three names", call().path("/etcdserverpb.KV/Range/More"), Grpc(12, "?")),
        ("two slashes", call().path("//etcdserverpb.KV/Range"), Grpc(12, "?")),
        ("another case", call().path("/etcdserverpb.kv/range"), Grpc(12, "?")),
        ("a query", call().path("/etcdserverpb.KV/Range?a=b"), Grpc(12, "?")),
        ("a name that must be escaped", call().path("/etcdserverpb.KV/%C3%A9%0A"), Grpc(12, "?")),
        // Headers.
        ("no content type", call().without("content-type"), Http(404)),
        ("another content type", call().header("content-type", "text/plain"), Http(404)),
        ("a content type with a codec", call().header("content-type", "application/grpc+proto"), Grpc(0, "")),
        ("a content type with parameters", call().header("content-type", "application/grpc;charset=utf-8"), Grpc(0, "")),
        ("a codec that nobody knows", call().header("content-type", "application/grpc+nope"), Grpc(0, "")),
        ("almost the content type", call().header("content-type", "application/grpcnope"), Http(415)),
        ("no te", call().without("te"), Grpc(0, "")),
        ("GET", call().method(Method::GET), Grpc(13, "?")),
        ("PUT", call().method(Method::PUT), Grpc(13, "?")),
        ("a timeout without a unit", call().header("grpc-timeout", "5"), Grpc(13, "?")),
        ("a timeout that is no number", call().header("grpc-timeout", "xS"), Grpc(13, "?")),
        ("a negative timeout", call().header("grpc-timeout", "-5S"), Grpc(13, "?")),
        ("a timeout of too many digits", call().header("grpc-timeout", "999999999S"), Grpc(13, "?")),
        ("a timeout of 11,415 years", call().header("grpc-timeout", "99999999H"), Grpc(0, "")),
        ("a timeout of nothing", call().header("grpc-timeout", "0n"), Grpc(4, "?")),
        ("binary metadata that is not base64", call().header("x-bin", "!"), Grpc(13, "?")),
        ("metadata that is not text", call().header("x", vec![0xff]), Grpc(0, "")),
        ("metadata of 32 KiB", call().header("x", vec![b'x'; 32 << 10]), Grpc(0, "")),
    ]
}

fn is_expected(answer: &Answer, expected: &Expected) -> bool {
    match (answer, expected) {
        (Answer::Grpc { code, text, .. }, Grpc(c, t)) => {
            code == c && (text == t || t.strip_suffix('…').is_some_and(|t| text.starts_with(t)))
        }
        (Answer::Http(status), Http(s)) => status == s,
        _ => false,
    }
}

/// Sends every case; what was answered otherwise than the table has it.
async fn differences(server: &Server) -> Result<Vec<String>> {
    let connection = Connection::open(server).await?;
    let mut out = Vec::new();
    for (what, call, expected) in cases() {
        let answer = connection.call(&call).await?;
        if !is_expected(&answer, &expected) {
            out.push(format!("{what}: {answer:?}"));
        }
    }
    Ok(out)
}

#[tokio::test]
async fn a_malformed_call_is_refused_with_the_code_and_text_of_etcd() -> Result<()> {
    let mut server = start(&[]).await?;
    let etcd = start_as(Program::Etcd, &[]).await?;
    let (theirs, ours) = (differences(&etcd).await.context("etcd")?, differences(&server).await?);
    if !theirs.is_empty() || !ours.is_empty() {
        bail!("the table is wrong about etcd in:\n{}\nthe server differs in:\n{}", theirs.join("\n"), ours.join("\n"));
    }
    unharmed(&mut server).await
}
