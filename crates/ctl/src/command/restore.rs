//! `restore`: a data directory of a backup in a store, as it was at any moment that the backup has.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use keelson_snapshot::backup::{Catalog, Target, Until, fetch};
use keelson_snapshot::{NewMember, RestoreOptions, Restored, expect_free, restore_with};

use super::backup::{AUTHORITIES, FOLDER, OPTION, failed, store};
use crate::cli::{Call, Command, Flag, Group, Kind, Values};
use crate::exit::Failure;

pub static COMMAND: Command = Command::new(
    "restore",
    "<store> --data-dir {output dir} [options]",
    "Makes a data directory of a backup, for a member of a new cluster",
)
.long(
    "Makes a data directory of a backup, for a member of a new cluster: as far as the newest backup goes, or to a revision or a \
     time that any of them has. If the new cluster has several members, each is restored from the same backup to the same \
     revision, so both must be named; without them it is told what they are.\n\n\
     Revisions are moved on by --bump-revision, and all before counts as compacted: who watched the old cluster, such as a \
     kube-apiserver, lists anew and does not hold on to what came after the backup.\n\n\
     No server is asked. A directory that holds anything is left alone.",
)
.group(Group::Maintenance)
.flags(FLAGS)
.run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[
    Flag::text("backup", "", "name of the backup (the newest one that has what is asked for)"),
    Flag::new(Kind::Uint, "bump-revision", "1000000000", "how far revisions are moved on; 0 for not at all"),
    Flag::text("data-dir", "", "where to restore to (NAME.etcd if there is none)"),
    FOLDER,
    Flag::text("initial-advertise-peer-urls", "http://localhost:2380", "addresses of this member for the others"),
    Flag::text("initial-cluster", "default=http://localhost:2380", "members of the new cluster, as NAME=URL,..."),
    Flag::text("initial-cluster-token", "etcd-cluster", "tells the new cluster from others with the same members"),
    Flag::text("name", "default", "name of this member"),
    AUTHORITIES,
    OPTION,
    Flag::int("to-revision", "0", "restore the state at this revision"),
    Flag::text("to-time", "", "restore what had been seen by this time, such as 2026-01-31T12:00:00Z"),
    Flag::text("wal-dir", "", "where the log is to be, if on another disk than the data directory"),
];

async fn run(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "restore requires exactly one argument <store>")?;
    call.alone()?;
    let options = options(&call.flags);
    let until = until(&call.flags)?;
    let data_dir = expect_free(&options).map_err(|e| Failure::error(e.to_string()))?;
    let folder = folder(&call.flags, &data_dir);
    let store = store(&call, 0)?;
    let catalog = Catalog::read(&store).await.map_err(failed)?;
    let named = Some(call.flags.text("backup")).filter(|id| !id.is_empty());
    let target = catalog.target(&store, named, until).await.map_err(failed)?;
    let is_pinned = named.is_some() && matches!(until, Until::Revision(_));
    check_pinned(&options, &target, is_pinned)?;

    let id = &target.manifest.id;
    eprintln!("restoring backup {id} to revision {}", target.revision);
    let fetched = fetch(&store, &target, &folder).await.map_err(failed)?;
    let options = RestoreOptions { snapshot: fetched.snapshot.clone(), ..options };
    let restored = restore_with(&options, &fetched.replay).map_err(|e| Failure::error(e.to_string()))?;
    eprint!("{}", told(&options, &target, &restored));
    Ok(())
}

fn options(flags: &Values) -> RestoreOptions {
    let text = |name: &str| flags.text(name).to_owned();
    let path = |name: &str| Some(flags.text(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
    let bump_revision = flags.uint("bump-revision");
    RestoreOptions {
        data_dir: path("data-dir"),
        wal_dir: path("wal-dir"),
        name: text("name"),
        initial_cluster: text("initial-cluster"),
        initial_cluster_token: text("initial-cluster-token"),
        initial_advertise_peer_urls: text("initial-advertise-peer-urls"),
        bump_revision,
        mark_compacted: bump_revision > 0,
        ..RestoreOptions::default()
    }
}

fn until(flags: &Values) -> Result<Until, Failure> {
    match (flags.given("to-revision"), flags.text("to-time")) {
        (false, "") => Ok(Until::Latest),
        (true, "") if flags.int("to-revision") > 0 => Ok(Until::Revision(flags.int("to-revision"))),
        (true, "") => Err(Failure::args("--to-revision must be a revision, from 1 on")),
        (false, time) => match time.parse::<Timestamp>() {
            Ok(time) => Ok(Until::Time(time)),
            Err(e) => Err(Failure::args(format!("--to-time is no time such as 2026-01-31T12:00:00Z: {e}"))),
        },
        (true, _) => Err(Failure::args("--to-revision and --to-time cannot be given both: choose one")),
    }
}

/// Beside the data directory: there must be room for that anyway.
fn folder(flags: &Values, data_dir: &Path) -> PathBuf {
    let named = Some(flags.text("folder")).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let beside = || data_dir.parent().filter(|parent| parent.is_dir()).map(Path::to_path_buf);
    let here = || data_dir.is_relative().then(|| PathBuf::from("."));
    named.or_else(beside).or_else(here).unwrap_or_else(std::env::temp_dir)
}

/// Members that were restored to different moments would never notice, and answer differently.
fn check_pinned(options: &RestoreOptions, target: &Target, is_pinned: bool) -> Result<(), Failure> {
    let RestoreOptions { name, initial_cluster, initial_cluster_token: token, initial_advertise_peer_urls: urls, .. } = options;
    let members = NewMember::new(name, initial_cluster, token, urls).map_or(1, |member| member.members.len());
    if members <= 1 || is_pinned {
        return Ok(());
    }
    Err(Failure::args(format!(
        "all {members} members must be restored from one backup to one revision: give each of them --backup {} --to-revision {}",
        target.manifest.id, target.revision
    )))
}

/// What has been made, and what is to be done with it.
fn told(options: &RestoreOptions, target: &Target, restored: &Restored) -> String {
    let Restored { data_dir, member, changes, .. } = restored;
    let (name, dir) = (&options.name, data_dir.display());
    let mut text = format!(
        "restored to {dir}: the state at revision {}, now {}, {changes} changes, for member {:x} ({name}) of the new cluster \
         {:x}\n",
        target.revision, restored.revision, member.member_id, member.cluster_id
    );
    text += match (restored.compared, &target.manifest.hash_kv) {
        (0, None) => "its keys could not be held against anything: the member had told no sum of them\n",
        (0, Some(_)) => "its keys could not be held against the sum that etcd had told: it is another one than keelson's\n",
        _ => "the keys of its snapshot have the sum that the member had told\n",
    };
    let others: Vec<&str> = member.members.iter().map(|m| m.name.as_str()).filter(|other| other != name).collect();
    if others.is_empty() {
        text += "next: start it with\n";
    } else {
        text += &format!(
            "next: restore the other members ({}) with the same --backup, --to-revision, --bump-revision, --initial-cluster and \
             --initial-cluster-token, then start all of them; this one with\n",
            others.join(", ")
        );
    }
    text += &format!(
        "  keelson --name {name} --data-dir {dir} --initial-advertise-peer-urls {}\n\
         and the addresses that it listens on; the data directory knows the cluster.\n",
        options.initial_advertise_peer_urls
    );
    if options.bump_revision == 0 {
        text += "Clients that saw later revisions, such as a kube-apiserver, must be started anew: these revisions come again \
                 with other changes.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse_flags;

    fn parsed(line: &str) -> Values {
        let words: Vec<Vec<u8>> = line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
        parse_flags(FLAGS.iter(), &words).unwrap().unwrap().0
    }

    #[test]
    fn revisions_are_moved_on_unless_that_is_not_wanted() {
        let usual = options(&parsed(""));
        assert_eq!((usual.bump_revision, usual.mark_compacted), (1_000_000_000, true));
        let plain = options(&parsed("--bump-revision 0 --data-dir d"));
        assert_eq!((plain.bump_revision, plain.mark_compacted, plain.data_dir), (0, false, Some("d".into())));
    }

    #[test]
    fn one_moment_is_asked_for_and_it_can_be_understood() {
        let until = |line: &str| until(&parsed(line)).map_err(|failure| failure.text().to_owned());
        assert_eq!(until(""), Ok(Until::Latest));
        assert_eq!(until("--to-revision 7"), Ok(Until::Revision(7)));
        assert_eq!(until("--to-time 1970-01-01T00:00:01Z"), Ok(Until::Time(Timestamp::from_second(1).unwrap())));
        let both = "--to-revision 7 --to-time 1970-01-01T00:00:01Z";
        for wrong in ["--to-revision 0", "--to-revision -1", "--to-time yesterday", both] {
            assert!(until(wrong).unwrap_err().contains("--to-"), "{wrong}");
        }
    }

    #[test]
    fn what_is_on_its_way_lies_beside_the_data_directory() {
        let at = |line: &str, data_dir: &str| folder(&parsed(line), Path::new(data_dir));
        assert_eq!(at("", "/tmp/data"), Path::new("/tmp"));
        assert_eq!(at("", "data"), Path::new("."));
        assert_eq!(at("--folder /x", "/tmp/data"), Path::new("/x"));
    }
}
