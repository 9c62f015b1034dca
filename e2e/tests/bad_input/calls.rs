//! Calls that are wrong as gRPC: framing, headers, names. Each is sent to etcd as well, so that the
//! table cannot claim what etcd does not say.

use anyhow::{Result, ensure};
use http::Method;
use keelson_api::etcdserverpb::RangeRequest;
use keelson_e2e::program::Program;
use keelson_e2e::raw::call::{Answer, Call, Connection};
use keelson_e2e::raw::{framed, framed_as};
use keelson_e2e::server::Server;
use prost::Message;

use super::common::{start, start_as, unharmed};

const OK: i32 = 0;
const UNKNOWN: i32 = 2;
const INVALID: i32 = 3;
const DEADLINE: i32 = 4;
const EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;

fn range() -> RangeRequest {
    RangeRequest { key: "key".into(), ..Default::default() }
}

const TOO_LARGE: &str = "grpc: received message larger than max (2097153 vs. 2097152)";
const LARGEST: &str = "grpc: received message larger than max (4294967295 vs. 2097152)";
const UNEXPECTED_END: &str = "unexpected EOF";
const NO_ENCODING: &str = "grpc: compressed flag set with identity or empty encoding";
const BAD_TIMEOUT: &str = "malformed grpc-timeout: …";
const BAD_CONTENT_TYPE: &str = "invalid gRPC request content-type …";
/// The message of [`range`], compressed.
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xe3\x62\xce\x4e\xad\x04\0\xe9\x32\xf6\xeb\x05\0\0\0";

/// What is wrong, the call, and what etcd answers.
type Case = (&'static str, Call, i32, &'static str);

fn framing() -> Vec<Case> {
    let call = Call::range;
    let whole = framed(&range());
    let message = range().encode_to_vec();
    let gzip = || call().header("grpc-encoding", "gzip");
    vec![
        ("nothing", call(), OK, ""),
        ("a header cut off", call().body(whole.slice(..3)), UNKNOWN, "EOF"),
        ("a message cut off", call().body(whole.slice(..7)), UNKNOWN, UNEXPECTED_END),
        ("a message shorter than announced", call().body(framed_as(0, Some(100), &message)), UNKNOWN, UNEXPECTED_END),
        ("a message over the limit", call().body(framed_as(0, Some(2_097_153), &message)), EXHAUSTED, TOO_LARGE),
        ("the same, not ended", call().body(framed_as(0, Some(2_097_153), &message)).hangs(), EXHAUSTED, TOO_LARGE),
        ("the longest length there is", call().body(framed_as(0, Some(u32::MAX), &message)), EXHAUSTED, LARGEST),
        ("a second message", call().body([&whole[..], &whole].concat()), OK, ""),
        ("half a second message", call().body([&whole[..], &whole[..4]].concat()), OK, ""),
        ("compressed without saying how", call().body(framed_as(1, None, &message)), INTERNAL, NO_ENCODING),
        ("an unknown flag", call().body(framed_as(2, None, &message)), INTERNAL, "grpc: received unexpected payload format 2"),
        (
            "an encoding nobody knows",
            call().header("grpc-encoding", "nope").body(framed_as(1, None, &message)),
            UNIMPLEMENTED,
            "grpc: Decompressor is not installed for grpc-encoding \"nope\"",
        ),
        ("gzip, well used", gzip().body(framed_as(1, None, GZIP)), OK, ""),
        ("gzip announced, not used", gzip(), OK, ""),
        ("gzip that is none", gzip().body(framed_as(1, None, &message)), INTERNAL, "grpc: failed to decompress the message: …"),
    ]
}

fn names() -> Vec<Case> {
    let path = |path| Call::range().path(path);
    vec![
        ("an unknown service", path("/etcdserverpb.Nope/Range"), UNIMPLEMENTED, "unknown service etcdserverpb.Nope"),
        ("an unknown method", path("/etcdserverpb.KV/Nope"), UNIMPLEMENTED, "unknown method Nope for service etcdserverpb.KV"),
        ("no method", path("/etcdserverpb.KV/"), UNIMPLEMENTED, "unknown method  for service etcdserverpb.KV"),
        ("no service", path("/"), UNIMPLEMENTED, "malformed method name: \"/\""),
        ("one name only", path("/nope"), UNIMPLEMENTED, "malformed method name: \"/nope\""),
        ("three names", path("/etcdserverpb.KV/Range/More"), UNIMPLEMENTED, "unknown service etcdserverpb.KV/Range"),
        ("two slashes", path("//etcdserverpb.KV/Range"), UNIMPLEMENTED, "unknown service /etcdserverpb.KV"),
        ("another case", path("/etcdserverpb.kv/range"), UNIMPLEMENTED, "unknown service etcdserverpb.kv"),
        ("a query", path("/etcdserverpb.KV/Range?a=b"), UNIMPLEMENTED, "unknown method Range?a=b for service etcdserverpb.KV"),
        ("an escaped name", path("/etcdserverpb.KV/%0A"), UNIMPLEMENTED, "unknown method %0A for service etcdserverpb.KV"),
    ]
}

fn headers() -> Vec<Case> {
    let call = Call::range;
    let content = |value| call().header("content-type", value);
    let timeout = |value| call().header("grpc-timeout", value);
    vec![
        ("no content type", call().without("content-type"), INVALID, BAD_CONTENT_TYPE),
        ("another content type", content("text/plain"), INVALID, BAD_CONTENT_TYPE),
        ("almost the content type", content("application/grpcnope"), INVALID, BAD_CONTENT_TYPE),
        ("a content type with a codec", content("application/grpc+proto"), OK, ""),
        ("a content type with parameters", content("application/grpc;charset=utf-8"), OK, ""),
        ("a codec that nobody knows", content("application/grpc+nope"), OK, ""),
        ("no te", call().without("te"), OK, ""),
        ("GET", call().method(Method::GET), INTERNAL, "Received a HEADERS frame with :method \"GET\" which should be POST"),
        ("PUT", call().method(Method::PUT), INTERNAL, "Received a HEADERS frame with :method \"PUT\" which should be POST"),
        ("a timeout without a unit", timeout("5"), INTERNAL, BAD_TIMEOUT),
        ("a timeout that is no number", timeout("xS"), INTERNAL, BAD_TIMEOUT),
        ("a negative timeout", timeout("-5S"), INTERNAL, BAD_TIMEOUT),
        ("a timeout of too many digits", timeout("999999999S"), INTERNAL, BAD_TIMEOUT),
        ("a timeout of 11,415 years", timeout("99999999H"), OK, ""),
        ("no time at all", timeout("0n"), DEADLINE, "context deadline exceeded"),
        (
            "binary metadata that is not base64",
            call().header("x-bin", "!"),
            INTERNAL,
            "malformed binary metadata \"!\" in header …",
        ),
        ("metadata that is not text", call().header("x", vec![0xff]), OK, ""),
        ("metadata of 32 KiB", call().header("x", vec![b'x'; 32 << 10]), OK, ""),
    ]
}

/// Where the table's text ends in …, the rest is up to the library that wrote it.
fn is_expected(answer: &Answer, code: i32, text: &str) -> bool {
    let (c, t) = answer.status();
    c == code && (t == text || text.strip_suffix('…').is_some_and(|begins| t.starts_with(begins)))
}

/// Sends every case; what was answered otherwise than the table has it.
async fn differences(server: &Server, cases: &[Case]) -> Result<Vec<String>> {
    let connection = Connection::open(server).await?;
    let mut out = Vec::new();
    for (what, call, code, text) in cases {
        let answer = connection.call(call).await?;
        if !is_expected(&answer, *code, text) {
            out.push(format!("{what}: {answer:?}, not {code}: {text}"));
        }
    }
    Ok(out)
}

async fn compare(cases: Vec<Case>) -> Result<()> {
    let mut server = start(&[]).await?;
    let etcd = start_as(Program::Etcd, &[]).await?;
    let theirs = differences(&etcd, &cases).await?;
    ensure!(theirs.is_empty(), "the table is wrong about etcd:\n{}", theirs.join("\n"));
    let ours = differences(&server, &cases).await?;
    ensure!(ours.is_empty(), "the server differs from etcd:\n{}", ours.join("\n"));
    unharmed(&mut server).await
}

#[tokio::test]
async fn a_message_that_is_framed_wrongly_is_refused_with_the_code_and_text_of_etcd() -> Result<()> {
    compare(framing()).await
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_refused_with_the_code_and_text_of_etcd() -> Result<()> {
    compare(names()).await
}

#[tokio::test]
async fn headers_that_make_no_sense_are_refused_with_the_code_and_text_of_etcd() -> Result<()> {
    compare(headers()).await
}

/// Etcd says nothing to this, until the client gives up.
#[tokio::test]
async fn a_call_without_a_message_is_refused() -> Result<()> {
    let mut server = start(&[]).await?;
    let answer = Connection::open(&server).await?.call(&Call::range().body("")).await?;
    ensure!(answer.status().0 == INTERNAL, "{answer:?}");
    unharmed(&mut server).await
}
