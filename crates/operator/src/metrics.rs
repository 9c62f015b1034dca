//! What the operator counts about itself, for `/metrics`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::plan::{Action, Certificate};
use crate::render::Names;

pub struct Metrics {
    registry: Registry,
    looks: IntCounterVec,
    seconds: Histogram,
    actions: IntCounterVec,
    expiry: IntGaugeVec,
    /// The Secrets that `expiry` has of each cluster.
    certified: Mutex<HashMap<(String, String), Vec<String>>>,
    /// EtcdClusters that are looked after.
    pub clusters: IntGauge,
    /// 1 while this replica leads.
    pub leading: IntGauge,
}

impl Metrics {
    pub fn new() -> Result<Arc<Self>, prometheus::Error> {
        let registry = Registry::new();
        let looks = IntCounterVec::new(Opts::new("keelson_operator_looks_total", "Looks at a cluster, by result"), &["result"])?;
        let seconds =
            Histogram::with_opts(HistogramOpts::new("keelson_operator_look_seconds", "How long looks at a cluster take"))?;
        let actions = IntCounterVec::new(Opts::new("keelson_operator_actions_total", "Actions, by kind"), &["action"])?;
        let about = "Until when a certificate of a cluster is good, in seconds since 1970, by the Secret it is in";
        let about = Opts::new("keelson_operator_certificate_expiry_timestamp_seconds", about);
        let expiry = IntGaugeVec::new(about, &["namespace", "cluster", "secret"])?;
        let clusters = IntGauge::new("keelson_operator_clusters", "EtcdClusters that are looked after")?;
        let leading = IntGauge::new("keelson_operator_leading", "1 while this replica leads")?;
        registry.register(Box::new(looks.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(actions.clone()))?;
        registry.register(Box::new(expiry.clone()))?;
        registry.register(Box::new(clusters.clone()))?;
        registry.register(Box::new(leading.clone()))?;
        Ok(Arc::new(Self { registry, looks, seconds, actions, expiry, certified: Mutex::default(), clusters, leading }))
    }

    pub fn reconciled(&self, took: Duration, well: bool) {
        self.looks.with_label_values(&[if well { "ok" } else { "error" }]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub fn acted(&self, action: &Action) {
        let debug = format!("{action:?}");
        let kind = debug.split([' ', '(']).next().unwrap_or_default();
        self.actions.with_label_values(&[kind]).inc();
    }

    /// Tells until when the certificates of a cluster are good; those that it has no more are told of no more.
    pub fn certified(&self, names: &Names, certificates: &[Certificate]) {
        let Names { cluster, namespace } = names;
        if certificates.is_empty() {
            return self.gone(namespace, cluster);
        }
        let mut certified = self.certified.lock();
        let known = certified.entry((namespace.clone(), cluster.clone())).or_default();
        for secret in known.iter().filter(|secret| certificates.iter().all(|certificate| certificate.secret != **secret)) {
            // An error says that it is not there, which is what is wanted.
            let _ = self.expiry.remove_label_values(&[namespace, cluster, secret]);
        }
        *known = certificates.iter().map(|certificate| certificate.secret.clone()).collect();
        for certificate in certificates {
            self.expiry.with_label_values(&[namespace, cluster, &certificate.secret]).set(certificate.until.as_second());
        }
    }

    /// A cluster is looked after no more, or has no certificates.
    pub fn gone(&self, namespace: &str, cluster: &str) {
        let known = self.certified.lock().remove(&(namespace.to_string(), cluster.to_string()));
        for secret in known.into_iter().flatten() {
            let _ = self.expiry.remove_label_values(&[namespace, cluster, secret.as_str()]);
        }
    }

    /// In Prometheus' text format.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics could not be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_told_of_for_as_long_as_there_are_any() {
        let metrics = Metrics::new().unwrap();
        let names = Names { cluster: "db".into(), namespace: "shop".into() };
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        let of = |secret: &str| Certificate { secret: secret.into(), until: at(1234), overdue: at(1000) };
        let text = || String::from_utf8(metrics.text()).unwrap();
        metrics.certified(&names, &[of("db-server-tls"), of("db-client-tls")]);
        let line = r#"{cluster="db",namespace="shop",secret="db-server-tls"} 1234"#;
        assert!(text().contains(line), "{}", text());
        metrics.certified(&names, &[of("db-server-tls")]);
        assert!(text().contains(line) && !text().contains("db-client-tls"), "{}", text());
        metrics.gone("shop", "db");
        assert!(!text().contains("db-server-tls"), "{}", text());
    }

    #[test]
    fn actions_are_counted_by_kind_without_names() {
        let metrics = Metrics::new().unwrap();
        metrics.acted(&Action::DeletePod { name: "secret-name".into() });
        metrics.acted(&Action::SetFinalizer(true));
        let text = String::from_utf8(metrics.text()).unwrap();
        assert!(text.contains("keelson_operator_actions_total{action=\"DeletePod\"} 1"), "{text}");
        assert!(text.contains("keelson_operator_actions_total{action=\"SetFinalizer\"} 1"), "{text}");
        assert!(!text.contains("secret-name"));
    }
}
