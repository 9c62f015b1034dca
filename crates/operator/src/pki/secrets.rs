//! The Secrets of a cluster's own authorities and of what they sign: what is in them, and what comes into them next.
//!
//! *Invariant*: each step is one write of one Secret, made from what was read, so that a crash leaves a whole step. A key
//! that signs is in no other Secret, and is gone with the step after which nobody needs it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::issue::{self, Pair, authority_ends};
use super::read::{Shown, chain, first};
use super::wanted::Wanted;
use super::{CERTIFICATE, KEY, NEXT_CERTIFICATE, NEXT_KEY, TRUSTED};
use crate::api::{EtcdCluster, Leaf, Side, Tls, annotation};
use crate::observe::belongs;
use crate::plan::{Trust, Turn};
use crate::render::{self, Names};

type Files = BTreeMap<String, ByteString>;

/// The Secrets that were read.
#[derive(Default)]
pub struct Held {
    pub leaves: BTreeMap<Leaf, Secret>,
    pub authorities: BTreeMap<Side, Secret>,
}

/// What is in the Secret of an authority.
pub struct Signing {
    /// In PEM form, as it goes beside every certificate.
    pub trusted: Vec<u8>,
    /// `None` where its Secret was deleted: then nothing is signed until the next one is trusted everywhere.
    pub signer: Option<(Pair, Shown)>,
    pub next: Option<Pair>,
    /// The value of the annotation that asked for the last replacement.
    pub rotated_for: String,
    count: usize,
}

impl Signing {
    pub fn of(secret: &Secret) -> Result<Self, String> {
        let files = secret.data.clone().unwrap_or_default();
        let trusted = files.get(TRUSTED).map(|file| file.0.clone()).unwrap_or_default();
        let count = chain(&trusted)?.len();
        let signer = match pair(&files, CERTIFICATE, KEY) {
            Some(pair) => Some(first(pair.certificate.as_bytes()).map(|shown| (pair, shown))?),
            None => None,
        };
        let next = pair(&files, NEXT_CERTIFICATE, NEXT_KEY);
        if count == 0 || (signer.is_none() && next.is_none()) {
            return Err("it has no authority that could sign".into());
        }
        let rotated_for = secret.annotations().get(annotation::ROTATED).cloned().unwrap_or_default();
        Ok(Self { trusted, signer, next, rotated_for, count })
    }

    pub fn trust(&self) -> Trust {
        match (&self.next, self.count) {
            (Some(_), _) => Trust::Next,
            (None, 1) => Trust::One,
            (None, _) => Trust::Former,
        }
    }

    /// Why another authority is needed, if `asked` or time says so.
    pub fn outdated(&self, asked: Option<&str>, now: Timestamp) -> Option<String> {
        if let Some(asked) = asked.filter(|asked| *asked != self.rotated_for) {
            return Some(format!("as annotation {}={asked} asks", annotation::ROTATE));
        }
        let (_, shown) = self.signer.as_ref()?;
        authority_ends(shown.until, now).then(|| format!("which ends on {}", shown.until))
    }

    /// Whether a certificate is as it should be.
    pub fn vouches(&self, secret: &Secret, wanted: &Wanted, now: Timestamp) -> bool {
        let files = secret.data.as_ref();
        files.is_some_and(|files| files.get(TRUSTED).is_some_and(|file| file.0 == self.trusted))
            && self.holds(secret, wanted, now)
    }

    /// Whether a certificate can stay, apart from the authorities beside it.
    fn holds(&self, secret: &Secret, wanted: &Wanted, now: Timestamp) -> bool {
        let Some(pair) = secret.data.as_ref().and_then(|files| pair(files, CERTIFICATE, KEY)) else {
            return false;
        };
        let Ok(shown) = first(pair.certificate.as_bytes()) else {
            return false;
        };
        // While nobody signs, one is kept for as long as it can be read.
        let Some((_, signer)) = &self.signer else {
            return true;
        };
        let as_wanted = secret.annotations().get(annotation::APPLIED) == Some(&wanted.digest());
        as_wanted && shown.issuer == signer.subject && now < renewal(&shown, wanted)
    }
}

/// Never in the first half of its life: one that ends early, with its authority, would be renewed over and over.
fn renewal(shown: &Shown, wanted: &Wanted) -> Timestamp {
    let half = shown.from + shown.until.duration_since(shown.from) / 2;
    half.max(shown.until - wanted.rotation.renew_before())
}

/// When a Secret was written, if it tells.
pub fn since(secret: &Secret) -> Option<Timestamp> {
    secret.annotations().get(annotation::SINCE)?.parse().ok()
}

/// What Secrets are made from.
pub struct Desk<'a> {
    pub cluster: &'a EtcdCluster,
    pub names: &'a Names,
    pub held: &'a Held,
    pub now: Timestamp,
}

impl Desk<'_> {
    /// The Secret of a certificate, signed anew unless the one that is there can stay.
    pub fn issued(&self, tls: &Tls, leaf: Leaf) -> Result<Secret, String> {
        let signing = self.signing(leaf.side())?;
        let wanted = Wanted::of(leaf, self.names, tls);
        let before = self.held.leaves.get(&leaf);
        let kept = before.filter(|secret| signing.holds(secret, &wanted, self.now));
        let kept = kept.and_then(|secret| pair(secret.data.as_ref()?, CERTIFICATE, KEY));
        let pair = match kept {
            Some(kept) => kept,
            None => {
                // A certificate that is missing keeps pods from starting, so that the next authority signs it if there is no other.
                let signer = signing.signer.as_ref().map(|(signer, _)| signer).or(signing.next.as_ref());
                issue::leaf(signer.ok_or("there is no authority")?, &wanted, self.now)?
            }
        };
        let files = [(TRUSTED, signing.trusted), (CERTIFICATE, pair.certificate.into()), (KEY, pair.key.into())];
        let digest = match before.filter(|_| signing.signer.is_none()) {
            // It may not be what is wanted by now.
            Some(before) => before.annotations().get(annotation::APPLIED).cloned().unwrap_or_default(),
            None => wanted.digest(),
        };
        Ok(render::certificate(self.cluster, self.names, leaf, contents(files), &digest, self.now))
    }

    /// The Secret of an authority after that step.
    pub fn turned(&self, side: Side, turn: Turn) -> Result<Secret, String> {
        let asked = self.cluster.annotations().get(annotation::ROTATE).cloned();
        let (files, rotated_for) = match turn {
            Turn::Found => (self.found(side)?, asked.unwrap_or_default()),
            Turn::Trust => {
                let signing = self.signing(side)?;
                let next = self.another(side)?;
                let trusted = joined([signing.trusted.as_slice(), next.certificate.as_bytes()]);
                let mut files = contents([(TRUSTED, trusted)]);
                files.extend(signing.signer.map(|(signer, _)| signer.files(CERTIFICATE, KEY)).unwrap_or_default());
                files.extend(next.files(NEXT_CERTIFICATE, NEXT_KEY));
                (files, asked.unwrap_or(signing.rotated_for))
            }
            Turn::Sign => {
                let signing = self.signing(side)?;
                let mut files = contents([(TRUSTED, signing.trusted)]);
                files.extend(signing.next.ok_or("there is no next authority")?.files(CERTIFICATE, KEY));
                (files, signing.rotated_for)
            }
            Turn::Drop => {
                let signing = self.signing(side)?;
                let (signer, _) = signing.signer.ok_or("there is no authority")?;
                let mut files = contents([(TRUSTED, signer.certificate.clone().into())]);
                files.extend(signer.files(CERTIFICATE, KEY));
                (files, signing.rotated_for)
            }
        };
        Ok(render::authority(self.cluster, self.names, side, files, &rotated_for, self.now))
    }

    /// A first authority; or one that those who trust another learn to trust before it signs, where certificates are left.
    fn found(&self, side: Side) -> Result<Files, String> {
        let new = self.another(side)?;
        let mut left: Vec<&[u8]> = Vec::new();
        let leaves = side.leaves().iter().filter_map(|leaf| self.held.leaves.get(leaf));
        for secret in leaves.filter(|secret| belongs(self.cluster, *secret)) {
            let trusted = secret.data.as_ref().and_then(|files| files.get(TRUSTED)).map(|file| file.0.as_slice());
            left.extend(trusted.filter(|trusted| chain(trusted).is_ok_and(|chain| !chain.is_empty()) && !left.contains(trusted)));
        }
        if left.is_empty() {
            let mut files = contents([(TRUSTED, new.certificate.clone().into())]);
            files.extend(new.files(CERTIFICATE, KEY));
            return Ok(files);
        }
        left.push(new.certificate.as_bytes());
        let mut files = contents([(TRUSTED, joined(left))]);
        files.extend(new.files(NEXT_CERTIFICATE, NEXT_KEY));
        Ok(files)
    }

    fn another(&self, side: Side) -> Result<Pair, String> {
        issue::authority(&render::random_name(&self.names.authority(side)), self.now)
    }

    fn signing(&self, side: Side) -> Result<Signing, String> {
        let name = self.names.authority(side);
        let secret = self.held.authorities.get(&side).ok_or_else(|| format!("Secret {name} is gone"))?;
        Signing::of(secret).map_err(|why| format!("Secret {name} cannot be used: {why}"))
    }
}

impl Pair {
    fn files(self, certificate: &str, key: &str) -> Files {
        contents([(certificate, self.certificate.into()), (key, self.key.into())])
    }
}

fn pair(files: &Files, certificate: &str, key: &str) -> Option<Pair> {
    let text = |name: &str| String::from_utf8(files.get(name)?.0.clone()).ok();
    Some(Pair { certificate: text(certificate)?, key: text(key)? })
}

fn contents<const N: usize>(files: [(&str, Vec<u8>); N]) -> Files {
    files.map(|(name, contents)| (name.to_string(), ByteString(contents))).into()
}

fn joined<'p>(files: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    let mut all = Vec::new();
    for file in files {
        all.extend_from_slice(file);
        if !file.ends_with(b"\n") {
            all.push(b'\n');
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;

    struct Shop {
        cluster: EtcdCluster,
        names: Names,
        held: Held,
        now: Timestamp,
    }

    impl Shop {
        fn new() -> Self {
            let cluster = serde_json::from_value(json!({
                "metadata": { "name": "db", "namespace": "shop", "uid": "u" },
                "spec": { "tls": { "client": { "auto": {} }, "peer": { "auto": {} } } },
            }));
            let names = Names { cluster: "db".into(), namespace: "shop".into() };
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            Self { cluster: cluster.unwrap(), names, held: Held::default(), now }
        }

        fn tls(&self) -> Tls {
            self.cluster.spec.tls.clone().unwrap()
        }

        fn turn(&mut self, turn: Turn) {
            let desk = Desk { cluster: &self.cluster, names: &self.names, held: &self.held, now: self.now };
            let secret = desk.turned(Side::Client, turn).unwrap();
            self.held.authorities.insert(Side::Client, secret);
        }

        fn issue(&mut self, leaf: Leaf) {
            let desk = Desk { cluster: &self.cluster, names: &self.names, held: &self.held, now: self.now };
            let secret = desk.issued(&self.tls(), leaf).unwrap();
            self.held.leaves.insert(leaf, secret);
        }

        fn signing(&self) -> Signing {
            Signing::of(&self.held.authorities[&Side::Client]).unwrap()
        }

        fn vouches(&self, leaf: Leaf) -> bool {
            let wanted = Wanted::of(leaf, &self.names, &self.tls());
            self.signing().vouches(&self.held.leaves[&leaf], &wanted, self.now)
        }

        fn file(&self, leaf: Leaf, file: &str) -> Vec<u8> {
            self.held.leaves[&leaf].data.as_ref().unwrap()[file].0.clone()
        }
    }

    #[test]
    fn a_certificate_is_renewed_when_its_time_has_come_and_not_before() {
        let mut shop = Shop::new();
        shop.turn(Turn::Found);
        shop.issue(Leaf::Server);
        assert_eq!((shop.signing().trust(), shop.vouches(Leaf::Server)), (Trust::One, true));
        shop.now += SignedDuration::from_hours(24 * 59);
        assert!(shop.vouches(Leaf::Server));
        shop.now += SignedDuration::from_hours(24 * 2);
        assert!(!shop.vouches(Leaf::Server), "30 days before its end it is due");
        let before = shop.file(Leaf::Server, KEY);
        shop.issue(Leaf::Server);
        assert!(shop.vouches(Leaf::Server) && shop.file(Leaf::Server, KEY) != before);
    }

    #[test]
    fn other_names_and_another_validity_are_other_certificates() {
        let mut shop = Shop::new();
        shop.turn(Turn::Found);
        shop.issue(Leaf::Server);
        let client = shop.cluster.spec.tls.as_mut().unwrap().client.as_mut().unwrap();
        client.hosts = vec!["etcd.example.com".into()];
        assert!(!shop.vouches(Leaf::Server));
        shop.issue(Leaf::Server);
        assert!(shop.vouches(Leaf::Server));
    }

    #[test]
    fn an_authority_is_replaced_in_three_steps_and_certificates_stay_until_the_new_one_signs() {
        let mut shop = Shop::new();
        shop.turn(Turn::Found);
        shop.issue(Leaf::Server);
        let (shown, old) = (shop.file(Leaf::Server, CERTIFICATE), shop.signing().trusted);
        assert_eq!(shop.signing().outdated(None, shop.now), None);
        assert!(shop.signing().outdated(Some("today"), shop.now).unwrap().contains("today"));

        shop.cluster.annotations_mut().insert(annotation::ROTATE.into(), "today".into());
        shop.turn(Turn::Trust);
        assert_eq!((shop.signing().trust(), shop.signing().outdated(Some("today"), shop.now)), (Trust::Next, None));
        assert!(!shop.vouches(Leaf::Server));
        shop.issue(Leaf::Server);
        assert!(shop.vouches(Leaf::Server));
        assert_eq!(shop.file(Leaf::Server, CERTIFICATE), shown, "only who is trusted has changed");
        let both = chain(&shop.file(Leaf::Server, TRUSTED)).unwrap().len();
        assert_eq!(both, 2);

        shop.turn(Turn::Sign);
        assert_eq!(shop.signing().trust(), Trust::Former);
        shop.issue(Leaf::Server);
        assert_ne!(shop.file(Leaf::Server, CERTIFICATE), shown);
        assert_eq!(chain(&shop.file(Leaf::Server, TRUSTED)).unwrap().len(), 2);

        shop.turn(Turn::Drop);
        shop.issue(Leaf::Server);
        assert!(shop.signing().trust() == Trust::One && shop.vouches(Leaf::Server));
        assert_eq!(chain(&shop.file(Leaf::Server, TRUSTED)).unwrap().len(), 1);
        assert_ne!(shop.signing().trusted, old);
    }

    #[test]
    fn an_authority_whose_secret_was_deleted_is_followed_by_one_that_is_trusted_before_it_signs() {
        let mut shop = Shop::new();
        shop.turn(Turn::Found);
        shop.issue(Leaf::Server);
        shop.issue(Leaf::Client);
        let shown = shop.file(Leaf::Server, CERTIFICATE);
        shop.held.authorities.clear();
        shop.turn(Turn::Found);
        assert_eq!((shop.signing().trust(), shop.signing().signer.is_none()), (Trust::Next, true));
        shop.issue(Leaf::Server);
        assert!(shop.vouches(Leaf::Server) && shop.file(Leaf::Server, CERTIFICATE) == shown);
        assert_eq!(chain(&shop.file(Leaf::Server, TRUSTED)).unwrap().len(), 2);
        shop.turn(Turn::Sign);
        assert!(!shop.vouches(Leaf::Client), "it is signed anew");
    }

    #[test]
    fn a_secret_that_is_no_authority_is_said_to_be_none() {
        assert!(Signing::of(&Secret::default()).err().unwrap().contains("no authority"));
    }
}
