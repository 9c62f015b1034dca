//! Fuzz target for all that is made of a file: whatever somebody has done to it, its status is figures or an error, and
//! what it is restored to can be opened.

use bolero::TypeGenerator;
use keelson_api::Revision;
use keelson_fuzz::{Damage, damaged, target};
use keelson_mvcc::{Import, Marks, MemoryBackend, Store};
use keelson_state::{Machine, Surroundings};

use crate::bolt::{Database, PAGE};
use crate::restore::{fill, take};
use crate::schema::{KEY, Taken};
use crate::{Replay, prepare, status};

#[derive(Debug, TypeGenerator)]
struct Step {
    key: u8,
    value: u8,
    is_delete: bool,
}

/// A file with these changes, one revision each.
fn file(steps: &[Step], compacted: u8) -> Vec<u8> {
    let backend = MemoryBackend::default();
    let mut import = Import::new(&backend, -1);
    for (main, step) in (2..).zip(steps) {
        let key = vec![b'k', step.key % 8].into();
        let kv = keelson_api::mvccpb::KeyValue {
            key,
            value: vec![7; usize::from(step.value) * 4].into(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            lease: 0,
        };
        let at = Revision::new(main, 0);
        if step.is_delete { import.delete(at, &kv.key).unwrap() } else { import.put(at, &kv).unwrap() }
    }
    let revision = import.revision().max(1);
    let around = Surroundings { leases: vec![(5, 60, 0)], ..Surroundings::default() };
    import.finish(Marks { revision, compacted: revision.min(compacted.into()) }, |batch| around.write(batch)).unwrap();
    let (machine, _) = Machine::open(backend).unwrap();
    // So few changes stay in memory.
    prepare(machine.shared(), "3.7.0", std::path::Path::new("/"), |_| Ok(())).unwrap().write(Vec::new()).unwrap()
}

/// Does everything that is done with a file.
fn use_all(file: &[u8]) {
    let Ok(database) = Database::open(file) else { return };
    let Ok(buckets) = database.buckets() else { return };
    let _ = status::read(&database, &buckets);
    let mut taken = Taken::default();
    for bucket in buckets.iter().filter(|b| b.name != KEY.as_bytes()) {
        if take(&database, bucket, &mut taken).is_err() {
            return;
        }
    }
    let backend = MemoryBackend::default();
    let compacted = taken.compacted();
    let Taken { leases, alarms, auth, .. } = taken;
    let around = Surroundings { leases, alarms, auth, ..Surroundings::default() };
    if let Ok((marks, _)) = fill(&backend, &database, &buckets, compacted, 0, around, &Replay::default()) {
        let (machine, _) = Machine::open(backend.fork()).unwrap();
        assert_eq!(machine.shared().store.revision(), marks.revision);
        let store = Store::open(backend).unwrap();
        store.hash(0).unwrap();
    }
}

#[test]
fn a_damaged_file_is_an_error_or_becomes_a_sound_state() {
    target!(100).with_type::<(Vec<Step>, u8, Vec<Damage>)>().for_each(|(steps, compacted, damage)| {
        let file = file(steps, *compacted);
        use_all(&file);
        // The meta pages have checksums: what lies behind them must be looked at as well.
        let (head, body) = file.split_at(2 * PAGE);
        let mut body = damaged(body, damage);
        body.resize(file.len() - head.len(), 0);
        use_all(&[head, &body].concat());
        // What a node begins with is what everything else is found by.
        for page in 0..body.len() / PAGE {
            let mut body = file[2 * PAGE..].to_vec();
            let hit = damaged(&body[page * PAGE..][..512], damage);
            let len = hit.len().min(PAGE);
            body[page * PAGE..][..len].copy_from_slice(&hit[..len]);
            use_all(&[head, &body].concat());
        }
    });
}
