//! Fuzz target for a whole store with damaged rows: whatever is read, removed or written there, the
//! answer is an answer or an error.

use std::collections::BTreeSet;

use bolero::TypeGenerator;
use bytes::Bytes;
use keelson_fuzz::{Damage, damaged, target};

use super::*;
use crate::watch::{Hub, Replay};
use crate::{KeyRange, MemoryBackend, Query, Writer};

#[derive(Debug, TypeGenerator)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Finish,
    Compact(u8),
}

/// Damage to the n-th row of a table: to its key, to its value, or both.
#[derive(Debug, TypeGenerator)]
struct Hit {
    table: u8,
    row: u8,
    key: Vec<Damage>,
    value: Vec<Damage>,
}

fn key(n: u8) -> Bytes {
    // A few keys, with the bytes that need escaping.
    [b"a".as_slice(), b"a\0", b"\0", b"b\0\xff", b"c"][usize::from(n) % 5].to_vec().into()
}

fn build(backend: &MemoryBackend, steps: &[Step]) {
    let store = Store::open(backend.clone()).unwrap();
    let mut writer = Writer::new(&store);
    for step in steps {
        match step {
            Step::Put(k, size) => drop(writer.put(key(*k), vec![b'v'; usize::from(*size)].into(), 0)),
            Step::Delete(k) => drop(writer.delete(key(*k))),
            Step::Finish => drop(writer.finish()),
            Step::Compact(back) => drop(writer.compact(writer.revision() - i64::from(*back % 8))),
        }
    }
    writer.finish();
    writer.commit().unwrap();
}

fn rows(backend: &MemoryBackend, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = backend.cursor(table, None);
    cursor.seek(&[]).unwrap();
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.row() {
        rows.push((key.to_vec(), value.to_vec()));
        cursor.step().unwrap();
    }
    rows
}

fn hit(backend: &MemoryBackend, hits: &[Hit]) {
    for h in hits {
        let table = Table::ALL[usize::from(h.table) % 4];
        let rows = rows(backend, table);
        let Some((key, value)) = rows.get(usize::from(h.row) % rows.len().max(1)) else { continue };
        let mut batch = backend.batch();
        batch.delete(table, key);
        batch.put(table, &damaged(key, &h.key), &damaged(value, &h.value));
        backend.write(batch).unwrap();
    }
}

/// Reads and writes everything there is. Errors are fine; panics and endless loops are not.
fn use_all(store: &Store<MemoryBackend>) {
    let revision = store.revision();
    let revisions: BTreeSet<_> = [0, 1, 2, revision / 2, revision - 1, revision].into();
    for at in revisions {
        for range in [KeyRange::Span(Vec::new(), None), KeyRange::One(b"a\0".to_vec())] {
            for (keys_only, limit) in [(false, 0), (true, 2)] {
                let query = Query { range: range.clone(), revision: at, limit, keys_only, count_only: false, count: true };
                let _ = store.range(&query, ReadMode::Blocking);
            }
        }
        let _ = store.hash(at);
    }
    let mut writer = Writer::new(store);
    for n in 0..5 {
        writer.put(key(n), Bytes::from_static(b"new"), 0);
        writer.delete(key(n + 1));
        writer.finish();
    }
    let _ = writer.commit();
    let hub = Hub::start(store.clone()).unwrap();
    let mut from = 1;
    for _ in 0..1000 {
        let Ok(Replay::Transactions { next, more, .. }) = hub.replay_history(&KeyRange::Span(Vec::new(), None), from, 2) else {
            break;
        };
        assert!(next > from || !more, "a replay that does not move on");
        from = next;
        if !more {
            break;
        }
    }
    let _ = writer.compact(writer.revision() - 1);
    let _ = writer.commit();
    for _ in 0..1000 {
        match store.remove_step(2) {
            Ok(progress) if !progress.done => {}
            _ => return,
        }
    }
    panic!("removal that does not come to an end");
}

#[test]
fn a_store_with_damaged_rows_never_panics_and_never_hangs() {
    target!(2_000).with_type::<(Vec<Step>, Vec<Hit>)>().for_each(|(steps, hits)| {
        let backend = MemoryBackend::default();
        build(&backend, steps);
        hit(&backend, hits);
        match Store::open(backend) {
            Ok(store) => use_all(&store),
            Err(e) => assert!(e.0.contains("damaged"), "{e}"),
        }
    });
}
