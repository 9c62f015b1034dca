//! The pod of a member.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, HTTPGetAction, PersistentVolumeClaimVolumeSource, Pod, PodAffinityTerm,
    PodAntiAffinity, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::flags::{CLIENT_CERTIFICATES, DATA_FOLDER, Identity, PEER_CERTIFICATES, flags, state};
use super::names::{CLIENT_PORT, Family, METRICS_PORT, Names, PEER_PORT, Scheme};
use super::{labels, owner};
use crate::api::{AntiAffinity, EtcdMember, Leaf, PodSettings, Target, Template, annotation, label};
use crate::plan::Start;

/// How this operator turns templates into pods. Pods of another rendering are not outdated: an upgrade of the operator
/// restarts nobody.
const RENDERING: &str = "1";
const USER: i64 = 65532;

/// A pod, and what its member was told of the others.
pub struct Made {
    pub pod: Pod,
    pub initial_cluster: String,
}

pub fn pod(member: &EtcdMember, target: &Target, start: Start, names: &Names, family: Family) -> Made {
    let name = member.metadata.name.clone().unwrap_or_default();
    let template = &target.template;
    let peer = Scheme::of(template.tls.as_ref().is_some_and(|tls| tls.peer.is_some()));
    let told = member.status.as_ref().and_then(|status| status.initial_cluster.clone());
    let initial_cluster = told.unwrap_or_else(|| format!("{name}={}", names.peer_url(&name, peer)));
    let token = &member.spec.cluster_token;
    let identity = Identity { member: &name, token, start, initial_cluster: &initial_cluster, family };
    let args = flags(names, &identity, template);
    let metadata = metadata(member, &name, target, start, &initial_cluster);
    let pod = Pod { metadata, spec: Some(spec(&name, names, template, args)), status: None };
    Made { pod, initial_cluster }
}

fn metadata(member: &EtcdMember, name: &str, target: &Target, start: Start, initial_cluster: &str) -> ObjectMeta {
    let settings = &target.template.pod;
    let mut labels: BTreeMap<_, _> = settings.labels.clone().into_iter().chain(labels(&member.spec.cluster)).collect();
    for (key, value) in [(label::COMPONENT, "member"), (label::MEMBER, name), (label::VERSION, &target.version)] {
        labels.insert(key.into(), value.into());
    }
    let notes = [
        (annotation::TEMPLATE, target.digest.as_str()),
        (annotation::RENDERING, RENDERING),
        (annotation::INITIAL_CLUSTER_STATE, state(start)),
        (annotation::INITIAL_CLUSTER, initial_cluster),
    ];
    let mut annotations = settings.annotations.clone();
    annotations.extend(notes.map(|(key, value)| (key.to_string(), value.to_string())));
    ObjectMeta {
        name: Some(name.into()),
        namespace: member.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![owner(member)]),
        ..ObjectMeta::default()
    }
}

fn spec(name: &str, names: &Names, template: &Template, args: Vec<String>) -> PodSpec {
    let settings = &template.pod;
    let (mut volumes, mut mounts) = (vec![data_volume(name)], vec![mount("data", DATA_FOLDER, false)]);
    let tls = template.tls.as_ref();
    let secrets = [
        ("client-certificates", CLIENT_CERTIFICATES, tls.and_then(|tls| tls.secret(Leaf::Server, &names.cluster))),
        ("peer-certificates", PEER_CERTIFICATES, tls.and_then(|tls| tls.secret(Leaf::Peer, &names.cluster))),
    ];
    for (volume, folder, secret) in secrets {
        if let Some(secret) = secret {
            let source = SecretVolumeSource { secret_name: Some(secret), default_mode: Some(0o440), ..Default::default() };
            volumes.push(Volume { name: volume.into(), secret: Some(source), ..Volume::default() });
            mounts.push(mount(volume, folder, true));
        }
    }
    PodSpec {
        containers: vec![container(template, args, mounts)],
        volumes: Some(volumes),
        hostname: Some(name.into()),
        subdomain: Some(names.peers()),
        restart_policy: Some("Always".into()),
        termination_grace_period_seconds: Some(30),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: (!template.pull_secrets.is_empty()).then(|| template.pull_secrets.clone()),
        security_context: Some(settings.security_context.clone().unwrap_or_else(unprivileged)),
        affinity: affinity(settings, &names.cluster),
        topology_spread_constraints: Some(settings.topology_spread.clone().unwrap_or_else(|| over_zones(&names.cluster))),
        node_selector: (!settings.node_selector.is_empty()).then(|| settings.node_selector.clone()),
        tolerations: (!settings.tolerations.is_empty()).then(|| settings.tolerations.clone()),
        priority_class_name: settings.priority_class_name.clone(),
        ..PodSpec::default()
    }
}

fn container(template: &Template, args: Vec<String>, mounts: Vec<VolumeMount>) -> Container {
    let port = |name: &str, port| ContainerPort { name: Some(name.into()), container_port: port, ..ContainerPort::default() };
    Container {
        name: "keelson".into(),
        image: Some(template.image.clone()),
        image_pull_policy: template.pull_policy.clone(),
        command: Some(vec!["keelson".into()]),
        args: Some(args),
        ports: Some(vec![port("client", CLIENT_PORT), port("peer", PEER_PORT), port("metrics", METRICS_PORT)]),
        volume_mounts: Some(mounts),
        resources: Some(template.pod.resources.clone().unwrap_or_else(modest)),
        // Ten minutes: a member that joins a large store first receives all of it.
        startup_probe: Some(probe("/livez", 5, 120)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 5, 3)),
        // What a process that failed said last is told along with its exit code.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(METRICS_PORT),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn data_volume(claim: &str) -> Volume {
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim.into(), read_only: None };
    Volume { name: "data".into(), persistent_volume_claim: Some(source), ..Volume::default() }
}

fn mount(volume: &str, folder: &str, read_only: bool) -> VolumeMount {
    VolumeMount { name: volume.into(), mount_path: folder.into(), read_only: read_only.then_some(true), ..VolumeMount::default() }
}

/// The `restricted` Pod Security Standard.
fn unprivileged() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// Enough for a small store. No limit on CPU: a throttled leader loses its leadership.
fn modest() -> ResourceRequirements {
    let requests = [("cpu", "100m"), ("memory", "512Mi")];
    ResourceRequirements {
        requests: Some(requests.map(|(name, amount)| (name.to_string(), Quantity(amount.into()))).into()),
        ..ResourceRequirements::default()
    }
}

fn siblings(cluster: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(label::CLUSTER.to_string(), cluster.to_string())])),
        ..LabelSelector::default()
    }
}

fn affinity(settings: &PodSettings, cluster: &str) -> Option<Affinity> {
    let mut affinity = settings.affinity.clone().unwrap_or_default();
    let term = PodAffinityTerm {
        label_selector: Some(siblings(cluster)),
        topology_key: "kubernetes.io/hostname".into(),
        ..PodAffinityTerm::default()
    };
    let apart: &mut PodAntiAffinity = affinity.pod_anti_affinity.get_or_insert_default();
    match settings.anti_affinity {
        AntiAffinity::Required => {
            apart.required_during_scheduling_ignored_during_execution.get_or_insert_default().push(term);
        }
        AntiAffinity::Preferred => {
            let term = WeightedPodAffinityTerm { weight: 100, pod_affinity_term: term };
            apart.preferred_during_scheduling_ignored_during_execution.get_or_insert_default().push(term);
        }
        AntiAffinity::None => return settings.affinity.clone(),
    }
    Some(affinity)
}

fn over_zones(cluster: &str) -> Vec<TopologySpreadConstraint> {
    vec![TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "topology.kubernetes.io/zone".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(siblings(cluster)),
        ..TopologySpreadConstraint::default()
    }]
}
