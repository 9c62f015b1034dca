//! Fuzz target for the keys of log entries.

use keelson_fuzz::target;

use super::*;

#[test]
fn any_key_of_an_entry_is_its_index_or_refused() {
    target!(100_000).for_each(|key: &[u8]| match index_of(key) {
        Ok(index) => assert_eq!(index.to_be_bytes(), key),
        Err(e) => assert!(e.0.contains("damaged")),
    });
}
