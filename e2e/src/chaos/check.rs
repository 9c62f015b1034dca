//! What clients were told, against the story of the store itself: every revision with its changes, as each member
//! tells it from the beginning.

use std::collections::BTreeMap;
use std::time::Duration;

use super::events::{Events, Timeline};
use super::record::{Outcome, Record, Request};

/// Everything that is wrong, one line each.
pub fn broken_promises(records: &[Record], events: &Events) -> Vec<String> {
    let mut broken = Vec::new();
    every_change_was_asked_for_once(records, events, &mut broken);
    every_acknowledged_write_is_there(records, events, &mut broken);
    nobody_is_told_of_the_past(records, events, &mut broken);
    every_read_is_the_state_of_its_revision(records, events, &mut broken);
    broken
}

/// No value appears that nobody wrote, none twice, and none whose writer was told that it was refused.
fn every_change_was_asked_for_once(records: &[Record], events: &Events, broken: &mut Vec<String>) {
    let mut writers: BTreeMap<&str, &Record> = BTreeMap::new();
    for record in records {
        if let (_, Some(value)) = record.request.puts() {
            writers.insert(value, record);
        }
    }
    let mut written: BTreeMap<&str, i64> = BTreeMap::new();
    for (revision, changes) in events.iter() {
        for (key, value) in changes.iter().filter_map(|(k, v)| Some((k, v.as_deref()?))) {
            let Some(writer) = writers.get(value) else {
                broken.push(format!("revision {revision}: nobody wrote {value:?} into {key}"));
                continue;
            };
            if !writer.request.puts().0.contains(key) || writer.outcome == Outcome::Refused {
                broken.push(format!("revision {revision}: {value:?} in {key} comes from {writer:?}"));
            }
            let first = *written.entry(value).or_insert(revision);
            if first != revision {
                broken.push(format!("{value:?} was written into {key} at {first} and again at {revision}"));
            }
        }
        let values: Vec<_> = changes.values().collect();
        if changes.len() > 1 && values.windows(2).any(|v| v[0] != v[1]) {
            broken.push(format!("revision {revision} has the changes of several requests: {changes:?}"));
        }
    }
}

/// A write is the one change of the revision that it was answered with.
fn every_acknowledged_write_is_there(records: &[Record], events: &Events, broken: &mut Vec<String>) {
    for record in records {
        let Some(answer) = record.answer().filter(|answer| answer.done) else { continue };
        let changes = events.at(answer.revision);
        let is_there = match &record.request {
            Request::Delete { key } => changes.is_some_and(|c| c.len() == 1 && c.get(key) == Some(&None)),
            request => {
                let (keys, value) = request.puts();
                let written = |key: &String| changes.and_then(|c| c.get(key)).is_some_and(|v| v.as_deref() == value);
                changes.is_some_and(|c| c.len() == keys.len()) && keys.iter().all(written)
            }
        };
        if !is_there {
            broken.push(format!("acknowledged, but revision {} is {changes:?}: {record:?}", answer.revision));
        }
    }
}

/// An answer is not older than what anybody had been told before it was asked for; a write is newer.
fn nobody_is_told_of_the_past(records: &[Record], events: &Events, broken: &mut Vec<String>) {
    let mut told: Vec<(Duration, i64)> = records.iter().filter_map(|r| Some((r.end, r.answer()?.revision))).collect();
    told.sort_unstable();
    let mut newest = 0;
    for (_, revision) in &mut told {
        newest = newest.max(*revision);
        *revision = newest;
    }
    for record in records {
        let Some(answer) = record.answer() else { continue };
        if answer.revision > events.newest().max(1) {
            broken.push(format!("a revision that never came to be was told: {record:?}"));
        }
        let before = told.partition_point(|(end, _)| *end < record.call);
        let floor = before.checked_sub(1).map_or(0, |last| told[last].1);
        let late = answer.revision < floor || (answer.done && answer.revision == floor);
        if late && !record.request.is_serializable() {
            broken.push(format!("revision {floor} had been told before this was asked: {record:?}"));
        }
    }
}

/// Whatever was read, and whatever was found not to be there, was so at the revision of the answer.
fn every_read_is_the_state_of_its_revision(records: &[Record], events: &Events, broken: &mut Vec<String>) {
    let mut reads: Vec<&Record> = records.iter().filter(|r| r.answer().is_some_and(|a| !a.done)).collect();
    reads.sort_by_key(|r| r.answer().map(|a| a.revision));
    let mut timeline = Timeline::new(events);
    for record in reads {
        let Some(answer) = record.answer() else { continue };
        let state = timeline.forward(answer.revision);
        let right = match &record.request {
            Request::List { prefix, .. } => {
                let inside = state.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(prefix.as_str()));
                inside.eq(answer.found.iter())
            }
            Request::Get { key } => state.get(key) == answer.found.get(key),
            Request::Swap { key, expect, .. } => {
                let now = state.get(key);
                now == answer.found.get(key) && now.map_or("", |(value, _)| value) != expect
            }
            Request::Delete { key } => !state.contains_key(key),
            Request::Put { .. } | Request::PutAll { .. } => false,
        };
        if !right {
            broken.push(format!("revision {} was otherwise: {record:?}", answer.revision));
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::WatchResponse;
    use keelson_api::mvccpb::event::EventType;
    use keelson_api::mvccpb::{Event, KeyValue};

    use super::*;
    use crate::chaos::record::Answer;

    fn events(changes: &[(i64, &str, Option<&str>)]) -> Events {
        let event = |(at, key, value): &(i64, &str, Option<&str>)| Event {
            r#type: i32::from(if value.is_some() { EventType::Put } else { EventType::Delete }),
            kv: Some(KeyValue {
                key: key.to_string().into(),
                value: value.unwrap_or_default().to_owned().into(),
                mod_revision: *at,
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut events = Events::default();
        events.take(WatchResponse { events: changes.iter().map(event).collect(), ..Default::default() }).unwrap();
        events
    }

    fn record(call: u64, request: Request, outcome: Outcome) -> Record {
        let at = Duration::from_millis;
        Record { client: 0, member: 0, request, call: at(call), end: at(call + 5), outcome }
    }

    fn answered(revision: i64, done: bool, found: &[(&str, &str, i64)]) -> Outcome {
        let found = found.iter().map(|(k, v, at)| (k.to_string(), (v.to_string(), *at))).collect();
        Outcome::Answered(Answer { revision, done, found })
    }

    fn put(key: &str, value: &str) -> Request {
        Request::Put { key: key.into(), value: value.into() }
    }

    fn get(key: &str) -> Request {
        Request::Get { key: key.into() }
    }

    fn story() -> Events {
        events(&[(2, "a", Some("1")), (3, "b", Some("2")), (4, "a", None)])
    }

    fn truth() -> Vec<Record> {
        vec![
            record(0, put("a", "1"), answered(2, true, &[])),
            record(10, put("b", "2"), Outcome::Unknown),
            record(20, get("a"), answered(3, false, &[("a", "1", 2)])),
            record(30, Request::Delete { key: "a".into() }, answered(4, true, &[])),
            record(40, Request::Delete { key: "a".into() }, answered(4, false, &[])),
            record(50, Request::List { prefix: String::new(), serializable: true }, answered(2, false, &[("a", "1", 2)])),
        ]
    }

    #[test]
    fn what_is_true_passes() {
        assert_eq!(broken_promises(&truth(), &story()), Vec::<String>::new());
    }

    #[test]
    fn each_broken_promise_is_found() {
        let lost = events(&[(3, "b", Some("2")), (4, "a", None)]);
        assert!(!broken_promises(&truth(), &lost).is_empty(), "an acknowledged write is lost");
        let twice = events(&[(2, "a", Some("1")), (3, "b", Some("2")), (4, "a", None), (5, "b", Some("2"))]);
        assert!(!broken_promises(&truth(), &twice).is_empty(), "a write was carried out twice");
        let broken = [
            (record(60, get("a"), answered(3, false, &[("a", "1", 2)])), "a stale read"),
            (record(60, get("a"), answered(4, false, &[("a", "1", 2)])), "a read of what was deleted"),
            (record(60, get("b"), answered(9, false, &[("b", "2", 3)])), "a revision that never came to be"),
            (record(60, put("b", "3"), answered(4, true, &[])), "a write with the revision of another"),
            (record(60, put("b", "3"), answered(5, true, &[])), "a write that is not there"),
            (
                record(60, Request::List { prefix: String::new(), serializable: false }, answered(4, false, &[])),
                "a list without a key",
            ),
            (
                record(
                    60,
                    Request::Swap { key: "b".into(), expect: "2".into(), value: "4".into() },
                    answered(4, false, &[("b", "2", 3)]),
                ),
                "a swap that had to succeed",
            ),
        ];
        for (wrong, why) in broken {
            let mut records = truth();
            records.push(wrong);
            assert!(!broken_promises(&records, &story()).is_empty(), "{why}");
        }
        let mut refused = truth();
        refused[1].outcome = Outcome::Refused;
        assert!(!broken_promises(&refused, &story()).is_empty(), "a refused write was carried out");
    }
}
