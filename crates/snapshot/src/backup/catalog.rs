//! What there is in a store, and what follows from that: which backup is meant, how far each reaches, and which may go.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::BackupError;
use super::fetch::read_segment;
use super::manifest::{MANIFEST, Manifest, Mark, SNAPSHOT, number_of};
use super::segment::SegmentName;
use super::store::{Store, UNFINISHED_FOR};

/// What is in a store.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// In the order in which they were begun.
    pub backups: Vec<Backup>,
    /// The highest number that any of them has, finished or not.
    pub newest: u64,
    /// What the store's own clock said last.
    clock: i64,
}

/// One backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Its name.
    pub id: String,
    /// What is known of it.
    pub state: State,
    /// Segments of its log, ordered by revision.
    pub log: Vec<SegmentName>,
    /// How far its log got, as who writes it last told.
    pub mark: Option<Mark>,
    /// Bytes of all of it.
    pub size: u64,
    paths: Vec<String>,
    /// Bytes of its snapshot, if it is there.
    snapshot: Option<u64>,
    written: i64,
}

/// What is known of a backup.
#[derive(Clone, Debug)]
pub enum State {
    /// There is all that belongs to it.
    Complete(Box<Manifest>),
    /// It has no manifest: it is being made, or nobody finished it.
    Unfinished,
    /// It has one that cannot be used, for this reason.
    Unreadable(String),
}

/// What a backup can be restored to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Newest revision.
    pub revision: i64,
    /// Until when it is known that there was no newer one.
    pub time: Timestamp,
}

/// What to restore to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// As far as it goes.
    Latest,
    /// This revision.
    Revision(i64),
    /// What was seen by this time.
    Time(Timestamp),
}

/// One backup, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The backup.
    pub manifest: Manifest,
    /// The revision.
    pub revision: i64,
    /// Segments that lead there.
    pub log: Vec<SegmentName>,
}

/// What retention leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest, at least one.
    pub count: u64,
    /// Those that reach into so long a time before the newest.
    pub age: Duration,
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

impl Catalog {
    /// Reads what there is.
    pub async fn read(store: &Store) -> Result<Self, BackupError> {
        let mut catalog = Self::look(store).await?;
        if catalog.backups.iter().any(|backup| backup.gap().is_some()) {
            // What a mark speaks of may have come after the list was made: in the next one it is there.
            let marks: Vec<(String, Option<Mark>)> = catalog.backups.into_iter().map(|b| (b.id, b.mark)).collect();
            catalog = Self::look(store).await?;
            for backup in &mut catalog.backups {
                if let Some((_, mark)) = marks.iter().find(|(id, _)| *id == backup.id) {
                    backup.mark.clone_from(mark);
                }
            }
        }
        Ok(catalog)
    }

    async fn look(store: &Store) -> Result<Self, BackupError> {
        let mut catalog = Self::default();
        let mut folders: BTreeMap<String, Backup> = BTreeMap::new();
        for object in store.list().await? {
            catalog.clock = catalog.clock.max(object.written);
            let Some((id, rest)) = object.path.split_once('/') else { continue };
            // Whatever else lies there is none of ours, and is left alone.
            let Some(number) = number_of(id) else { continue };
            catalog.newest = catalog.newest.max(number);
            let backup = folders.entry(id.to_owned()).or_insert_with(|| Backup::found(id));
            backup.size += object.size;
            backup.snapshot = backup.snapshot.or((rest == SNAPSHOT).then_some(object.size));
            backup.written = backup.written.max(object.written);
            backup.log.extend(rest.strip_prefix("log/").and_then(SegmentName::parse));
            backup.paths.push(object.path);
        }
        for (id, mut backup) in folders {
            backup.log.sort();
            if backup.paths.iter().any(|path| path[id.len() + 1..] == *MANIFEST) {
                backup.state = match Manifest::read(store, &id).await? {
                    Ok(manifest) => backup.complete(manifest),
                    Err(why) => State::Unreadable(why),
                };
            }
            if backup.manifest().is_some_and(|manifest| manifest.continuous) {
                backup.mark = Mark::read(store, &id).await?;
            }
            catalog.backups.push(backup);
        }
        // As numbers: they may get longer.
        catalog.backups.sort_by_key(|backup| (number_of(&backup.id), backup.id.clone()));
        Ok(catalog)
    }

    /// Those that can be restored.
    pub fn complete(&self) -> impl DoubleEndedIterator<Item = (&Backup, &Manifest)> {
        self.backups.iter().filter_map(|backup| Some((backup, backup.manifest()?)))
    }

    /// The newest one whose log can go on.
    #[must_use]
    pub fn newest_continuous(&self) -> Option<(&Backup, &Manifest)> {
        self.complete().rfind(|(_, manifest)| manifest.continuous)
    }

    /// A backup by its name.
    pub fn find(&self, id: &str) -> Result<&Backup, BackupError> {
        let found = self.backups.iter().find(|backup| backup.id == id);
        let missing = || format!("there is no backup {id:?}; \"keelsonctl backup list\" names those there are");
        found.ok_or_else(|| BackupError::Asked(missing()))
    }

    /// A complete backup by its name.
    pub fn usable(&self, id: &str) -> Result<(&Backup, &Manifest), BackupError> {
        let backup = self.find(id)?;
        match &backup.state {
            State::Complete(manifest) => Ok((backup, manifest.as_ref())),
            State::Unfinished => Err(BackupError::Asked(format!("backup {id} was not finished, and cannot be restored"))),
            State::Unreadable(why) => Err(BackupError::Damaged { id: id.to_owned(), reason: why.clone() }),
        }
    }

    /// Finds out what is meant: of the named backup, or of the newest one that has it.
    pub async fn target(&self, store: &Store, id: Option<&str>, until: Until) -> Result<Target, BackupError> {
        let candidates: Vec<(&Backup, &Manifest)> = match id {
            None => self.complete().rev().collect(),
            Some(id) => vec![self.usable(id)?],
        };
        let Some((newest, _)) = candidates.first() else {
            return Err(BackupError::Asked(format!("there is no complete backup in {}", store.address())));
        };
        let fits = |manifest: &Manifest, reach: Reach| match until {
            Until::Latest => true,
            Until::Revision(revision) => (manifest.revision..=reach.revision).contains(&revision),
            Until::Time(time) => (manifest.time..=reach.time).contains(&time),
        };
        let found = candidates.iter().find(|(backup, manifest)| fits(manifest, backup.reach(manifest)));
        let Some((backup, manifest)) = found else {
            let reach = newest.manifest().map(|manifest| (manifest, newest.reach(manifest)));
            let (from, to) = reach.map_or_else(Default::default, |(manifest, reach)| match until {
                Until::Revision(_) => (manifest.revision.to_string(), reach.revision.to_string()),
                _ => (manifest.time.to_string(), reach.time.to_string()),
            });
            let asked = match until {
                Until::Revision(revision) => format!("revision {revision}"),
                Until::Time(time) => time.to_string(),
                Until::Latest => "the newest state".into(),
            };
            return Err(BackupError::Asked(format!(
                "no backup that was asked for has {asked}; {} has {from} to {to}, and \"keelsonctl backup list\" tells what the \
                 others have",
                newest.id
            )));
        };
        let mut log = backup.path(manifest.revision);
        let revision = match until {
            Until::Latest => backup.reach(manifest).revision,
            Until::Revision(revision) => revision,
            Until::Time(time) => seen_by(store, manifest, &log, time).await?,
        };
        // Each that begins no later than where it is to end.
        log.retain(|segment| segment.first <= revision);
        Ok(Target { manifest: (*manifest).clone(), revision, log })
    }

    /// Those that `keep` does not keep, oldest first; and what nobody finished.
    #[must_use]
    pub fn expired(&self, keep: &Keep) -> Vec<&Backup> {
        let reaches: Vec<Timestamp> = self.complete().map(|(backup, manifest)| backup.reach(manifest).time).collect();
        let first_kept = reaches.len().saturating_sub(usize::try_from(keep.count.max(1)).unwrap_or(usize::MAX));
        // Not from this machine's clock, which may be anywhere: from the newest backup on.
        let age = SignedDuration::try_from(keep.age).unwrap_or(SignedDuration::MAX);
        let begin = reaches.last().and_then(|newest| newest.checked_sub(age).ok()).unwrap_or(Timestamp::MIN);
        let mut number = 0;
        let may_go = |backup: &&Backup| match &backup.state {
            State::Complete(_) => {
                let (at, reach) = (number, reaches[number]);
                number += 1;
                at < first_kept && reach < begin
            }
            State::Unfinished => u128::try_from(self.clock - backup.written).is_ok_and(|age| age > UNFINISHED_FOR.as_millis()),
            // Somebody has to look at it; it may be of a newer program.
            State::Unreadable(_) => false,
        };
        self.backups.iter().filter(may_go).collect()
    }
}

/// The last revision that had been seen at `time`.
async fn seen_by(store: &Store, manifest: &Manifest, log: &[SegmentName], time: Timestamp) -> Result<i64, BackupError> {
    let ms = time.as_millisecond();
    let whole = log.partition_point(|segment| segment.time <= ms);
    let before = whole.checked_sub(1).map_or(manifest.revision, |last| log[last].last);
    let Some(next) = log.get(whole) else { return Ok(before) };
    let segment = read_segment(store, &manifest.id, next).await?;
    let seen = segment.transactions.iter().take_while(|transaction| transaction.time <= ms).last();
    Ok(seen.map_or(before, |transaction| transaction.revision.max(before)))
}

impl Backup {
    fn found(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Unfinished,
            log: Vec::new(),
            mark: None,
            size: 0,
            paths: Vec::new(),
            snapshot: None,
            written: 0,
        }
    }

    /// What it is, if its manifest is right.
    fn complete(&self, manifest: Manifest) -> State {
        match self.snapshot {
            Some(size) if size == manifest.size => State::Complete(Box::new(manifest)),
            Some(size) => State::Unreadable(format!("its snapshot has {size} bytes, and should have {}", manifest.size)),
            None => State::Unreadable("its snapshot is gone".into()),
        }
    }

    /// Its manifest, if it is complete.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.state {
            State::Complete(manifest) => Some(manifest),
            _ => None,
        }
    }

    /// The segments that lead on from `revision` without a gap. Where two writers were at work they overlap.
    #[must_use]
    pub fn path(&self, revision: i64) -> Vec<SegmentName> {
        let (mut path, mut reached): (Vec<SegmentName>, i64) = (Vec::new(), revision);
        let mut rest = self.log.iter().peekable();
        loop {
            let mut farthest: Option<&SegmentName> = None;
            while let Some(segment) = rest.next_if(|segment| segment.first <= reached.saturating_add(1)) {
                farthest = farthest.filter(|best| best.last >= segment.last).or(Some(segment));
            }
            match farthest.filter(|segment| segment.last > reached) {
                Some(segment) => {
                    reached = segment.last;
                    path.push(segment.clone());
                }
                None => return path,
            }
        }
    }

    /// The first revision of its log that something before it is missing of.
    #[must_use]
    pub fn gap(&self) -> Option<i64> {
        let manifest = self.manifest()?;
        let reached = self.reach(manifest).revision;
        let beyond = self.log.iter().find(|segment| segment.first > reached.saturating_add(1));
        // Who writes told that it had got farther than what is there.
        let told = self.mark.as_ref().filter(|mark| mark.revision > reached).map(|mark| mark.revision);
        beyond.map(|segment| segment.first).or(told)
    }

    /// How far it reaches.
    #[must_use]
    pub fn reach(&self, manifest: &Manifest) -> Reach {
        let path = self.path(manifest.revision);
        let mut reach = Reach { revision: manifest.revision, time: manifest.time };
        if let Some(last) = path.last() {
            reach = Reach { revision: last.last, time: time(last.time).max(reach.time) };
        }
        match &self.mark {
            Some(mark) if mark.revision == reach.revision => Reach { time: mark.time.max(reach.time), ..reach },
            _ => reach,
        }
    }

    /// Removes it. Its manifest goes first: what is left if this is broken off is no backup.
    pub async fn delete(&self, store: &Store) -> Result<(), BackupError> {
        let manifest = format!("{}/{MANIFEST}", self.id);
        let (first, rest): (Vec<String>, Vec<String>) = self.paths.iter().cloned().partition(|path| *path == manifest);
        store.delete(first).await?;
        store.delete(rest).await
    }
}
