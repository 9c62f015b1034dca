//! The Secrets with certificates, whoever writes them, and how far the operator's own authorities have come.

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject};
use kube::{Client, ResourceExt};

use super::pods;
use super::snapshot::{Snapshot, lean};
use super::surroundings::{belongs, foreign};
use crate::api::{Leaf, Side, Source, Tls, annotation};
use crate::pki::{CERTIFICATE, Held, Pair, Shown, Signing, Wanted, first, leaf, since};
use crate::plan::{Authority, Certificate, Phase, Trust};
use crate::render::{self, CLIENT_PORT, Names, PEER_PORT};
use crate::store::{Certificates, Door, shake};

/// What there is of certificates; nothing in plain text.
#[derive(Default)]
pub struct Papers {
    pub held: Held,
    /// What cert-manager was asked for.
    pub requests: BTreeMap<Leaf, DynamicObject>,
}

const LEAVES: [Leaf; 3] = [Leaf::Server, Leaf::Client, Leaf::Peer];

impl Papers {
    pub async fn read(client: &Client, names: &Names, tls: Option<&Tls>) -> Result<Self, kube::Error> {
        let mut papers = Self::default();
        let Some(tls) = tls else {
            return Ok(papers);
        };
        let secrets = Api::<Secret>::namespaced(client.clone(), &names.namespace);
        for leaf in LEAVES {
            let Some(name) = tls.secret(leaf, &names.cluster) else {
                continue;
            };
            papers.held.leaves.extend(secrets.get_opt(&name).await?.map(|secret| (leaf, lean(secret))));
            if let Some(Source::CertManager(_)) = tls.source(leaf.side()) {
                let requests: Api<DynamicObject> = Api::namespaced_with(client.clone(), &names.namespace, &render::requests());
                match requests.get(&name).await {
                    Ok(request) => drop(papers.requests.insert(leaf, lean(request))),
                    // Where cert-manager is not installed, the answer is the same without the form of one about an object.
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(e) => return Err(e),
                }
            }
        }
        for side in Side::ALL {
            if tls.source(side) == Some(Source::Auto) {
                let secret = secrets.get_opt(&names.authority(side)).await?;
                papers.held.authorities.extend(secret.map(|secret| (side, lean(secret))));
            }
        }
        Ok(papers)
    }

    /// What a client of this cluster shows, or why there is nothing to show; `None` in plain text.
    pub fn of_clients(&self, names: &Names, tls: &Tls) -> Option<Result<Certificates, String>> {
        tls.client.as_ref()?;
        Some(self.usable(names, tls, Leaf::Server, Leaf::Client))
    }

    /// Why members could not start with what they show each other: their process would wait for the Secret without a word.
    pub fn peer_trouble(&self, names: &Names, tls: &Tls) -> Option<String> {
        tls.peer.as_ref()?;
        self.usable(names, tls, Leaf::Peer, Leaf::Peer).err()
    }

    /// Who is trusted is taken from the members' Secret.
    fn usable(&self, names: &Names, tls: &Tls, members: Leaf, shown: Leaf) -> Result<Certificates, String> {
        let mut files = Vec::new();
        for leaf in [members, shown] {
            let secret = self.held.leaves.get(&leaf).ok_or_else(|| self.lacks(names, tls, leaf))?;
            files.push(secret.data.clone().unwrap_or_default());
        }
        let names = [members, shown].map(|leaf| tls.secret(leaf, &names.cluster).unwrap_or_default());
        let these = if names[0] == names[1] { names[0].clone() } else { format!("{} or {}", names[0], names[1]) };
        Certificates::of(&files[0], &files[1]).map_err(|why| format!("Secret {these} cannot be used for TLS: {why}"))
    }

    fn lacks(&self, names: &Names, tls: &Tls, leaf: Leaf) -> String {
        let (name, side) = (tls.secret(leaf, &names.cluster).unwrap_or_default(), leaf.side());
        match tls.source(side) {
            Some(Source::CertManager(_)) => {
                let says = self.requests.get(&leaf).and_then(ready_message);
                let says = says.map(|says| format!("; it says: {says}")).unwrap_or_default();
                format!("Secret {name} is not there yet: cert-manager makes it for Certificate {name}{says}")
            }
            Some(Source::Auto) => format!("Secret {name} is not there yet: it is issued next"),
            Some(Source::Given) | None => {
                format!("Secret {name}, which spec.tls.{} names, does not exist in namespace {}", side.as_str(), names.namespace)
            }
        }
    }

    /// Every certificate that can be read, the authorities' among them.
    pub fn certificates(&self, names: &Names, tls: &Tls) -> Vec<Certificate> {
        let mut known: Vec<Certificate> = Vec::new();
        let mut note = |secret: String, shown: Shown, renewed: SignedDuration| {
            if known.iter().all(|certificate| certificate.secret != secret) {
                // Renewals come long before a tenth is left, unless somebody wants them later.
                let margin = renewed.min(shown.until.duration_since(shown.from) / 10);
                known.push(Certificate { secret, until: shown.until, overdue: shown.until - margin });
            }
        };
        for (leaf, secret) in &self.held.leaves {
            let file = secret.data.as_ref().and_then(|files| files.get(CERTIFICATE));
            if let (Some(file), Some(name)) = (file, tls.secret(*leaf, &names.cluster))
                && let Ok(shown) = first(&file.0)
            {
                let asked = tls.source(leaf.side()) != Some(Source::Given);
                note(name, shown, if asked { tls.rotation(leaf.side()).renew_before() / 2 } else { SignedDuration::MAX });
            }
        }
        for (side, secret) in &self.held.authorities {
            if let Ok(Signing { signer: Some((_, shown)), .. }) = Signing::of(secret) {
                note(names.authority(*side), shown, SignedDuration::MAX);
            }
        }
        known
    }
}

fn ready_message(request: &DynamicObject) -> Option<String> {
    let conditions = request.data.pointer("/status/conditions")?.as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready" && condition["status"] != "True")?;
    ready["message"].as_str().map(str::to_string)
}

/// The operator's own authorities. One whose Secret cannot be used, or is somebody else's, is left alone and told of elsewhere.
pub fn authorities(snapshot: &Snapshot, followed: &BTreeMap<Side, Vec<String>>, now: Timestamp) -> Vec<Authority> {
    let Some(tls) = &snapshot.cluster.spec.tls else {
        return Vec::new();
    };
    let own = Side::ALL.into_iter().filter(|side| tls.source(*side) == Some(Source::Auto));
    own.filter_map(|side| authority(snapshot, tls, side, followed.get(&side).cloned().unwrap_or_default(), now)).collect()
}

fn authority(snapshot: &Snapshot, tls: &Tls, side: Side, followed: Vec<String>, now: Timestamp) -> Option<Authority> {
    let Held { leaves, authorities } = &snapshot.papers.held;
    let ours = |secret: &Secret| belongs(&snapshot.cluster, secret);
    // A certificate in the place of which there is somebody else's Secret cannot be issued.
    let free = |leaf: &&Leaf| leaves.get(*leaf).is_none_or(ours);
    let Some(secret) = authorities.get(&side) else {
        let nobody = Authority { side, trust: Trust::Nobody, due: vec![], outdated: None, overlapped: false, followed };
        return Some(nobody);
    };
    let signing = Signing::of(secret).ok().filter(|_| ours(secret))?;
    let wanted = |leaf: Leaf| Wanted::of(leaf, &snapshot.names, tls);
    let due = |leaf: &&Leaf| leaves.get(*leaf).is_none_or(|secret| !signing.vouches(secret, &wanted(**leaf), now));
    let asked = snapshot.cluster.annotations().get(annotation::ROTATE).map(String::as_str);
    let overlap = tls.rotation(side).overlap();
    // Clients are given their time from the last of the writes on which a step consists.
    let written = side.leaves().iter().filter_map(|leaf| leaves.get(leaf)).chain([secret]);
    let last = written.filter_map(since).max();
    Some(Authority {
        side,
        trust: signing.trust(),
        due: side.leaves().iter().filter(free).filter(due).copied().collect(),
        outdated: signing.outdated(asked, now),
        overlapped: last.is_none_or(|last| now.duration_since(last) >= overlap),
        followed,
    })
}

/// What stands where the operator would put certificates of its own, and is not its own or of no use.
pub fn in_the_way(snapshot: &Snapshot) -> Vec<String> {
    let Some(tls) = &snapshot.cluster.spec.tls else {
        return Vec::new();
    };
    let is_auto = |side: Side| tls.source(side) == Some(Source::Auto);
    let Held { leaves, authorities } = &snapshot.papers.held;
    let own = leaves.iter().filter(|(leaf, _)| is_auto(leaf.side())).map(|(_, secret)| secret);
    let theirs = own.chain(authorities.values()).filter_map(|secret| foreign(&snapshot.cluster, Some(secret)));
    let mut found: Vec<String> = theirs.collect();
    for secret in authorities.values() {
        if let Err(why) = Signing::of(secret) {
            let name = secret.name_any();
            found.push(format!("Secret {name} cannot be used: {why}. Delete it: another authority takes over step by step"));
        }
    }
    found
}

/// Which members have followed the step that a replacement of an authority is in. Asks nobody while there is none.
pub async fn followed(snapshot: &Snapshot, now: Timestamp) -> BTreeMap<Side, Vec<String>> {
    let mut followed = BTreeMap::new();
    let Some(tls) = &snapshot.cluster.spec.tls else {
        return followed;
    };
    for (side, secret) in &snapshot.papers.held.authorities {
        let Ok(signing) = Signing::of(secret) else {
            continue;
        };
        if signing.trust() != Trust::One {
            let signing = &signing;
            let live = snapshot.pods.iter().filter(|pod| pods::phase(pod) == Phase::Live);
            let asked = live.map(|pod| async move {
                let name = pod.name_any();
                let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref())?;
                match follows(snapshot, tls, *side, signing, &name, ip, now).await {
                    Ok(()) => Some(name),
                    Err(why) => {
                        tracing::debug!(member = name, side = side.as_str(), why, "a member has not followed its authority yet");
                        None
                    }
                }
            });
            followed.insert(*side, join_all(asked).await.into_iter().flatten().collect());
        }
    }
    followed
}

/// Before the next authority signs, whether a member trusts it; after that, whether it shows what that signed.
async fn follows(
    snapshot: &Snapshot,
    tls: &Tls,
    side: Side,
    signing: &Signing,
    member: &str,
    ip: &str,
    now: Timestamp,
) -> Result<(), String> {
    let (port, kind) = match side {
        Side::Client => (CLIENT_PORT, Leaf::Client),
        Side::Peer => (PEER_PORT, Leaf::Peer),
    };
    let signer = signing.signer.as_ref().map(|(signer, _)| signer);
    let by: Option<&Pair> = signing.next.as_ref().or(signer);
    let by = by.ok_or("nobody signs")?;
    let own = leaf(by, &Wanted::of(kind, &snapshot.names, tls), now)?;
    let door = Door { ip, port, host: &snapshot.names.host(member) };
    let shown = shake(&door, &signing.trusted, &own).await?;
    let new = first(by.certificate.as_bytes())?.subject;
    match signing.trust() {
        Trust::Former if shown.issuer != new => Err(format!("it shows what {} signed", shown.issuer)),
        _ => Ok(()),
    }
}
