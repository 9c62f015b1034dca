//! The apiserver's own count of what it asked of the store.

use anyhow::{Result, bail};

use crate::kubernetes::client::Client;

pub struct Metrics {
    text: String,
}

impl Metrics {
    pub async fn read(client: &Client) -> Result<Self> {
        let answer = client.get("/metrics").await?;
        if answer.status != 200 {
            bail!("/metrics: status {}: {}", answer.status, answer.text());
        }
        Ok(Self { text: String::from_utf8_lossy(&answer.body).into_owned() })
    }

    /// The lines of a metric that have all these labels, as `operation="get"`.
    fn lines<'a>(&'a self, name: &'a str, labels: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter(move |line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        })
    }

    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.lines(name, labels).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The lines that are not zero, for messages.
    pub fn tell(&self, name: &str) -> String {
        let lines: Vec<&str> = self.lines(name, &[]).filter(|line| !line.ends_with(" 0")).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_metric_with_the_labels_is_added_up() {
        let text = "a_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\na_total{x=\"2\"} 9\na_total_b 7\nb 5\n".into();
        let metrics = Metrics { text };
        assert_eq!(metrics.sum("a_total", &["x=\"1\""]), 7.0);
        assert_eq!(metrics.sum("b", &[]), 5.0);
        assert_eq!(metrics.sum("c", &[]), 0.0);
    }
}
