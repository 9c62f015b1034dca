//! A log file that is put aside when it is full: `server.log` becomes `server-2026-11-23T18-00-00.000.log`, and those
//! that are too many or too old go. Names and rules are etcd's, so that what collects its files collects these.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::Rotation;

/// What a file that is there keeps; others may not read a new one.
const NEW_FILE_MODE: u32 = 0o600;
const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";
const COMPRESSED: &str = ".gz";

/// The file that is written to.
pub struct Rotating {
    path: PathBuf,
    aside: Aside,
    file: File,
    size: u64,
    /// Wakes the thread that compresses and removes files, so that no line waits for it.
    tidy: SyncSender<()>,
}

impl Rotating {
    /// Goes on with the file that is there.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let aside = Aside::of(path, rotation)?;
        fs::create_dir_all(&aside.folder)?;
        let file = append(path, NEW_FILE_MODE)?;
        let size = file.metadata()?.len();
        let (tidy, asked) = sync_channel(1);
        let files = aside.clone();
        std::thread::Builder::new().name("log-files".to_owned()).spawn(move || {
            for () in asked {
                files.tidy();
            }
        })?;
        let _ = tidy.try_send(());
        Ok(Self { path: path.to_owned(), aside, file, size, tidy })
    }

    fn put_aside(&mut self) -> io::Result<()> {
        let old = fs::metadata(&self.path).ok();
        if old.is_some() {
            fs::rename(&self.path, self.aside.free_name(Timestamp::now()))?;
        }
        let mode = old.as_ref().map_or(NEW_FILE_MODE, |old| old.mode() & 0o7777);
        self.file = append(&self.path, mode)?;
        self.size = 0;
        if let Some(old) = old {
            // Only root may give files away, and nobody else has to.
            let _ = self.file.set_permissions(Permissions::from_mode(mode));
            let _ = fchown(&self.file, Some(old.uid()), Some(old.gid()));
        }
        // One that is full is about to look anyway.
        let _ = self.tidy.try_send(());
        Ok(())
    }
}

fn append(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(mode).open(path)
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + line.len() as u64 > self.aside.rotation.max_bytes {
            // A file that cannot be put aside is written on: a line is worth more than its place.
            let _ = self.put_aside();
        }
        let written = self.file.write(line)?;
        self.size += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The files that were put aside, beside the one that is written to.
#[derive(Clone)]
struct Aside {
    folder: PathBuf,
    /// Before and after the time in a name.
    prefix: String,
    suffix: String,
    rotation: Rotation,
}

impl Aside {
    fn of(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it does not name a file"))?;
        let (stem, suffix) = name.split_at(name.rfind('.').unwrap_or(name.len()));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { folder: folder.to_owned(), prefix: format!("{stem}-"), suffix: suffix.to_owned(), rotation })
    }

    /// A name for a file that is put aside at `time`; a little later if there is one of that time.
    fn free_name(&self, mut time: Timestamp) -> PathBuf {
        loop {
            let zone = if self.rotation.local_time { TimeZone::system() } else { TimeZone::UTC };
            let stamp = time.to_zoned(zone).strftime(STAMP).to_string();
            let path = self.folder.join(format!("{}{stamp}{}", self.prefix, self.suffix));
            let is_free = !path.exists() && !compressed(&path).exists();
            match time.checked_add(SignedDuration::from_millis(1)) {
                Ok(later) if !is_free => time = later,
                _ => return path,
            }
        }
    }

    /// The time in a name, if it is that of a file that was put aside.
    fn stamp<'a>(&self, name: &'a str) -> Option<&'a str> {
        let name = name.strip_suffix(COMPRESSED).filter(|name| name.ends_with(&self.suffix)).unwrap_or(name);
        let stamp = name.strip_prefix(&self.prefix)?.strip_suffix(&self.suffix)?;
        let shape = b"0000-00-00T00-00-00.000";
        let fits = |(wanted, found): (&u8, u8)| if *wanted == b'0' { found.is_ascii_digit() } else { found == *wanted };
        (stamp.len() == shape.len() && shape.iter().zip(stamp.bytes()).all(fits)).then_some(stamp)
    }

    /// Names with their times, newest first.
    fn list(&self) -> Vec<(String, String)> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut files: Vec<_> = names.filter_map(|name| Some((self.stamp(&name)?.to_owned(), name))).collect();
        files.sort();
        files.reverse();
        files
    }

    /// Removes what is too much or too old and compresses the rest. What does not work is tried again the next time.
    fn tidy(&self) {
        let rotation = &self.rotation;
        let hours = i64::try_from(rotation.max_age_days).unwrap_or(i64::MAX).saturating_mul(24);
        let age = SignedDuration::try_from_hours(hours).filter(|age| !age.is_zero());
        let oldest = age.and_then(|age| Timestamp::now().checked_sub(age).ok());
        let oldest = oldest.map(|time| time.to_zoned(TimeZone::UTC).strftime(STAMP).to_string());
        let mut seen = BTreeSet::new();
        for (stamp, name) in self.list() {
            let path = self.folder.join(&name);
            // One that is being compressed is there twice.
            seen.insert(stamp.clone());
            let is_too_much = rotation.max_files > 0 && seen.len() > rotation.max_files;
            if is_too_much || oldest.as_ref().is_some_and(|oldest| stamp < *oldest) {
                let _ = fs::remove_file(&path);
            } else if rotation.compress && !name.ends_with(COMPRESSED) {
                let _ = compress(&path);
            }
        }
    }
}

fn compressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(COMPRESSED);
    name.into()
}

fn compress(path: &Path) -> io::Result<()> {
    let target = compressed(path);
    let mut from = File::open(path)?;
    let old = from.metadata()?;
    // One that is there was left behind half done.
    let to = OpenOptions::new().create(true).write(true).truncate(true).mode(old.mode() & 0o7777).open(&target)?;
    let _ = fchown(&to, Some(old.uid()), Some(old.gid()));
    let mut to = GzEncoder::new(to, Compression::default());
    if let Err(e) = io::copy(&mut from, &mut to).and_then(|_| to.finish()) {
        let _ = fs::remove_file(&target);
        return Err(e);
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const ALL: Rotation = Rotation { max_bytes: 100, max_age_days: 0, max_files: 0, local_time: false, compress: false };

    fn names(aside: &Aside) -> Vec<String> {
        let mut names: Vec<_> = aside.list().into_iter().map(|(_, name)| name).collect();
        names.reverse();
        names
    }

    #[test]
    fn no_line_is_lost_and_no_file_is_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/server.log");
        let line = |number: u8| format!("{}{number}\n", "x".repeat(38));
        {
            let mut log = Rotating::open(&path, ALL).unwrap();
            (0..3).for_each(|number| log.write_all(line(number).as_bytes()).unwrap());
        }
        // The next process goes on where this one was.
        let mut log = Rotating::open(&path, ALL).unwrap();
        (3..7).for_each(|number| log.write_all(line(number).as_bytes()).unwrap());
        log.write_all("y".repeat(200).as_bytes()).unwrap();
        let mut files: Vec<PathBuf> = names(&log.aside).iter().map(|name| log.aside.folder.join(name)).collect();
        assert_eq!(files.len(), 4);
        files.push(path);
        let texts: Vec<_> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        assert!(texts[..4].iter().all(|text| text.len() <= 100));
        assert_eq!(texts.concat(), (0..7).map(line).collect::<String>() + &"y".repeat(200));
    }

    #[test]
    fn the_newest_are_kept_and_compressed_and_other_files_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let rotation = Rotation { max_files: 2, compress: true, ..ALL };
        let aside = Aside::of(&folder.path().join("server.log"), rotation).unwrap();
        for day in 1..=4 {
            fs::write(folder.path().join(format!("server-2026-11-0{day}T00-00-00.000.log")), format!("day {day}")).unwrap();
        }
        let others = ["server.log", "server-2026.log", "other-2026-11-01T00-00-00.000.log"];
        others.iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
        aside.tidy();
        let kept = ["server-2026-11-03T00-00-00.000.log.gz", "server-2026-11-04T00-00-00.000.log.gz"];
        assert_eq!(names(&aside), kept);
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(folder.path().join(kept[1])).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "day 4");
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
        aside.tidy();
        assert_eq!(names(&aside), kept, "nothing is compressed twice");
    }

    #[test]
    fn what_is_too_old_goes() {
        let folder = tempfile::tempdir().unwrap();
        let aside = Aside::of(&folder.path().join("server.log"), Rotation { max_age_days: 2, ..ALL }).unwrap();
        let at = |days: i64| Timestamp::now().checked_sub(SignedDuration::from_hours(24 * days)).unwrap();
        for days in [0, 1, 3, 400] {
            fs::write(aside.free_name(at(days)), "").unwrap();
        }
        aside.tidy();
        assert_eq!(names(&aside).len(), 2);
    }

    #[test]
    fn two_files_of_one_moment_have_two_names() {
        let folder = tempfile::tempdir().unwrap();
        let aside = Aside::of(&folder.path().join("log"), ALL).unwrap();
        let time = Timestamp::UNIX_EPOCH;
        let first = aside.free_name(time);
        assert_eq!(first, folder.path().join("log-1970-01-01T00-00-00.000"));
        fs::write(first, "").unwrap();
        assert_eq!(aside.free_name(time), folder.path().join("log-1970-01-01T00-00-00.001"));
    }
}
