//! What the running operator remembers of a cluster between two looks. Losing it costs a little time and nothing else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keelson_api::etcdserverpb::StatusResponse;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::api::EtcdCluster;
use crate::observe::Snapshot;
use crate::plan::{Action, Phase};
use crate::render::CLIENT_PORT;
use crate::store::{Address, Answers, Certificates, Member, StoreError};

pub type Key = ObjectRef<EtcdCluster>;

#[derive(Default)]
pub struct Memory {
    pub snapshot: Option<(Instant, Snapshot)>,
    connections: BTreeMap<String, Connection>,
    /// Those that could be used last.
    certificates: Option<Certificates>,
    answering_since: BTreeMap<String, Instant>,
    pub last_action: Option<(Action, Instant)>,
    pub last_status: Option<Instant>,
    /// What it waits for, and since when.
    waiting: Option<(String, Instant)>,
    /// What people were told last that it waits for.
    pub told: Option<String>,
    /// What people were told last that has failed, until something has been done.
    pub failed: Option<String>,
    /// People were told for how long nobody had looked after it.
    pub greeted: bool,
}

struct Connection {
    /// Pod and certificates; another connection is made when these change.
    to: (String, Option<Certificates>),
    address: Address,
    /// While something is going on.
    member: Option<Member>,
}

impl Memory {
    /// Connections to every pod that could answer, kept while pod and certificates stay the same, until all is at rest.
    pub fn connect(&mut self, snapshot: &Snapshot) -> Result<BTreeMap<String, Member>, StoreError> {
        let mut members = BTreeMap::new();
        let certificates = match &snapshot.certificates {
            None => None,
            Some(Ok(certificates)) => Some(self.certificates.insert(certificates.clone()).clone()),
            // The plan says which Secret was spoiled or deleted. Nobody is kept from being healed while those of before are good.
            Some(Err(_)) => match &self.certificates {
                Some(before) => Some(before.clone()),
                None => return Ok(members),
            },
        };
        self.connections.retain(|name, _| snapshot.pod(name).is_some());
        for pod in &snapshot.pods {
            let Some(ip) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) else {
                continue;
            };
            if crate::observe::phase(pod) != Phase::Live {
                continue;
            }
            let name = pod.name_any();
            let to = (format!("{ip} {}", pod.uid().unwrap_or_default()), certificates.clone());
            if self.connections.get(&name).is_none_or(|connection| connection.to != to) {
                let address = Address::new(&ip, CLIENT_PORT, &snapshot.names.host(&name), certificates.as_ref())?;
                self.connections.insert(name.clone(), Connection { to, address, member: None });
            }
            if let Some(Connection { address, member, .. }) = self.connections.get_mut(&name) {
                members.insert(name, member.get_or_insert_with(|| address.connect()).clone());
            }
        }
        Ok(members)
    }

    /// Closes connections. The buffers of one take more memory than all that is known of its member, and clusters at rest
    /// are looked at a few times a minute.
    pub fn hang_up(&mut self) {
        self.connections.values_mut().for_each(|connection| connection.member = None);
    }

    /// For how long it has waited for this and nothing else.
    pub fn wait(&mut self, blocked_by: Option<&str>) -> Duration {
        let Some(note) = blocked_by else {
            (self.waiting, self.told) = (None, None);
            return Duration::ZERO;
        };
        match &self.waiting {
            Some((known, since)) if known == note => since.elapsed(),
            _ => {
                self.waiting = Some((note.to_string(), Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// For how long each member has answered and known a leader, this answer included.
    pub fn note(&mut self, answers: &Answers) -> BTreeMap<String, Duration> {
        let well = |status: &StatusResponse| status.leader != 0;
        self.answering_since.retain(|name, _| answers.statuses.get(name).is_some_and(well));
        for (name, _) in answers.statuses.iter().filter(|(_, status)| well(status)) {
            self.answering_since.entry(name.clone()).or_insert_with(Instant::now);
        }
        self.answering_since.iter().map(|(name, since)| (name.clone(), since.elapsed())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_something_else_begins_anew() {
        let mut memory = Memory::default();
        memory.wait(Some("a pod"));
        memory.waiting.as_mut().unwrap().1 -= Duration::from_secs(20);
        assert!(memory.wait(Some("a pod")) >= Duration::from_secs(20));
        assert_eq!(memory.wait(Some("a volume")), Duration::ZERO);
        memory.told = Some("a volume".into());
        memory.wait(None);
        assert_eq!(memory.told, None, "the same is told again when it comes back");
    }
}
