//! A power cut takes what POSIX allows it to take, and nothing else.

use rand::SeedableRng;

use super::*;

fn open(handle: u32, path: &str, created: bool) -> Record {
    Record::Open { handle, path: path.into(), created, emptied: false }
}

fn write(handle: u32, offset: u64, data: &str) -> Record {
    Record::Write { handle, offset, data: data.as_bytes().to_vec() }
}

fn sync(handle: u32, sync: u64) -> [Record; 2] {
    [Record::SyncBegins { handle, sync }, Record::SyncEnds { handle, sync }]
}

fn disk(records: impl IntoIterator<Item = Record>) -> Disk {
    let mut disk = Disk::read(Path::new("/nonexistent")).unwrap();
    for record in records {
        disk.follow(record).unwrap();
    }
    disk
}

/// What certainly survives, as `path=contents`.
fn certain(disk: &Disk) -> Vec<String> {
    let left = disk.after_cut(Fate::Lost, false, &mut StdRng::seed_from_u64(0));
    let file =
        |(path, bytes): (PathBuf, Option<Vec<u8>>)| Some(format!("{}={}", path.display(), String::from_utf8(bytes?).unwrap()));
    left.into_iter().filter_map(file).collect()
}

#[test]
fn bytes_survive_once_their_file_and_its_directory_were_synced() {
    let begin = [open(1, "", false), open(2, "a", true), write(2, 0, "one")];
    assert!(certain(&disk(begin.clone())).is_empty());
    let file_synced = begin.into_iter().chain(sync(2, 1));
    assert!(certain(&disk(file_synced.clone())).is_empty(), "the name is not durable yet");
    let both = file_synced.chain(sync(1, 2)).chain([write(2, 3, "two")]);
    assert_eq!(certain(&disk(both)), ["a=one"]);
}

#[test]
fn a_sync_covers_only_what_was_written_before_it_began() {
    let records = [open(1, "", false), open(2, "a", true)].into_iter().chain(sync(1, 1)).chain([
        write(2, 0, "x"),
        Record::SyncBegins { handle: 2, sync: 2 },
        write(2, 1, "y"),
        Record::SyncEnds { handle: 2, sync: 2 },
    ]);
    assert_eq!(certain(&disk(records)), ["a=x"]);
}

#[test]
fn a_rename_is_undone_as_a_whole_unless_its_directory_was_synced() {
    let records = [open(1, "", false), open(2, "tmp", true), write(2, 0, "new")];
    let begin = records.into_iter().chain(sync(2, 1)).chain(sync(1, 2));
    let renamed = begin.chain([Record::Rename { from: "tmp".into(), to: "a".into() }]);
    assert_eq!(certain(&disk(renamed.clone())), ["tmp=new"]);
    assert_eq!(certain(&disk(renamed.chain(sync(1, 3)))), ["a=new"]);
}

#[test]
fn a_directory_whose_parent_was_not_synced_takes_its_files_with_it() {
    let records = [open(1, "", false), Record::MakeDir { path: "d".into() }, open(2, "d", false), open(3, "d/a", true)];
    let inner = records.into_iter().chain([write(3, 0, "x")]).chain(sync(3, 1)).chain(sync(2, 2));
    assert!(certain(&disk(inner.clone())).is_empty());
    assert_eq!(certain(&disk(inner.chain(sync(1, 3)))), ["d/a=x"]);
}

#[test]
fn what_was_not_synced_may_survive_in_part_but_always_from_its_beginning() {
    let records = [open(1, "", false), open(2, "a", true)].into_iter().chain(sync(1, 1));
    let (first, second) = ("a".repeat(600), "b".repeat(600));
    let disk = disk(records.chain([write(2, 0, &first), write(2, 600, &second)]));
    let all = first + &second;
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let left = disk.after_cut(Fate::Lost, true, &mut StdRng::seed_from_u64(seed));
        let bytes = left[Path::new("a")].clone().unwrap();
        assert!(all.as_bytes().starts_with(&bytes));
        seen.insert(bytes.len());
    }
    assert_eq!(seen, [0, 512, 600, 1024, 1200].into(), "whole writes and whole sectors");
}

#[test]
fn what_is_written_over_synced_bytes_arrives_sector_by_sector_in_any_order() {
    let begin = [open(1, "", false), open(2, "a", true), write(2, 0, &"-".repeat(2048))];
    let synced = begin.into_iter().chain(sync(2, 1)).chain(sync(1, 2));
    // The second write changes part of what the first one did.
    let written = synced.chain([write(2, 0, &"a".repeat(2048)), write(2, 100, "b"), write(2, 2048, &"c".repeat(100))]);
    let disk = disk(written);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..500 {
        let left = disk.after_cut(Fate::Lost, true, &mut StdRng::seed_from_u64(seed));
        let bytes = String::from_utf8(left[Path::new("a")].clone().unwrap()).unwrap();
        let (before, beyond) = bytes.split_at(2048);
        assert!(beyond.chars().all(|c| c == 'c'));
        let sectors = before.as_bytes().chunks(SECTOR).map(|sector| {
            let kind = |byte: u8| sector.iter().all(|b| *b == byte || (*b == b'b' && byte == b'a'));
            assert!(kind(b'-') || kind(b'a'), "a sector is written whole, and nothing overtakes what was there before it");
            char::from(sector[0])
        });
        seen.insert(sectors.collect::<String>());
    }
    assert_eq!(seen.len(), 16, "{seen:?}");
}
