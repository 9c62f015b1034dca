//! Where members are: as the member list says, and before there is one, as the flags said.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use keelson_api::format;

use super::metadata::Speaker;
use crate::member::State;

/// Peer URLs by member.
#[derive(Default)]
pub struct Book {
    first: BTreeMap<u64, Vec<String>>,
    state: OnceLock<Arc<State>>,
}

impl Book {
    /// With what is known before the state is there.
    pub fn new(first: BTreeMap<u64, Vec<String>>) -> Self {
        Self { first, state: OnceLock::new() }
    }

    /// From now on the member list of `state` counts.
    pub fn follow(&self, state: Arc<State>) {
        // Set once, at start.
        let _ = self.state.set(state);
    }

    fn listed(&self, id: u64) -> Option<keelson_state::Member> {
        self.state.get().and_then(|s| s.member(id))
    }

    /// Whether a member belongs to the cluster, as far as this one can tell.
    pub fn knows(&self, id: u64) -> bool {
        self.listed(id).is_some() || self.first.contains_key(&id)
    }

    /// Where a member can be reached; empty if nobody knows.
    pub fn urls(&self, id: u64) -> Vec<String> {
        let listed = self.listed(id).map(|m| m.peer_urls);
        listed.filter(|urls| !urls.is_empty()).or_else(|| self.first.get(&id).cloned()).unwrap_or_default()
    }

    /// The data directory a member first came with; empty if it has not come yet.
    pub fn data_dir_uuid(&self, id: u64) -> String {
        self.listed(id).map(|m| m.data_dir_uuid).unwrap_or_default()
    }

    /// The cluster's format, as far as this member knows.
    pub fn cluster_format(&self) -> u32 {
        self.state.get().map_or(format::OLDEST, |s| s.format())
    }

    /// Whether the member list itself has this member with the data directory that it comes with. Then it has lost
    /// nothing: whoever knows it by another one is wrong.
    pub fn vouches_for(&self, member: &Speaker) -> bool {
        !member.data_dir_uuid.is_empty() && self.data_dir_uuid(member.member_id) == member.data_dir_uuid
    }
}
