//! Fuzz target for headers of segments.

use keelson_fuzz::{Damage, damaged, target};

use super::*;

#[test]
fn a_header_is_read_as_it_was_written_or_not_at_all_whatever_lies_there() {
    target!(50_000).with_type::<(u64, u64, u64, Vec<Damage>, Vec<u8>)>().for_each(|(sequence, salt, first, damage, any)| {
        let whole = Header { sequence: *sequence, salt: *salt, first_frame: *first };
        for bytes in [damaged(&whole.encode(), damage), any.clone()] {
            assert!(Header::decode(&bytes).is_none_or(|read| bytes.starts_with(&read.encode())));
        }
        let _ = sequence_of(Path::new(String::from_utf8_lossy(any).as_ref()));
        assert_eq!(sequence_of(&path(Path::new("/log"), *sequence)), Some(*sequence));
    });
}
