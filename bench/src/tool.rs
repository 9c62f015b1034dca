//! etcd's own `benchmark` tool: runs it and reads its report. Its loads are what etcd's published
//! figures were made with, so nobody can say that the load was made to suit us.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// One of the summaries that the tool prints.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    pub ops: u64,
    pub seconds: f64,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

/// No load takes longer; a server that stalls must not stall the harness.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Runs the tool with `load` (the subcommand and its flags).
pub async fn run(tool: &Path, endpoints: &[&str], clients: u32, conns: u32, load: &[String]) -> Result<Vec<Summary>> {
    let mut command = Command::new(tool);
    command
        .args(["--endpoints", &endpoints.join(",").replace("http://", ""), "--precise"])
        .args(["--clients", &clients.to_string(), "--conns", &conns.to_string()])
        .args(load)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let done = tokio::time::timeout(LIMIT, command.output()).await;
    let done = done.context("the load took too long")?;
    let done = done.with_context(|| format!("cannot run {}", tool.display()))?;
    let text = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() {
        bail!("benchmark {} failed ({}): {text}", load.join(" "), done.status);
    }
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Summary>> {
    // Operations that failed are missing from the figures, which would make them too good.
    if let Some((_, errors)) = text.split_once("Error distribution:") {
        bail!("operations failed: {}", errors.trim());
    }
    let sections: Vec<Summary> = text.split("Summary:\n").skip(1).map(summary).collect();
    if sections.is_empty() {
        bail!("benchmark printed no summary: {text}");
    }
    Ok(sections)
}

fn summary(section: &str) -> Summary {
    let number = |mark: &str| {
        let (_, rest) = section.split_once(mark)?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    let seconds = number("Total:").unwrap_or(0.0);
    let ops = (number("Requests/sec:").unwrap_or(0.0) * seconds).round() as u64;
    let ms = |mark| number(mark).map(|seconds: f64| seconds * 1e3);
    Summary { ops, seconds, p50: ms("\n  50% in "), p99: ms("\n  99% in ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\nSummary:\n  Total:\t2.5 secs.\n  Slowest:\t0.01 secs.\n  \
        Requests/sec:\t4000\n\nResponse time histogram:\n  0.1 [1]\t|\n\n\
        Latency distribution:\n  10% in 1e-05 secs.\n  50% in 0.0002 secs.\n  99% in 0.003 secs.\n  \
        99.9% in 0.01 secs.\n";

    #[test]
    fn reads_the_tools_report() {
        let all = parse(&format!("x\n{REPORT}{REPORT}")).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].ops, all[1].seconds), (10_000, 2.5));
        assert!((all[1].p50.unwrap() - 0.2).abs() < 1e-9);
        assert!((all[1].p99.unwrap() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn failed_operations_fail_the_row() {
        assert!(parse(&format!("{REPORT}\nError distribution:\n  [3]\tbroken\n")).is_err());
        assert!(parse("nothing").is_err());
    }
}
