//! One line of the CSV: a row of one run of one server, with the machine it ran on. Written as it
//! comes, so that a harness that is stopped leaves what it had.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::facts::Facts;
use crate::measure::Measured;

/// Names of the columns, in order.
const HEADER: &str = "timestamp,form,cpu,cores,mem_gib,kernel,filesystem,others_cpu,server,version,row,run,\
ops,seconds,throughput,p50_ms,p99_ms,cpu_us_per_op,rss_anon,rss_total,peak,disk_bytes,syncs,settled,note";

/// A line. Figures are absent where a row has no such thing, or where it failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub timestamp: String,
    pub form: String,
    pub facts: Facts,
    /// Share of the machine that others used meanwhile.
    pub others_cpu: Option<f64>,
    pub server: String,
    pub version: String,
    pub row: String,
    pub run: u32,
    pub ops: Option<f64>,
    pub seconds: Option<f64>,
    pub throughput: Option<f64>,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub cpu_per_op: Option<f64>,
    pub anon: Option<f64>,
    pub rss: Option<f64>,
    pub peak: Option<f64>,
    pub disk: Option<f64>,
    pub syncs: Option<f64>,
    pub settled: bool,
    pub note: String,
}

impl Record {
    /// Takes over what was measured.
    pub fn filled(mut self, m: &Measured) -> Self {
        let ops = m.load.ops as f64;
        self.row = m.row.clone();
        self.ops = Some(ops);
        self.seconds = Some(m.load.seconds);
        self.throughput = Some(ops / m.load.seconds).filter(|v| v.is_finite());
        self.p50 = m.load.p50;
        self.p99 = m.load.p99;
        self.cpu_per_op = Some(m.cpu_seconds * 1e6 / ops).filter(|v| v.is_finite());
        self.anon = Some(m.memory.anon as f64);
        self.rss = Some(m.memory.rss as f64);
        self.peak = Some(m.memory.peak as f64);
        self.disk = Some(m.disk as f64);
        self.syncs = m.syncs.map(|n| n as f64);
        self.settled = m.settled;
        self.others_cpu = m.others;
        self.note = m.load.note.clone();
        self
    }

    fn line(&self) -> String {
        let text = |s: &str| s.replace([',', '\n', '\r', '"'], ";");
        let figure = |v: Option<f64>, digits: usize| v.map_or(String::new(), |v| format!("{v:.digits$}"));
        let f = &self.facts;
        [
            text(&self.timestamp),
            text(&self.form),
            text(&f.cpu),
            f.cores.to_string(),
            f.mem_gib.to_string(),
            text(&f.kernel),
            text(&f.filesystem),
            figure(self.others_cpu, 3),
            text(&self.server),
            text(&self.version),
            text(&self.row),
            self.run.to_string(),
            figure(self.ops, 0),
            figure(self.seconds, 3),
            figure(self.throughput, 3),
            figure(self.p50, 4),
            figure(self.p99, 4),
            figure(self.cpu_per_op, 2),
            figure(self.anon, 0),
            figure(self.rss, 0),
            figure(self.peak, 0),
            figure(self.disk, 0),
            figure(self.syncs, 0),
            self.settled.to_string(),
            text(&self.note),
        ]
        .join(",")
    }
}

impl FromStr for Record {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let columns: Vec<&str> = HEADER.split(',').collect();
        if fields.len() != columns.len() {
            bail!("{} fields instead of {}: {line}", fields.len(), columns.len());
        }
        let text = |name| fields[columns.iter().position(|c| *c == name).unwrap_or(0)].to_owned();
        let figure = |name| text(name).parse::<f64>().ok();
        Ok(Record {
            timestamp: text("timestamp"),
            form: text("form"),
            facts: Facts {
                cpu: text("cpu"),
                cores: figure("cores").unwrap_or(0.0) as usize,
                mem_gib: figure("mem_gib").unwrap_or(0.0),
                kernel: text("kernel"),
                filesystem: text("filesystem"),
            },
            others_cpu: figure("others_cpu"),
            server: text("server"),
            version: text("version"),
            row: text("row"),
            run: figure("run").unwrap_or(0.0) as u32,
            ops: figure("ops"),
            seconds: figure("seconds"),
            throughput: figure("throughput"),
            p50: figure("p50_ms"),
            p99: figure("p99_ms"),
            cpu_per_op: figure("cpu_us_per_op"),
            anon: figure("rss_anon"),
            rss: figure("rss_total"),
            peak: figure("peak"),
            disk: figure("disk_bytes"),
            syncs: figure("syncs"),
            settled: text("settled") == "true",
            note: text("note"),
        })
    }
}

/// The file that grows line by line.
#[derive(Debug)]
pub struct Csv(File);

impl Csv {
    pub fn create(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(file, "{HEADER}")?;
        Ok(Csv(file))
    }

    pub fn add(&mut self, record: &Record) -> Result<()> {
        Ok(writeln!(self.0, "{}", record.line())?)
    }
}

pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if text.lines().next() != Some(HEADER) {
        bail!("{} has other columns", path.display());
    }
    text.lines().skip(1).map(str::parse).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A line to build others from.
    pub fn sample() -> Record {
        let facts = Facts { cpu: "Some CPU".into(), cores: 2, mem_gib: 7.8, kernel: "6.1".into(), filesystem: "ext4".into() };
        Record {
            timestamp: "2026-01-01T00:00:00Z".into(),
            form: "full".into(),
            facts,
            others_cpu: Some(0.5),
            server: "etcd".into(),
            version: "3.7.3".into(),
            row: "put-1".into(),
            run: 1,
            ops: Some(10.0),
            seconds: Some(2.0),
            throughput: Some(5.0),
            p50: Some(1.5),
            p99: None,
            cpu_per_op: Some(80.25),
            anon: Some(1.0),
            rss: Some(2.0),
            peak: Some(3.0),
            disk: Some(4.0),
            syncs: None,
            settled: true,
            note: "a; b".into(),
        }
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        assert_eq!(sample().line().parse::<Record>().unwrap(), sample());
        assert!("1,2,3".parse::<Record>().is_err());
    }

    #[test]
    fn commas_do_not_shift_columns() {
        let odd = Record { note: "one, two\nthree".into(), ..sample() };
        assert_eq!(odd.line().parse::<Record>().unwrap().note, "one; two;three");
    }
}
