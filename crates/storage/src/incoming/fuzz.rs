//! Fuzz target for the list of files that another member announces: their names become paths.

use keelson_fuzz::target;

use super::*;

/// What names are made of, and what leads out of a folder.
const PIECES: &[&str] = &["a", "CURRENT", ".sst", ".", "..", "/", "\\", "\0", "-", "_", "é", "%2f", "incoming.json", " "];

fn name(pieces: &[u8]) -> String {
    pieces.iter().take(4).map(|n| PIECES[usize::from(*n) % PIECES.len()]).collect()
}

#[test]
fn whatever_files_are_announced_nothing_is_written_outside_of_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    target!(1_500).with_type::<(Vec<u8>, Vec<(Vec<u8>, u8)>)>().for_each(|(of_all, files)| {
        let of_all = name(of_all);
        let files: Vec<_> = files.iter().take(4).map(|(pieces, size)| (name(pieces), 1 + u64::from(*size % 2), 0)).collect();
        let plain = |name: &String| !name.is_empty() && !name.contains(['/', '\\', '\0', ' ']) && !name.starts_with('.');
        let all_are_plain = plain(&of_all) && files.iter().all(|(name, _, _)| plain(name));
        if let Ok(mut incoming) = Incoming::open(&data_dir, &of_all, files) {
            assert!(all_are_plain, "{of_all:?} was taken");
            // Its checksum is wrong, or it is one byte too many: what it was meant for must not matter.
            let _ = incoming.write(b"x");
        }
        let beside: Vec<_> = fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(beside.iter().all(|name| name == FOLDER), "{beside:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    });
}
