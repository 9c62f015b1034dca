//! Frames: what is written and synced at once. A frame holds records; each is one thing that was done to
//! the log. Its header has a checksum of its own, so that it can be told whether a crash has left the rest unwritten or
//! something has damaged it since. Layout in `docs/formats/log.md`.

use std::ops::Range;

/// Checksum of the rest of the header (4), length of the records (4), number (8), checksum of the records (4), sectors of
/// the frame that are zeros (4).
const HEADER: usize = 24;
/// Frames begin at multiples of this.
const ALIGN: usize = 8;
/// Disks write so many bytes whole or not at all.
const SECTOR: usize = 512;

const ENTRY: u8 = 1;
const MARK: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;

/// One thing that was done to the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// An entry; its row lies here within the file.
    Entry {
        index: u64,
        row: Range<usize>,
    },
    Mark {
        name: &'a str,
        value: &'a [u8],
    },
    /// All entries from `index` on are gone.
    Truncate {
        index: u64,
    },
    /// All entries up to and including `index` are gone.
    Purge {
        index: u64,
    },
}

fn checksum(salt: u64, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_be_bytes()), rest)
}

/// The parts of sectors of a file that lie in a range of it.
fn sectors(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let Range { start, end } = range;
    (start / SECTOR..end.div_ceil(SECTOR)).map(move |n| start.max(n * SECTOR)..end.min((n + 1) * SECTOR))
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// How many sectors of a frame, which lies at `at`, are nothing but zeros.
fn blank_sectors(frame: &[u8], at: usize) -> usize {
    sectors(at..at + frame.len()).filter(|part| is_blank(&frame[part.start - at..part.end - at])).count()
}

/// A frame being put together.
pub(super) struct Builder(Vec<u8>);

impl Builder {
    pub(super) fn new() -> Self {
        Self(vec![0; HEADER])
    }

    /// Where the row lies within the frame.
    pub(super) fn entry(&mut self, index: u64, row: &[u8]) -> Range<usize> {
        self.0.push(ENTRY);
        self.0.extend(index.to_be_bytes());
        self.bytes(row)
    }

    pub(super) fn mark(&mut self, name: &str, value: &[u8]) {
        self.0.push(MARK);
        self.bytes(name.as_bytes());
        self.bytes(value);
    }

    pub(super) fn truncate(&mut self, index: u64) {
        self.0.push(TRUNCATE);
        self.0.extend(index.to_be_bytes());
    }

    pub(super) fn purge(&mut self, index: u64) {
        self.0.push(PURGE);
        self.0.extend(index.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) -> Range<usize> {
        let length = u32::try_from(bytes.len()).expect("requests are limited far below this");
        self.0.extend(length.to_be_bytes());
        self.0.extend(bytes);
        self.0.len() - bytes.len()..self.0.len()
    }

    /// Bytes that the frame takes in its file.
    pub(super) fn size(&self) -> usize {
        self.0.len().next_multiple_of(ALIGN)
    }

    /// The frame as it is written at `at` to a segment with this salt.
    pub(super) fn seal(&mut self, salt: u64, number: u64, at: usize) -> &[u8] {
        let length = u32::try_from(self.0.len() - HEADER).expect("the log thread cuts frames far below this");
        let records = crc32c::crc32c(&self.0[HEADER..]);
        let size = self.size();
        self.0.resize(size, 0);
        self.0[4..8].copy_from_slice(&length.to_be_bytes());
        self.0[8..16].copy_from_slice(&number.to_be_bytes());
        self.0[16..20].copy_from_slice(&records.to_be_bytes());
        let blank = u32::try_from(blank_sectors(&self.0, at)).expect("fewer than bytes");
        self.0[20..HEADER].copy_from_slice(&blank.to_be_bytes());
        let checksum = checksum(salt, &self.0[4..HEADER]);
        self.0[..4].copy_from_slice(&checksum.to_be_bytes());
        &self.0
    }
}

/// A frame that was read.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) number: u64,
    /// Its records, within the file.
    pub(super) records: Range<usize>,
    /// Where the next frame begins.
    pub(super) end: usize,
}

fn array<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// What a frame says of itself.
struct Header {
    length: usize,
    number: u64,
    records: u32,
    blank: usize,
}

/// The header that lies at `at`, if it is sound; the rest of the frame need not be.
fn header(file: &[u8], salt: u64, at: usize) -> Option<Header> {
    let bytes: [u8; HEADER] = array(file, at)?;
    let number = u64::from_be_bytes(array(&bytes, 8)?);
    // Zeros are what follows the last frame.
    if number == 0 || checksum(salt, &bytes[4..]) != u32::from_be_bytes(array(&bytes, 0)?) {
        return None;
    }
    Some(Header {
        length: u32::from_be_bytes(array(&bytes, 4)?) as usize,
        number,
        records: u32::from_be_bytes(array(&bytes, 16)?),
        blank: u32::from_be_bytes(array(&bytes, 20)?) as usize,
    })
}

/// The frame that begins at `at`, if a whole one does.
pub(super) fn read(file: &[u8], salt: u64, at: usize) -> Option<Frame> {
    let Header { length, number, records: sum, .. } = header(file, salt, at)?;
    let records = at + HEADER..(at + HEADER).checked_add(length)?;
    let end = records.end.next_multiple_of(ALIGN);
    let is_whole = crc32c::crc32c(file.get(records.clone())?) == sum && is_blank(file.get(records.end..end)?);
    is_whole.then_some(Frame { number, records, end })
}

/// Whether a crash can have left what lies at `at`, where frame `number` was to be written over zeros. Some of its sectors
/// are missing then: more of them are zeros than its header says, or the header itself is. A frame that is all there and
/// cannot be read was whole once, and somebody was told of it.
pub(super) fn is_torn(file: &[u8], salt: u64, at: usize, number: u64) -> bool {
    match header(file, salt, at) {
        Some(header) => {
            let end = (at + HEADER).saturating_add(header.length).next_multiple_of(ALIGN);
            header.number == number && file.get(at..end).is_some_and(|frame| blank_sectors(frame, at) > header.blank)
        }
        None => sectors(at..file.len().min(at + HEADER)).any(|part| is_blank(&file[part])),
    }
}

/// Whether a whole frame with a number above `number` begins anywhere from `at` on.
pub(super) fn any_after(file: &[u8], salt: u64, at: usize, number: u64) -> bool {
    (at.next_multiple_of(ALIGN)..file.len()).step_by(ALIGN).any(|at| {
        // The number first: it rules out nearly every place, and costs nothing.
        let plausible = array(file, at + 8).map(u64::from_be_bytes).is_some_and(|n| n > number && n < number + (1 << 20));
        plausible && read(file, salt, at).is_some()
    })
}

/// The records of a frame; `None` in place of one that makes no sense.
pub(super) fn records<'a>(file: &'a [u8], frame: &Frame) -> impl Iterator<Item = Option<Record<'a>>> {
    let mut rest = Rest { file, at: frame.records.start, end: frame.records.end };
    std::iter::from_fn(move || {
        if rest.at >= rest.end {
            return None;
        }
        let record = rest.record();
        if record.is_none() {
            rest.at = rest.end;
        }
        Some(record)
    })
}

struct Rest<'a> {
    file: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Rest<'a> {
    fn record(&mut self) -> Option<Record<'a>> {
        let kind = self.take(1)?;
        Some(match self.file[kind.start] {
            ENTRY => Record::Entry { index: self.number()?, row: self.bytes()? },
            MARK => {
                let name = self.bytes()?;
                let value = self.bytes()?;
                Record::Mark { name: std::str::from_utf8(&self.file[name]).ok()?, value: &self.file[value] }
            }
            TRUNCATE => Record::Truncate { index: self.number()? },
            PURGE => Record::Purge { index: self.number()? },
            _ => return None,
        })
    }

    fn take(&mut self, length: usize) -> Option<Range<usize>> {
        let taken = self.at..self.at.checked_add(length).filter(|end| *end <= self.end)?;
        self.at = taken.end;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let taken = self.take(8)?;
        // The last index of all is never reached, and whoever counts on from it would overflow.
        array(self.file, taken.start).map(u64::from_be_bytes).filter(|n| *n < u64::MAX)
    }

    fn bytes(&mut self) -> Option<Range<usize>> {
        let taken = self.take(4)?;
        let length = u32::from_be_bytes(array(self.file, taken.start)?);
        self.take(length as usize)
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, Range<usize>) {
        let mut builder = Builder::new();
        builder.mark("vote", b"me");
        let row = builder.entry(7, b"a row");
        builder.truncate(8);
        builder.purge(3);
        (builder.seal(42, 5, 0).to_vec(), row)
    }

    #[test]
    fn a_frame_that_lacks_a_sector_is_torn_and_one_that_was_changed_is_not() {
        // Where a header lies in one sector, or in two, and a frame in one.
        for at in [0, 488, 496, 504, 1000] {
            for size in [0, 100, 700, 3000] {
                let mut builder = Builder::new();
                builder.entry(1, &[vec![b'x'; 90], vec![0; size], vec![b'y'; 90]].concat());
                let frame = builder.seal(42, 5, at).to_vec();
                let whole = [vec![0; at], frame, vec![0; 600]].concat();
                let end = read(&whole, 42, at).expect("it is whole").end;
                for part in sectors(at..end) {
                    let mut torn = whole.clone();
                    torn[part.clone()].fill(0);
                    assert!(is_torn(&torn, 42, at, 5) || torn == whole, "{size} at {at} without {part:?}");
                }
                for byte in at..end {
                    let mut flipped = whole.clone();
                    flipped[byte] ^= 0x20;
                    assert!(read(&flipped, 42, at).is_none() && !is_torn(&flipped, 42, at, 5), "{size} at {at}, byte {byte}");
                }
                assert!(!is_torn(&whole, 42, at, 6), "another frame");
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let (bytes, row) = sample();
        let frame = read(&bytes, 42, 0).unwrap();
        assert_eq!((frame.number, frame.end), (5, bytes.len()));
        assert_eq!(&bytes[row.clone()], b"a row");
        let records: Vec<_> = records(&bytes, &frame).map(Option::unwrap).collect();
        let expected = [
            Record::Mark { name: "vote", value: b"me" },
            Record::Entry { index: 7, row },
            Record::Truncate { index: 8 },
            Record::Purge { index: 3 },
        ];
        assert_eq!(records, expected);
    }

    #[test]
    fn a_frame_of_another_segment_or_with_any_bit_flipped_is_none() {
        let (bytes, _) = sample();
        assert!(read(&bytes, 41, 0).is_none());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped, 42, 0).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn later_frames_are_found_and_earlier_ones_are_not() {
        let (bytes, _) = sample();
        let file = [vec![0; 64], bytes, vec![0; 64]].concat();
        assert!(any_after(&file, 42, 8, 4));
        assert!(!any_after(&file, 42, 8, 5));
        assert!(!any_after(&file, 42, 72, 4));
    }
}
