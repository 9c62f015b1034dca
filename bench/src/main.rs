//! Side-by-side measurements: the same loads on etcd and on keelson, in turn, on one machine.
//! See `bench/README.md` for what the rows are and how to read the figures.

mod args;
mod big;
mod cgroup;
mod client;
mod compaction;
mod count;
mod facts;
mod goals;
mod join;
mod list;
mod measure;
mod member;
mod mix;
mod process;
mod record;
mod report;
mod restart;
mod scenario;
mod server;
mod sizes;
mod standard;
mod stats;
mod svg;
mod syncs;
mod tool;
mod watchers;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::facts::Facts;
use crate::measure::Measured;
use crate::record::{Csv, Record};
use crate::scenario::{ALL, Bench, Scenario};
use crate::server::{Kind, Program};
use crate::sizes::Sizes;
use crate::syncs::Counter;

#[tokio::main]
async fn main() -> ExitCode {
    match command().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keelson-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn command() -> Result<()> {
    let args = args::parse(std::env::args().skip(1))?;
    if args.help {
        print!("{}", args::USAGE);
        return Ok(());
    }
    if args.list {
        ALL.iter().for_each(|s| println!("{}", s.name()));
        return Ok(());
    }
    if !args.report.is_empty() {
        return report_files(&args);
    }
    // Dropping the runs on a signal ends the children and removes the data.
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = Box::pin(run(&args)) => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = term.recv() => bail!("terminated"),
    }
}

fn report_files(args: &Args) -> Result<()> {
    let mut records: Vec<Record> = Vec::new();
    for file in &args.report {
        let newer = record::read(file)?;
        // A row that was measured again counts as it was then, of both servers.
        records.retain(|known| newer.iter().all(|record| record.row != known.row));
        records.extend(newer);
    }
    let page = args.readme.clone().unwrap_or_else(|| args::checkout().join("bench/README.md"));
    report::publish(&records, &page)
}

fn chosen(args: &Args) -> Result<Vec<Scenario>> {
    if args.only.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| {
        let found = ALL.iter().copied().find(|s| s.name() == *name);
        found.with_context(|| format!("no scenario is called '{name}' (see --list)"))
    };
    args.only.iter().map(find).collect()
}

async fn programs(args: &Args) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for kind in &args.servers {
        let path = match kind {
            Kind::Etcd => &args.etcd,
            Kind::Keelson => &args.keelson,
        };
        programs.push(Program::new(*kind, path.clone()).await?);
    }
    if !args.benchmark.exists() {
        bail!("{} is missing: run e2e/peers/build.sh", args.benchmark.display());
    }
    Ok(programs)
}

async fn run(args: &Args) -> Result<()> {
    let scenarios = chosen(args)?;
    let programs = programs(args).await?;
    let facts = facts::gather(&args.dir);
    if matches!(facts.filesystem.as_str(), "tmpfs" | "ramfs") {
        bail!("{} is in memory, where a sync costs nothing: choose a disk with --dir", args.dir.display());
    }
    let bench = Bench {
        sizes: if args.quick { Sizes::quick() } else { Sizes::full() },
        tool: args.benchmark.clone(),
        dir: args.dir.clone(),
        syncs: Counter::probe(&facts.filesystem).await,
    };
    let runs = args.runs.unwrap_or(if args.quick { 1 } else { 3 });
    let form = if args.quick { "quick" } else { "full" };
    let path = args.out.join(format!("{}-{form}.csv", facts::utc(facts::now()).replace(':', "")));
    let (mut csv, mut records) = (Csv::create(&path)?, Vec::new());
    for scenario in scenarios {
        for run in 1..=runs {
            // In turn, so that what else the machine does hits both.
            for program in &programs {
                let blank = blank(form, &facts, program, scenario, run);
                for record in once(&bench, scenario, program, blank).await {
                    csv.add(&record)?;
                    records.push(record);
                }
            }
        }
    }
    println!("\n{}", report::text(&records)?);
    println!("{}", path.display());
    let whole = !args.quick && args.only.is_empty() && programs.len() == 2;
    match &args.readme {
        Some(page) => report::publish(&records, page),
        None if whole => report::publish(&records, &args::checkout().join("bench/README.md")),
        // Half a comparison, or a short one, must not replace a whole one.
        None => Ok(()),
    }
}

fn blank(form: &str, facts: &Facts, program: &Program, scenario: Scenario, run: u32) -> Record {
    Record {
        timestamp: facts::utc(facts::now()),
        form: form.into(),
        facts: facts.clone(),
        others_cpu: None,
        server: program.kind.name().into(),
        version: program.version.clone(),
        row: scenario.name(),
        run,
        ops: None,
        seconds: None,
        throughput: None,
        p50: None,
        p99: None,
        cpu_per_op: None,
        anon: None,
        rss: None,
        peak: None,
        disk: None,
        syncs: None,
        settled: false,
        note: String::new(),
    }
}

/// No scenario takes longer; a server that stalls must not stall the harness.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// One run of one server. A failure is a result, too: it is recorded, and the others go on.
async fn once(bench: &Bench, scenario: Scenario, program: &Program, blank: Record) -> Vec<Record> {
    let name = program.kind.name();
    let start = std::time::Instant::now();
    let mut rows: Vec<Measured> = Vec::new();
    let done = tokio::time::timeout(LIMIT, scenario.run(bench, program, &mut rows)).await;
    let mut records: Vec<Record> = rows.iter().map(|m| blank.clone().filled(m)).collect();
    let failure = match done {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some(format!("not done within {} min", LIMIT.as_secs() / 60)),
    };
    if let Some(failure) = failure {
        // The end of a chain of causes repeats itself; the start says what failed.
        let failure: String = failure.chars().take(300).collect();
        let row = scenario.rows().into_iter().nth(rows.len()).unwrap_or_else(|| scenario.name());
        records.push(Record { row, note: format!("failed: {failure}"), ..blank });
    }
    for r in &records {
        let figure = |v: Option<f64>, unit| v.map_or("-".into(), |v| format!("{v:.2}{unit}"));
        eprintln!(
            "{} {name} run {}: {} p50 {} p99 {} cpu {} {}",
            r.row,
            r.run,
            figure(r.throughput, "/s"),
            figure(r.p50, "ms"),
            figure(r.p99, "ms"),
            figure(r.cpu_per_op, "µs/op"),
            r.note
        );
    }
    eprintln!("    took {:.1} s", start.elapsed().as_secs_f64());
    records
}
