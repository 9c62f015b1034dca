//! Fuzz target for frames.

use keelson_fuzz::target;

use super::*;

#[test]
fn any_bytes_are_a_frame_of_sound_records_or_none() {
    target!(100_000).for_each(|bytes: &[u8]| {
        // With checksums that fit: what lies behind them must be looked at as well.
        let mut builder = Builder::new();
        builder.0.extend_from_slice(bytes);
        let file = builder.seal(9, 1, 0);
        let frame = read(file, 9, 0).unwrap();
        for record in records(file, &frame) {
            if let Some(Record::Entry { row, .. }) = record {
                assert!(row.end <= file.len())
            }
        }
        assert!(read(bytes, 9, 0).is_none() || bytes.len() >= HEADER);
        let _ = is_torn(bytes, 9, 0, 1);
    });
}
