//! The page: which goals were reached, all figures, and plots. Only what lies between the markers
//! of the page is written, so that the prose around it stays.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::goals::{Base, GOALS, Metric, over_runs};
use crate::record::Record;
use crate::stats::spread;
use crate::svg::{self, Bar};

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// Share of the machine that others may use before figures say more about them than about the
/// servers. The kernel's own threads are in it and take some percent.
const NOISE: f64 = 0.15;

/// A plot per metric.
const PLOTS: &[(&str, Metric)] = &[
    ("throughput", Metric::Throughput),
    ("cpu", Metric::CpuPerOp),
    ("p99", Metric::P99),
    ("rss", Metric::Rss),
    ("disk", Metric::Disk),
    ("syncs", Metric::Syncs),
];

/// Names in the order in which they first came.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    names.for_each(|n| {
        if !seen.contains(&n) {
            seen.push(n)
        }
    });
    seen
}

/// Three significant digits or so, in the metric's unit.
pub fn show(metric: Metric, value: f64) -> String {
    let short = |v: f64| match v.abs() {
        a if a >= 100.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        a if a >= 0.1 || a == 0.0 => format!("{v:.2}"),
        _ => format!("{v:.4}"),
    };
    match metric {
        Metric::Throughput => format!("{}/s", short(value)),
        Metric::P50 | Metric::P99 => format!("{} ms", short(value)),
        Metric::CpuPerOp if value >= 1e4 => format!("{} ms", short(value / 1e3)),
        Metric::CpuPerOp => format!("{} µs", short(value)),
        Metric::Syncs => short(value),
        _ => format!("{} MiB", short(value / (1 << 20) as f64)),
    }
}

/// The goals as a table.
fn goals(records: &[Record]) -> String {
    let mut out = String::from("| Row | Measure | Goal | Base | Keelson | Ratio | |\n|---|---|---|---|---|---|---|\n");
    for goal in GOALS {
        let o = goal.outcome(records);
        let cell = |v: Option<f64>| v.map_or("–".into(), |v| show(goal.metric, v));
        let sign = if goal.metric.more_is_better() { "≥" } else { "≤" };
        let base = match goal.base {
            Base::Etcd => format!("etcd: {}", cell(o.base)),
            Base::Own(row) => format!("{row}: {}", cell(o.base)),
        };
        let verdict = match o.reached {
            Some(true) => "pass",
            Some(false) => "**miss**",
            None => "not measured",
        };
        let ratio = o.ratio.map_or("–".into(), |r| format!("{r:.2}×"));
        let _ = writeln!(
            out,
            "| {} | {} | {sign} {}× | {base} | {} | {ratio} | {verdict} |",
            goal.row,
            goal.metric.name(),
            goal.factor,
            cell(o.keelson)
        );
    }
    out
}

/// All rows, median (smallest – largest) of the runs.
fn figures(records: &[Record]) -> String {
    let mut out = String::from(
        "| Row | Server | Runs | Throughput | p50 | p99 | CPU/op | Anon | RSS | Peak | Disk | Syncs/op |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in distinct(records.iter().map(|r| r.row.as_str())) {
        for server in distinct(records.iter().filter(|r| r.row == row).map(|r| r.server.as_str())) {
            let runs = records.iter().filter(|r| r.row == row && r.server == server && r.ops.is_some()).count();
            let _ = write!(out, "| {row} | {server} | {runs} |");
            for (metric, range) in [
                (Metric::Throughput, true),
                (Metric::P50, false),
                (Metric::P99, true),
                (Metric::CpuPerOp, true),
                (Metric::Anon, false),
                (Metric::Rss, false),
                (Metric::Peak, false),
                (Metric::Disk, false),
                (Metric::Syncs, false),
            ] {
                let cell = match over_runs(records, server, row, metric) {
                    Some(s) if range && runs > 1 => {
                        format!("{} ({} – {})", show(metric, s.median), show(metric, s.min), show(metric, s.max))
                    }
                    Some(s) => show(metric, s.median),
                    None => "–".into(),
                };
                let _ = write!(out, " {cell} |");
            }
            out.push('\n');
        }
    }
    out
}

/// What was odd: rows that failed, servers that did not come to rest, other remarks.
fn remarks(records: &[Record]) -> String {
    let mut out = String::new();
    for r in records {
        let unsettled = if r.settled || r.ops.is_none() { "" } else { "background work had not settled; " };
        if !r.note.is_empty() || !unsettled.is_empty() {
            let _ = writeln!(out, "- {}, {}, run {}: {unsettled}{}", r.row, r.server, r.run, r.note);
        }
    }
    out
}

fn heading(records: &[Record]) -> Option<String> {
    let first = records.first()?;
    let f = &first.facts;
    let versions = distinct(records.iter().map(|r| r.server.as_str()))
        .into_iter()
        .filter_map(|s| records.iter().find(|r| r.server == s))
        .map(|r| format!("{} {}", r.server, r.version));
    // Other work on the machine makes figures noise, so it is said up front.
    let others = spread(records.iter().filter_map(|r| r.others_cpu));
    let others = others.map_or(String::new(), |s| {
        let noise = if s.median > NOISE { " **That is too much: ratios and verdicts below are noise.**" } else { "" };
        let (median, max) = (s.median * 100.0, s.max * 100.0);
        format!(" Other processes used {median:.0} % of all cores (median over rows; at most {max:.0} %).{noise}")
    });
    let form = if records.iter().all(|r| r.form == "full") {
        ""
    } else {
        " **Short form: small sizes, a check of the harness and no result.**"
    };
    Some(format!(
        "{} on {} ({} cores, {} GiB, Linux {}, {}), {}.{others}{form}",
        versions.collect::<Vec<_>>().join(" and "),
        f.cpu,
        f.cores,
        f.mem_gib,
        f.kernel,
        f.filesystem,
        first.timestamp,
    ))
}

/// Everything that goes between the markers, without plots.
pub fn text(records: &[Record]) -> Result<String> {
    let heading = heading(records).context("no records")?;
    let mut out = format!("{heading}\n\n### Goals\n\n{}\n### Figures\n\n{}", goals(records), figures(records));
    let remarks = remarks(records);
    if !remarks.is_empty() {
        let _ = write!(out, "\n### Remarks\n\n{remarks}");
    }
    Ok(out)
}

/// Bars of all rows that both servers have.
fn bars(records: &[Record], metric: Metric) -> Vec<Bar> {
    let rows = distinct(records.iter().map(|r| r.row.as_str())).into_iter();
    let median = |server, row| over_runs(records, server, row, metric).map(|s| s.median).filter(|v| *v > 0.0);
    let bar = |row| {
        let goal = GOALS.iter().find(|g| g.row == row && g.metric == metric && g.base == Base::Etcd);
        let ratio = median("keelson", row)? / median("etcd", row)?;
        Some(Bar { label: row.to_owned(), ratio, goal: goal.map(|g| g.factor) })
    };
    rows.filter_map(bar).collect()
}

/// Writes plots beside the page and everything else into it.
pub fn publish(records: &[Record], page: &Path) -> Result<()> {
    let mut body = text(records)?;
    let plots = page.parent().context("a page without a folder")?.join("plots");
    let mut images = String::new();
    for (name, metric) in PLOTS {
        let bars = bars(records, *metric);
        if bars.is_empty() {
            continue;
        }
        fs::create_dir_all(&plots)?;
        let title = match metric {
            Metric::Syncs => "syncs per operation".to_owned(),
            _ => metric.name().to_owned(),
        };
        fs::write(plots.join(format!("{name}.svg")), svg::chart(&title, metric.more_is_better(), &bars))?;
        let _ = writeln!(images, "![{title}, keelson over etcd](plots/{name}.svg)\n");
    }
    if !images.is_empty() {
        let _ = write!(body, "\n### Plots\n\n{}", images.trim_end());
        body.push('\n');
    }
    let old = fs::read_to_string(page).unwrap_or_else(|_| format!("{BEGIN}\n{END}\n"));
    fs::write(page, splice(&old, &body)?).with_context(|| format!("cannot write {}", page.display()))
}

fn splice(page: &str, body: &str) -> Result<String> {
    match (page.split_once(BEGIN), page.split_once(END)) {
        (Some((before, _)), Some((_, after))) => Ok(format!("{before}{BEGIN}\n\n{body}\n{END}{after}")),
        _ => bail!("the page lacks the lines {BEGIN} and {END}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    #[test]
    fn prose_around_the_markers_stays() {
        let page = format!("# Title\n{BEGIN}\nold\n{END}\nprose\n");
        let new = splice(&page, "new\n").unwrap();
        assert_eq!(new, format!("# Title\n{BEGIN}\n\nnew\n\n{END}\nprose\n"));
        assert_eq!(splice(&new, "new\n").unwrap(), new);
        assert!(splice("no markers", "x").is_err());
    }

    #[test]
    fn failures_are_shown() {
        let failed = Record { ops: None, throughput: None, note: "failed: gone".into(), ..sample() };
        let text = text(&[failed]).unwrap();
        assert!(text.contains("failed: gone") && text.contains("not measured"));
    }
}
