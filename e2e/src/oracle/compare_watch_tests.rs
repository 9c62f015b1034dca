//! Proves that the comparer sees every way in which two watches can have been told different things.

use std::collections::BTreeMap;

use keelson_api::etcdserverpb::WatchResponse;
use keelson_api::mvccpb::{Event, KeyValue};
use tonic::Code;

use super::tests::{header, kv, sees};
use super::*;
use crate::oracle::history::{History, Item};
use crate::oracle::lease_names::LeaseNames;

#[test]
fn every_event_and_control_message_of_a_watch() {
    let event = |mod_revision| Event { kv: Some(KeyValue { mod_revision, ..kv() }), prev_kv: Some(kv()), ..Default::default() };
    let created = WatchResponse { header: header(), watch_id: 3, created: true, ..Default::default() };
    let items = vec![Item::Control(created), Item::Event(event(5)), Item::Event(event(6))];
    let watched = |items| Outcome::Watched(BTreeMap::from([(0, BTreeMap::from([(3, items)]))]));
    fn control(items: &mut [Item]) -> &mut WatchResponse {
        let Item::Control(response) = &mut items[0] else { panic!() };
        response
    }
    fn event_of(items: &mut [Item]) -> &mut Event {
        let Item::Event(event) = &mut items[1] else { panic!() };
        event
    }
    sees(
        items,
        watched,
        &[
            |i| i.truncate(2),
            |i| i.swap(1, 2),
            |i| i.insert(1, i[1].clone()),
            |i| i.push(Item::Ended { code: Code::Unavailable, message: String::new() }),
            |i| i.push(Item::Flaw("x".into())),
            |i| control(i).header.as_mut().unwrap().revision = 0,
            |i| control(i).watch_id = -1,
            |i| control(i).created = false,
            |i| control(i).canceled = true,
            |i| control(i).compact_revision = 4,
            |i| control(i).cancel_reason = "x".into(),
            |i| control(i).fragment = true,
            |i| event_of(i).r#type = 1,
            |i| event_of(i).kv = None,
            |i| event_of(i).prev_kv = None,
            |i| event_of(i).kv.as_mut().unwrap().lease = 0,
            |i| event_of(i).prev_kv.as_mut().unwrap().value = "".into(),
        ],
    );
}

#[test]
fn a_watch_or_a_stream_that_only_one_side_heard_of() {
    let watched = |streams: &[(usize, i64)]| {
        let told = |&(stream, id): &(usize, i64)| (stream, BTreeMap::from([(id, Vec::new())]));
        Outcome::Watched(streams.iter().map(told).collect())
    };
    assert!(compare(watched(&[(0, 1)]), watched(&[(0, 2)])).is_some());
    assert!(compare(watched(&[(0, 1)]), watched(&[(0, 1), (1, 1)])).is_some());
}

#[test]
fn a_rule_that_both_sides_break_is_still_broken() {
    let history = || {
        let mut history = History::default();
        history.add(WatchResponse { events: vec![Event::default()], ..Default::default() });
        Outcome::Watched(BTreeMap::from([(0, history.take(&LeaseNames::default()))]))
    };
    assert!(compare(history(), history()).is_some());
}
