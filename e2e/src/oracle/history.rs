//! What each watch of one stream was told, without how it was cut into responses.
//!
//! A server may put any number of revisions into one response, so events are compared as one
//! sequence per watch. The rules about the cutting itself are checked here, on each side alone: a
//! revision is never split unless by asked-for fragments, and a header is never behind its events.

use std::collections::{BTreeMap, HashMap};

use keelson_api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use keelson_api::mvccpb::Event;
use prost::Message;
use tonic::Code;

use super::lease_names::LeaseNames;
use super::normal;
use super::watching::{SENTINEL_KEY, is_progress};

/// Responses to a watch with `fragment` stay below this, unless one event alone is larger:
/// etcd's default `--max-request-bytes` plus what gRPC may add.
const FRAGMENT_BYTES: usize = 1_572_864 + 512 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Created, canceled, or an answer to a progress request: compared with all its fields.
    Control(WatchResponse),
    Event(Event),
    Ended {
        code: Code,
        message: String,
    },
    /// Something no server may do.
    Flaw(String),
}

/// Collects the responses of one stream.
#[derive(Debug, Default)]
pub struct History {
    watches: HashMap<i64, Watch>,
    items: BTreeMap<i64, Vec<Item>>,
}

#[derive(Debug, Default)]
struct Watch {
    prev_kv: bool,
    fragment: bool,
    last_revision: i64,
    /// The last response said that it is to be continued.
    continued: bool,
}

/// The watch id under which the end of the stream is kept.
const STREAM: i64 = i64::MIN;
/// The one for answers to progress requests. A refused watch has the same id on the wire (-1), and etcd
/// sends the two from different tasks: which comes first says nothing.
const PROGRESS: i64 = STREAM + 1;

impl History {
    /// Call before the first events of the watch are added.
    pub fn watch(&mut self, id: i64, request: &WatchCreateRequest) {
        let watch = Watch { prev_kv: request.prev_kv, fragment: request.fragment, ..Watch::default() };
        self.watches.insert(id, watch);
    }

    /// Call once the watch was canceled: nothing more may come.
    pub fn unwatch(&mut self, id: i64) {
        self.watches.remove(&id);
    }

    /// Events of the sentinel's key are left out. In what order watches are told of one revision is
    /// not defined, so its last write may still be on the way to some when it arrived at others.
    pub fn add(&mut self, mut response: WatchResponse) {
        let id = response.watch_id;
        let progress = is_progress(&response);
        let mut items = Vec::new();
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.check(&response, &mut items);
        } else if !response.events.is_empty() {
            items.push(Item::Flaw(format!("events for watch {id}, which does not exist")));
        }
        let control = response.events.is_empty();
        response.events.retain(|event| event.kv.as_ref().is_none_or(|kv| kv.key != SENTINEL_KEY));
        if control {
            items.push(Item::Control(response));
        } else {
            if response.created || response.canceled || response.compact_revision != 0 {
                items.push(Item::Flaw(format!("events in a control message: {response:?}")));
            }
            items.extend(response.events.into_iter().map(Item::Event));
        }
        if !items.is_empty() {
            self.items.entry(if progress { PROGRESS } else { id }).or_default().append(&mut items);
        }
    }

    pub fn end(&mut self, code: Code, message: String) {
        self.items.entry(STREAM).or_default().push(Item::Ended { code, message });
    }

    /// Everything since the last call, per watch.
    pub fn take(&mut self, names: &LeaseNames) -> BTreeMap<i64, Vec<Item>> {
        let mut taken = std::mem::take(&mut self.items);
        for item in taken.values_mut().flatten() {
            match item {
                Item::Control(response) => normal::watch(response, names),
                Item::Event(event) => normal::watch_event(event, names),
                Item::Ended { .. } | Item::Flaw(_) => {}
            }
        }
        taken
    }
}

impl Watch {
    fn check(&mut self, response: &WatchResponse, items: &mut Vec<Item>) {
        let mut flaw = |text: String| items.push(Item::Flaw(format!("watch {}: {text}", response.watch_id)));
        let revisions: Vec<i64> = response.events.iter().map(|event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision)).collect();
        let Some((&first, &last)) = revisions.first().zip(revisions.last()) else {
            return;
        };

        if !revisions.is_sorted() || first < self.last_revision {
            flaw(format!("events go back: {revisions:?} after {}", self.last_revision));
        }
        if first == self.last_revision && !self.continued {
            flaw(format!("revision {first} is split over responses"));
        }
        let header = response.header.as_ref().map_or(0, |header| header.revision);
        if header < last {
            flaw(format!("header at {header} is behind its last event at {last}"));
        }
        if !self.prev_kv && response.events.iter().any(|event| event.prev_kv.is_some()) {
            flaw("a prev_kv that was not asked for".into());
        }
        if response.fragment && !self.fragment {
            flaw("a fragment that was not asked for".into());
        }
        if self.fragment && response.events.len() > 1 && response.encoded_len() > FRAGMENT_BYTES {
            flaw(format!("{} bytes in one fragment", response.encoded_len()));
        }
        self.last_revision = last;
        self.continued = response.fragment;
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::ResponseHeader;
    use keelson_api::mvccpb::KeyValue;

    use super::*;

    fn events(header: i64, revisions: &[i64]) -> WatchResponse {
        let event = |&mod_revision: &i64| Event {
            kv: Some(KeyValue { key: "k".into(), mod_revision, ..Default::default() }),
            ..Default::default()
        };
        WatchResponse {
            header: Some(ResponseHeader { revision: header, ..Default::default() }),
            events: revisions.iter().map(event).collect(),
            ..Default::default()
        }
    }

    fn history(fragment: bool, responses: Vec<WatchResponse>) -> Vec<Item> {
        let mut history = History::default();
        history.watch(0, &WatchCreateRequest { fragment, ..Default::default() });
        responses.into_iter().for_each(|response| history.add(response));
        history.take(&LeaseNames::default()).remove(&0).unwrap_or_default()
    }

    fn flaws(fragment: bool, responses: Vec<WatchResponse>) -> usize {
        history(fragment, responses).iter().filter(|item| matches!(item, Item::Flaw(_))).count()
    }

    #[test]
    fn how_events_are_cut_into_responses_does_not_matter() {
        let one = history(false, vec![events(9, &[3, 3, 4, 5])]);
        let three = history(false, vec![events(3, &[3, 3]), events(4, &[4]), events(7, &[5])]);
        assert_eq!(one, three);
    }

    #[test]
    fn a_progress_answer_and_a_refusal_come_in_any_order() {
        let progress = WatchResponse { watch_id: -1, ..events(5, &[]) };
        let refusal = WatchResponse { created: true, canceled: true, ..progress.clone() };
        let told = |responses: [&WatchResponse; 2]| {
            let mut history = History::default();
            responses.into_iter().cloned().for_each(|response| history.add(response));
            history.take(&LeaseNames::default())
        };
        assert_eq!(told([&progress, &refusal]), told([&refusal, &progress]));
        assert_ne!(told([&progress, &refusal]), told([&progress, &progress]));
    }

    #[test]
    fn a_revision_is_only_split_by_fragments() {
        assert_eq!(flaws(false, vec![events(3, &[3]), events(3, &[3])]), 1);
        let fragment = WatchResponse { fragment: true, ..events(3, &[3]) };
        assert_eq!(flaws(true, vec![fragment.clone(), events(3, &[3])]), 0);
        assert_eq!(flaws(false, vec![fragment]), 1);
    }

    #[test]
    fn revisions_never_go_back_and_headers_are_never_behind() {
        assert_eq!(flaws(false, vec![events(5, &[4]), events(5, &[3])]), 1);
        assert_eq!(flaws(false, vec![events(5, &[4, 3])]), 1);
        assert_eq!(flaws(false, vec![events(2, &[3])]), 1);
    }

    #[test]
    fn events_of_a_watch_that_does_not_exist_are_a_flaw() {
        let mut history = History::default();
        history.add(WatchResponse { watch_id: 4, ..events(3, &[3]) });
        assert!(matches!(history.take(&LeaseNames::default())[&4][0], Item::Flaw(_)));
    }

    #[test]
    fn prev_kv_only_comes_when_asked_for() {
        let mut response = events(3, &[3]);
        response.events[0].prev_kv = Some(KeyValue::default());
        assert_eq!(flaws(false, vec![response]), 1);
    }
}
