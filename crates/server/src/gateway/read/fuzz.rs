//! Fuzz target for the JSON of requests: pieces of JSON in any order, and any bytes after them.

use keelson_fuzz::target;
use prost::Message;

use super::super::{descriptors, write::write};
use super::*;

/// What messages are made of in JSON, and what nearly looks like it.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "{\"success\":[",
    "{\"request_range\":{",
    "{\"requestTxn\":",
    "\"compare\":[{",
    "\"key\":",
    "\"limit\":",
    "\"version\":\"1\"",
    "\"sort_order\":",
    "\"DESCEND\"",
    "\"create_request\":{",
    "\"filters\":[",
    "\"AA==\"",
    "\"-_8\"",
    "\"!\"",
    "1",
    "-1",
    "1e3",
    "0.5",
    "\"12\"",
    "true",
    "null",
    "\"\\ud800\"",
    "\"\\u0041\"",
    " ",
    "\n",
    "\"unknown\":",
];

#[test]
fn what_is_read_is_written_as_what_is_read_the_same_and_nothing_panics() {
    let names = ["etcdserverpb.TxnRequest", "etcdserverpb.RangeRequest", "etcdserverpb.WatchRequest"];
    let kinds = std::panic::AssertUnwindSafe(names.map(descriptors::message));
    target!(20_000).with_type::<(Vec<u8>, Vec<u8>)>().for_each(|(pieces, noise)| {
        let mut json: Vec<u8> = pieces.iter().flat_map(|p| PIECES[usize::from(*p) % PIECES.len()].bytes()).collect();
        json.extend_from_slice(noise);
        let Ok(Some((value, end))) = first(&json) else { return };
        assert!(end <= json.len());
        for kind in kinds.iter() {
            let Ok(message) = read(kind, value) else { continue };
            let written = write(&message);
            let (again, _) = first(written.as_bytes()).unwrap().unwrap();
            assert_eq!(read(kind, again).unwrap().encode_to_vec(), message.encode_to_vec(), "{written}");
        }
    });
}
