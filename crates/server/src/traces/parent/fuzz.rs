//! Fuzz target for what clients tell of their spans.

use http::HeaderValue;
use keelson_fuzz::target;

use super::*;

fn parent(text: &[u8]) -> Option<Parent> {
    let value = HeaderValue::from_bytes(text).ok()?;
    Parent::of(&HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), value)]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_span_is_read_as_it_was_told_and_nothing_else_is_one() {
    target!(30_000).with_type::<([u8; 16], [u8; 8], u8, Vec<u8>)>().for_each(|(trace, span, flags, any)| {
        let told = format!("00-{}-{}-{flags:02x}", hex(trace), hex(span));
        let is_one = *trace != [0; 16] && *span != [0; 8] && *flags <= FLAGS;
        let is_sampled = flags & SAMPLED != 0;
        let expected = is_one.then(|| Parent { trace: *trace, span: *span, is_sampled, state: String::new() });
        assert_eq!(parent(told.as_bytes()), expected);
        // The same, with something else from somewhere on.
        let mut damaged = told.into_bytes();
        let at = any.len() % damaged.len();
        damaged.truncate(at);
        damaged.extend_from_slice(any);
        if let Some(read) = parent(&damaged) {
            assert!(damaged.len() >= 55 && read.trace != [0; 16] && read.span != [0; 8]);
        }
    });
}
