//! `snapshot restore`: a data directory for a member of a new cluster, with the flags of `etcdutl snapshot restore`. stdout
//! stays empty, as etcdutl's; what was done and what comes next is told on stderr.

use keelson_snapshot::{RestoreOptions, Restored};

use super::TIMEOUT;
use crate::cli::{Call, Command, Flag, Kind, Values};
use crate::exit::Failure;

pub static COMMAND: Command = Command::new(
    "restore",
    "<filename> --data-dir {output dir} [options]",
    "Makes a data directory of a snapshot, for a member of a new cluster",
)
.long(
    "Makes a data directory of a snapshot of keelson or etcd, for a member of a new cluster. Every member of that cluster \
     is restored from the same file, each with its own --name, --initial-advertise-peer-urls and --data-dir, and all with \
     the same --initial-cluster and --initial-cluster-token; then all are started.\n\n\
     No server is asked. A directory that holds anything is left alone; one that was not finished can be restored to again.",
)
.flags(FLAGS)
.run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[
    Flag::new(Kind::Uint, "bump-revision", "0", "how far revisions are moved on, so that none comes twice to who saw later ones"),
    Flag::text("data-dir", "", "where to restore to (NAME.etcd if there is none)"),
    Flag::text("initial-advertise-peer-urls", "http://localhost:2380", "addresses of this member for the others"),
    Flag::text("initial-cluster", "default=http://localhost:2380", "members of the new cluster, as NAME=URL,..."),
    Flag::text("initial-cluster-token", "etcd-cluster", "tells the new cluster from others with the same members"),
    Flag::new(Kind::Uint, "initial-memory-map-size", "10737418240", "no effect: no memory is mapped"),
    Flag::switch("mark-compacted", "count all revisions as compacted; goes together with --bump-revision"),
    Flag::text("name", "default", "name of this member"),
    Flag::switch("skip-hash-check", "take a file without a checksum, such as the database of a data directory"),
    TIMEOUT,
    Flag::text("wal-dir", "", "where the log is to be, if on another disk than the data directory"),
];

async fn run(call: Call) -> Result<(), Failure> {
    call.expect(1, "snapshot restore requires exactly one argument")?;
    let options = RestoreOptions { snapshot: call.file(0), ..options(&call.flags) };
    if options.mark_compacted != (options.bump_revision > 0) {
        return Err(Failure::args("--mark-compacted required if --revision-bump > 0"));
    }
    for flag in FLAGS.iter().filter(|flag| flag.about.starts_with("no effect") && call.flags.given(flag.name)) {
        eprintln!("Warning: --{} has {}", flag.name, flag.about);
    }
    eprintln!("restoring snapshot {}", options.snapshot.display());
    let restored = keelson_snapshot::restore(&options).map_err(|e| Failure::error(e.to_string()))?;
    eprint!("{}", told(&options, &restored));
    Ok(())
}

fn options(flags: &Values) -> RestoreOptions {
    let text = |name: &str| flags.text(name).to_owned();
    RestoreOptions {
        data_dir: Some(text("data-dir")).filter(|dir| !dir.is_empty()).map(Into::into),
        wal_dir: Some(text("wal-dir")).filter(|dir| !dir.is_empty()).map(Into::into),
        name: text("name"),
        initial_cluster: text("initial-cluster"),
        initial_cluster_token: text("initial-cluster-token"),
        initial_advertise_peer_urls: text("initial-advertise-peer-urls"),
        bump_revision: flags.uint("bump-revision"),
        mark_compacted: flags.on("mark-compacted"),
        skip_hash_check: flags.on("skip-hash-check"),
        ..RestoreOptions::default()
    }
}

/// What has been made, and what is to be done with it.
fn told(options: &RestoreOptions, restored: &Restored) -> String {
    let Restored { data_dir, member, revision, changes, .. } = restored;
    let (name, dir) = (&options.name, data_dir.display());
    let mut text = format!(
        "restored to {dir}: revision {revision}, {changes} changes, for member {:x} ({name}) of the new cluster {:x}\n",
        member.member_id, member.cluster_id
    );
    let others: Vec<&str> = member.members.iter().map(|m| m.name.as_str()).filter(|other| other != name).collect();
    if !others.is_empty() {
        text += &format!(
            "next: restore the same file for the other members ({}), with the same --initial-cluster and \
             --initial-cluster-token, then start all of them; this one with\n",
            others.join(", ")
        );
    } else {
        text += "next: start it with\n";
    }
    text += &format!(
        "  keelson --name {name} --data-dir {dir} --initial-advertise-peer-urls {}\n\
         and the addresses that it listens on; the data directory knows the cluster.\n",
        options.initial_advertise_peer_urls
    );
    if options.bump_revision == 0 {
        text += &format!(
            "Clients that saw revisions after {revision}, such as a kube-apiserver, must be started anew: these revisions come \
             again with other changes. To avoid that, restore with --bump-revision and --mark-compacted.\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use keelson_snapshot::NewMember;

    use super::*;
    use crate::cli::parse_flags;

    fn parsed(line: &str) -> RestoreOptions {
        let words: Vec<Vec<u8>> = line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
        let (values, _) = parse_flags(FLAGS.iter(), &words).unwrap().unwrap();
        options(&values)
    }

    #[test]
    fn what_is_not_given_is_as_etcdutl_has_it() {
        assert_eq!(parsed(""), RestoreOptions::default());
        let given = parsed("--name a --data-dir d --bump-revision 7 --mark-compacted --skip-hash-check=true");
        let expected = RestoreOptions {
            name: "a".into(),
            data_dir: Some("d".into()),
            bump_revision: 7,
            mark_compacted: true,
            skip_hash_check: true,
            ..RestoreOptions::default()
        };
        assert_eq!(given, expected);
    }

    #[test]
    fn who_restores_is_told_what_comes_next() {
        let restore = |cluster: &str, options: &RestoreOptions| {
            let url = options.initial_advertise_peer_urls.as_str();
            let member = NewMember::new(&options.name, cluster, "t", url).unwrap();
            told(options, &Restored { data_dir: "d".into(), member, revision: 12, compacted: -1, changes: 3, compared: 0 })
        };
        let url = "http://a:1".to_owned();
        let mut options = RestoreOptions { name: "a".into(), initial_advertise_peer_urls: url, ..RestoreOptions::default() };
        let alone = restore("a=http://a:1", &options);
        let start = "next: start it with\n  keelson --name a --data-dir d --initial-advertise-peer-urls http://a:1\n";
        assert!(alone.starts_with("restored to d: revision 12, 3 changes, for member ") && alone.contains(start), "{alone}");
        assert!(alone.contains("revisions after 12"), "{alone}");
        options.bump_revision = 5;
        let three = restore("a=http://a:1,b=http://b:1,c=http://c:1", &options);
        assert!(three.contains("for the other members (b, c)") && !three.contains("revisions after"), "{three}");
    }
}
