//! What the operator counts about itself, for `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::plan::Action;

pub struct Metrics {
    registry: Registry,
    looks: IntCounterVec,
    seconds: Histogram,
    actions: IntCounterVec,
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
        let clusters = IntGauge::new("keelson_operator_clusters", "EtcdClusters that are looked after")?;
        let leading = IntGauge::new("keelson_operator_leading", "1 while this replica leads")?;
        registry.register(Box::new(looks.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(actions.clone()))?;
        registry.register(Box::new(clusters.clone()))?;
        registry.register(Box::new(leading.clone()))?;
        Ok(Arc::new(Self { registry, looks, seconds, actions, clusters, leading }))
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
