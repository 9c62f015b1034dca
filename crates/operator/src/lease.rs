//! Leader election by a Lease, so that of several replicas one acts.
//!
//! A Lease is not a fence: a replica that was asleep may act once more after it lost it. That is why every action is
//! safe by itself (preconditions, versions), and why a replica that cannot renew ends its process at once.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

/// Others may take over this long after the last renewal they saw.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long is one no more; well before others may take over.
const RENEW_LIMIT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Nobody leading for less than that is no news: it takes some seconds to take over.
const NOTABLE: SignedDuration = SignedDuration::from_secs(60);
/// For how long it is worth saying afterwards.
const RECENT: SignedDuration = SignedDuration::from_mins(60);

/// A time in which nobody led, by the clocks of those who led before and after.
#[derive(Clone, Debug)]
pub struct Away {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Away {
    /// Whether that was during the life of what was created then, and not long ago.
    pub fn concerns(&self, created: Timestamp, now: Timestamp) -> bool {
        created < self.to && now.duration_since(self.to) < RECENT
    }
}

impl Display for Away {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "No operator looked after this cluster from {from} to {to}: none ran, or the API server could not be reached")
    }
}

pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The version that was seen last, and when: other people's clocks are not trusted.
    seen: Option<(String, Instant)>,
    /// When the Lease was renewed last before this replica held it.
    last_renewed: Option<Timestamp>,
    /// Whether the Lease can be read and written: without, this replica is of no use.
    takes_part: Arc<AtomicBool>,
}

impl Election {
    /// `takes_part` is set while the Lease can be read and written.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, takes_part: Arc<AtomicBool>) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.into(),
            identity: identity.into(),
            seen: None,
            last_renewed: None,
            takes_part,
        }
    }

    /// Returns when this replica leads, with the time in which nobody did, if that is worth telling.
    pub async fn win(&mut self) -> Option<Away> {
        loop {
            let attempt = tokio::time::timeout(CALL_LIMIT, self.attempt()).await;
            self.takes_part.store(matches!(attempt, Ok(Ok(_))), Ordering::Relaxed);
            match attempt {
                Ok(Ok(true)) => {
                    let away = Away { from: self.last_renewed?, to: Timestamp::now() };
                    return (away.to.duration_since(away.from) > NOTABLE).then_some(away);
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "the Lease could not be read or written"),
                Err(_) => tracing::warn!(lease = self.name, "the API server did not answer in time"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews for as long as it can; returns when this replica leads no more.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_LIMIT {
            tokio::time::sleep(RETRY).await;
            let left = RENEW_LIMIT.saturating_sub(renewed.elapsed());
            let begun = Instant::now();
            match tokio::time::timeout(left.min(CALL_LIMIT), self.attempt()).await {
                Ok(Ok(true)) => renewed = begun,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "the Lease could not be renewed"),
                Err(_) => tracing::warn!(lease = self.name, "the API server did not answer in time"),
            }
        }
    }

    /// Gives the Lease up, so that nobody has to wait for it to run out.
    pub async fn release(&mut self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = None;
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    /// True if this replica holds the Lease afterwards. Written by the version that was read, so only one can win.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let spec = Some(self.claimed(LeaseSpec::default(), now));
            return won(self.api.create(&PostParams::default(), &Lease { metadata, spec }).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let version = lease.resource_version().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, Instant::now()));
        }
        let run_out = self.seen.as_ref().is_some_and(|(_, since)| since.elapsed() >= DURATION);
        if !holder.is_empty() && holder != self.identity && !run_out {
            return Ok(false);
        }
        self.last_renewed = spec.renew_time.as_ref().map(|time| time.0);
        lease.spec = Some(self.claimed(spec, now));
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn claimed(&self, spec: LeaseSpec, now: MicroTime) -> LeaseSpec {
        let mine = spec.holder_identity.as_deref() == Some(&self.identity);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if mine { spec.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: if mine { spec.lease_transitions } else { Some(spec.lease_transitions.unwrap_or(0) + 1) },
            ..spec
        }
    }
}

fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_told_to_who_was_there_and_not_forever() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let away = Away { from: at(1000), to: at(2000) };
        assert!(away.concerns(at(500), at(2001)) && away.concerns(at(1500), at(2001)));
        assert!(!away.concerns(at(2000), at(2001)), "it is younger");
        assert!(!away.concerns(at(500), at(2000 + 3600)), "that is long ago");
    }
}
