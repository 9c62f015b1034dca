//! Fuzz target for segments of logs: whatever somebody has done to one, it is refused, or what is restored with it can be used.

use std::fs;

use bolero::TypeGenerator;
use keelson_api::mvccpb::event::EventType;
use keelson_api::mvccpb::{Event, KeyValue};
use keelson_fuzz::{Damage, damaged, target};
use keelson_mvcc::{Import, Marks, MemoryBackend, Store};

use super::segment::{Lease, Segment, SegmentName, Transaction};
use crate::Replay;

#[derive(Debug, TypeGenerator)]
struct Step {
    value: u8,
    time: u8,
    is_deleted_again: bool,
}

/// A segment that follows an empty store.
fn segment(steps: &[Step]) -> Segment {
    let mut transactions = Vec::new();
    let mut time = 0;
    for step in steps {
        let revision = transactions.len() as i64 + 2;
        time += i64::from(step.time);
        let kv = KeyValue {
            key: revision.to_be_bytes().to_vec().into(),
            value: vec![7; step.value.into()].into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: i64::from(step.value % 3),
        };
        let put = Event { kv: Some(kv.clone()), ..Event::default() };
        transactions.push(Transaction { revision, time, events: vec![put] });
        if step.is_deleted_again {
            let mut delete = Event { kv: Some(KeyValue { key: kv.key, ..KeyValue::default() }), ..Event::default() };
            delete.set_type(EventType::Delete);
            transactions.push(Transaction { revision: revision + 1, time, events: vec![delete] });
        }
    }
    Segment { leases: vec![Lease { id: 1, ttl: 60 }], transactions }
}

/// Restores it; whether that went well.
fn use_all(bytes: &[u8]) -> bool {
    let Ok(segment) = Segment::from_bytes(bytes) else { return false };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let until = segment.transactions.last().map_or(0, |t| t.revision);
    let replay = Replay { segments: vec![file.path().to_owned()], until, hashes: Vec::new() };
    let backend = MemoryBackend::default();
    let mut import = Import::new(&backend, -1);
    let Ok((revision, _)) = replay.run(&mut import, 1, &mut Vec::new()) else { return false };
    import.finish(Marks { revision, compacted: -1 }, |_| {}).unwrap();
    let store = Store::open(backend).unwrap();
    assert_eq!(store.revision(), revision);
    store.hash(0).unwrap();
    true
}

#[test]
fn a_damaged_segment_is_an_error_or_becomes_a_sound_state() {
    target!(200).with_type::<(Vec<Step>, Vec<Damage>)>().for_each(|(steps, damage)| {
        let Some((_, bytes)) = segment(steps).encode() else { return };
        assert!(use_all(&bytes), "what is sound can be restored");
        use_all(&damaged(&bytes, damage));
        // What stands in front is looked at first: what comes behind it must be, too.
        let head = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        use_all(&[&bytes[..head], &damaged(&bytes[head..], damage)].concat());
        let _ = SegmentName::parse(&String::from_utf8_lossy(&damaged(b"1-2-3-0123456789abcdef0123456789abcdef.changes", damage)));
    });
}
