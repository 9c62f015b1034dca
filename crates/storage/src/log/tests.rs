//! The log is opened, written, torn and damaged.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;

use tempfile::TempDir;

use super::segment::{FRAMES_AT, SIZE};
use super::*;

fn open(dir: &TempDir) -> Result<LogStore, LogError> {
    LogStore::open(&dir.path().join("log"), true, Arc::new(|_| {}))
}

fn finished(start: impl FnOnce(Box<dyn FnOnce(Result<(), LogError>) + Send>)) {
    let (done, result) = mpsc::channel();
    start(Box::new(move |r| done.send(r).unwrap()));
    result.recv().unwrap().unwrap();
}

fn append(log: &LogStore, rows: impl IntoIterator<Item = (u64, Vec<u8>)>) {
    let rows = rows.into_iter().map(|(index, row)| (index, row.into())).collect();
    finished(|done| log.append(rows, done));
}

fn row(index: u64) -> Vec<u8> {
    format!("row {index}").into_bytes()
}

fn all(log: &LogStore) -> Vec<(u64, Vec<u8>)> {
    let mut rows: Vec<(u64, Vec<u8>)> = Vec::new();
    loop {
        let next = rows.last().map_or(0, |(index, _)| index + 1);
        let more = log.read(next..u64::MAX, usize::MAX).unwrap();
        if more.is_empty() {
            return rows;
        }
        rows.extend(more.into_iter().map(|(index, row)| (index, row.to_vec())));
    }
}

fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.path().join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = files.filter(|path| segment::sequence_of(path).is_some()).collect();
    segments.sort();
    segments
}

/// Where the frames of a file end.
fn used(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1
}

fn flip(path: &Path, at: usize) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
}

fn refused(dir: &TempDir) -> String {
    open(dir).err().expect("damage is refused").0
}

#[test]
fn what_was_written_is_there_after_it_was_opened_again() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir).unwrap();
    assert_eq!((log.bounds(), log.mark("vote")), (LogBounds::default(), None));
    append(&log, (1..=5).map(|i| (i, row(i))));
    finished(|done| log.set_mark("vote", vec![1], done));
    finished(|done| log.truncate_from(4, done));
    append(&log, [(4, b"another".to_vec())]);
    finished(|done| log.purge(1, "purged", vec![2], done));
    log.set_mark_lazily("committed", vec![3]);
    let expected = [(2, row(2)), (3, row(3)), (4, b"another".to_vec())];
    for log in [log, open(&dir).unwrap()] {
        assert_eq!(all(&log), expected);
        assert_eq!(log.bounds(), LogBounds { first: Some(2), last: Some(4) });
        assert_eq!(log.read(3..4, usize::MAX).unwrap().len(), 1);
        assert_eq!(log.read(2..5, 1).unwrap().len(), 1);
        assert_eq!((log.mark("vote"), log.mark("purged")), (Some(vec![1]), Some(vec![2])));
    }
    assert_eq!(open(&dir).unwrap().mark("committed"), Some(vec![3]));
}

#[test]
fn segments_follow_each_other_and_go_when_their_entries_are_purged() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir).unwrap();
    finished(|done| log.set_mark("vote", vec![7], done));
    for index in 1..=40 {
        append(&log, [(index, vec![index as u8; 1 << 20])]);
    }
    assert_eq!(segments(&dir).len(), 3);
    finished(|done| log.purge(39, "purged", vec![39], done));
    assert_eq!(segments(&dir).len(), 1);
    drop(log);
    let log = open(&dir).unwrap();
    assert_eq!(all(&log), [(40, vec![40; 1 << 20])]);
    assert_eq!((log.mark("vote"), log.mark("purged")), (Some(vec![7]), Some(vec![39])));
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir).unwrap();
    append(&log, [(1, vec![1; SIZE + 1])]);
    append(&log, [(2, row(2))]);
    drop(log);
    assert_eq!(all(&open(&dir).unwrap()), [(1, vec![1; SIZE + 1]), (2, row(2))]);
}

#[test]
fn a_write_torn_anywhere_is_cut_off_and_the_log_goes_on() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir).unwrap();
    append(&log, [(1, row(1))]);
    let path = segments(&dir).remove(0);
    let before = used(&path);
    append(&log, [(2, vec![b'x'; 3000])]);
    drop(log);
    let whole = fs::read(&path).unwrap();
    let after = used(&path);
    // Sectors arrive in any order.
    for sector in before / 512..after.div_ceil(512) {
        let lost = sector * 512;
        let mut torn = whole.clone();
        torn[lost.max(before)..(lost + 512).min(after)].fill(0);
        fs::write(&path, torn).unwrap();
        let log = open(&dir).unwrap();
        assert_eq!(all(&log), [(1, row(1))], "lost {lost}");
        append(&log, [(2, b"short".to_vec())]);
        drop(log);
        assert_eq!(all(&open(&dir).unwrap()), [(1, row(1)), (2, b"short".to_vec())], "lost {lost}");
    }
}

#[test]
fn damage_in_the_last_write_that_no_crash_can_leave_is_refused_and_nothing_of_it_is_lost() {
    // Zeros as well: a sector without anything in it is not one that is missing.
    for filler in [b'x', 0] {
        let dir = TempDir::new().unwrap();
        let log = open(&dir).unwrap();
        append(&log, [(1, row(1))]);
        let begin = used(&segments(&dir)[0]).next_multiple_of(8);
        append(&log, [(2, vec![filler; 3000])]);
        drop(log);
        let path = segments(&dir).remove(0);
        // Every field of the header, and the records.
        for at in [1, 5, 9, 17, 21, 30, 1500, 3000].map(|after| begin + after) {
            flip(&path, at);
            let damaged = fs::read(&path).unwrap();
            assert!(refused(&dir).contains(path.to_str().unwrap()), "{filler} at {at}");
            assert!(fs::read(&path).unwrap() == damaged);
            flip(&path, at);
        }
        assert_eq!(all(&open(&dir).unwrap()).len(), 2);
    }
}

#[test]
fn a_segment_without_its_first_frame_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir).unwrap());
    let path = segments(&dir).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[FRAMES_AT..].fill(0);
    fs::write(&path, bytes).unwrap();
    assert!(refused(&dir).contains("first frame"));
}

#[test]
fn an_entry_that_does_not_follow_never_gets_to_disk() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir).unwrap();
    append(&log, [(5, row(5)), (6, row(6))]);
    finished(|done| log.truncate_from(6, done));
    append(&log, [(6, row(6))]);
    finished(|done| log.purge(6, "purged", vec![6], done));
    append(&log, [(9, row(9))]);
    let (done, result) = mpsc::channel();
    log.append(vec![(11, row(11).into())], move |r| done.send(r).unwrap());
    assert!(result.recv().unwrap().unwrap_err().0.contains("entry 11 does not follow"));
    drop(log);
    assert_eq!(all(&open(&dir).unwrap()), [(9, row(9))]);
}

#[test]
fn damage_before_the_last_write_is_refused_and_named() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir).unwrap();
    (1..=20).for_each(|index| append(&log, [(index, row(index))]));
    drop(log);
    let path = segments(&dir).remove(0);
    let bytes = fs::read(&path).unwrap();
    let last = (FRAMES_AT..used(&path)).rev().find(|at| bytes[*at..].starts_with(b"row 20")).unwrap() - 64;
    for at in [2, 20, FRAMES_AT + 3, FRAMES_AT + 12, (FRAMES_AT + last) / 2, last] {
        flip(&path, at);
        let text = refused(&dir);
        assert!(text.contains(path.to_str().unwrap()) && text.contains("restore a backup"), "{at}: {text}");
        flip(&path, at);
    }
    assert_eq!(all(&open(&dir).unwrap()).len(), 20);
}

#[test]
fn a_missing_or_shortened_or_foreign_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir).unwrap();
    (1..=40).for_each(|index| append(&log, [(index, vec![1; 1 << 20])]));
    drop(log);
    let [first, second, third] = segments(&dir).try_into().unwrap();
    let away = dir.path().join("away");
    fs::rename(&second, &away).unwrap();
    assert!(refused(&dir).contains("it is missing"));
    fs::write(&second, &fs::read(&away).unwrap()[..SIZE / 2]).unwrap();
    let text = refused(&dir);
    assert!(text.contains(second.to_str().unwrap()), "{text}");
    fs::rename(&away, &second).unwrap();
    let odd = dir.path().join("log/000012.sst");
    fs::write(&odd, "x").unwrap();
    assert!(refused(&dir).contains("not a file of the log"));
    fs::remove_file(odd).unwrap();
    assert_eq!(all(&open(&dir).unwrap()).len(), 40);
    flip(&first, FRAMES_AT + 4000);
    assert!(refused(&dir).contains(first.to_str().unwrap()));
    let _ = third;
}

#[test]
fn a_row_that_changed_since_it_was_opened_is_refused() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir).unwrap();
    append(&log, [(1, vec![b'x'; 100])]);
    flip(&segments(&dir)[0], used(&segments(&dir)[0]) - 50);
    assert!(log.read(1..2, usize::MAX).unwrap_err().0.contains("entry 1 is not what was written"));
}
