//! Fuzz target for frames.

use keelson_fuzz::target;

use super::*;

#[test]
fn any_bytes_are_a_frame_of_sound_records_or_none() {
    target!(100_000).for_each(|bytes: &[u8]| {
        // With a checksum that fits: what lies behind it must be looked at as well.
        let mut file = [vec![0; HEADER], bytes.to_vec()].concat();
        let length = u32::try_from(bytes.len()).unwrap();
        file[4..8].copy_from_slice(&length.to_be_bytes());
        file[15] = 1;
        let sum = checksum(9, &file[4..]);
        file[..4].copy_from_slice(&sum.to_be_bytes());
        file.resize(file.len().next_multiple_of(ALIGN), 0);
        let frame = read(&file, 9, 0).unwrap();
        for record in records(&file, &frame) {
            if let Some(Record::Entry { row, .. }) = record {
                assert!(row.end <= file.len())
            }
        }
        assert!(read(bytes, 9, 0).is_none() || bytes.len() >= HEADER);
    });
}
