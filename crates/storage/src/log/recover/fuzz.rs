//! Fuzz target for whole segments.

use keelson_fuzz::target;

use super::super::frame::Builder;
use super::*;

const SECTOR: usize = 512;
const SALT: u64 = 9;
/// Rows of each input, and how often one is repeated: so that they lie in several sectors.
const ROWS: usize = 8;
const TIMES: usize = 30;

/// A segment with a frame for each row, and where those end.
fn segment_of(rows: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let mut file = Header { sequence: 1, salt: SALT, first_frame: 1 }.encode();
    file.resize(FRAMES_AT, 0);
    let mut number = 1;
    let mut add = |file: &mut Vec<u8>, mut frame: Builder| {
        let at = file.len();
        file.extend_from_slice(frame.seal(SALT, number, at));
        number += 1;
        file.len()
    };
    add(&mut file, Builder::new());
    let mut ends = Vec::new();
    for (index, row) in (1..).zip(rows) {
        let mut frame = Builder::new();
        frame.entry(index, row);
        ends.push(add(&mut file, frame));
    }
    file.resize(file.len().next_multiple_of(PAGE) + PAGE, 0);
    (file, ends)
}

#[test]
fn what_was_written_is_there_or_the_log_is_refused_whatever_bits_flip_and_whichever_sector_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_owned();
    let path = segment::path(&folder, 1);
    target!(1_500).with_type::<(Vec<Vec<u8>>, bool, u8, Vec<(u16, u8)>)>().for_each(|(rows, loses, sector, flips)| {
        let rows: Vec<Vec<u8>> = rows.iter().take(ROWS).map(|row| row.repeat(TIMES)).collect();
        let (mut file, ends) = segment_of(&rows);
        let certain = if *loses {
            // As a crash leaves the last frame. What had a part in the sector may be gone, what comes before may not.
            let at = usize::from(*sector) % (file.len() / SECTOR) * SECTOR;
            file[at..at + SECTOR].fill(0);
            ends.iter().take_while(|end| **end <= at).count()
        } else {
            for (at, bits) in flips {
                let at = usize::from(*at) % file.len();
                file[at] ^= bits;
            }
            rows.len()
        };
        fs::write(&path, &file).unwrap();
        let mut contents = Contents::default();
        match recover(&folder, false, &mut contents) {
            Ok(_) => {
                let left: Vec<_> = contents.from(0).collect();
                assert!(left.len() >= certain, "{} of {} rows, {certain} must be there", left.len(), rows.len());
                for ((_, place), row) in left.iter().zip(&rows) {
                    let at = usize::try_from(place.offset).unwrap();
                    assert_eq!(&file[at..at + place.length as usize], row.as_slice());
                }
            }
            Err(e) => assert!(e.0.contains(path.to_str().unwrap()) && e.0.contains("restore a backup"), "{e}"),
        }
    });
}
