//! Log lines in zap's shape: one JSON object per line with `level`, `ts`, `caller`, `msg`, then the
//! fields. Tools that read etcd's log read this one.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use self::journal::Journal;
use self::rotating::Rotating;
use crate::config::{JOURNAL, Rotation};

mod journal;
mod rotating;

struct Lines {
    json: bool,
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.rest.insert(field.name().replace('_', "-"), format!("{value:?}").into());
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.rest.insert(field.name().replace('_', "-"), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.rest.insert(field.name().replace('_', "-"), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.rest.insert(field.name().replace('_', "-"), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.rest.insert(field.name().replace('_', "-"), value.into());
    }
}

const fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let meta = event.metadata();
        let now = timestamp(std::time::SystemTime::now());
        let file = meta.file().map_or("", |f| f.rsplit_once("src/").map_or(f, |(_, short)| short));
        let caller = format!("{file}:{}", meta.line().unwrap_or(0));
        let level = level_name(*meta.level());
        if !self.json {
            write!(out, "{now}\t{}\t{caller}\t{}", level.to_uppercase(), fields.message)?;
            if !fields.rest.is_empty() {
                write!(out, "\t{}", serde_json::Value::Object(fields.rest))?;
            }
            return writeln!(out);
        }
        let mut line = String::with_capacity(256);
        let text = |s: &str| serde_json::Value::from(s).to_string();
        write!(line, "{{\"level\":\"{level}\",\"ts\":\"{now}\",\"caller\":{},\"msg\":{}", text(&caller), text(&fields.message))?;
        for (key, value) in &fields.rest {
            write!(line, ",{}:{value}", text(key))?;
        }
        writeln!(out, "{line}}}")
    }
}

/// RFC 3339 with microseconds in UTC.
pub fn timestamp(time: std::time::SystemTime) -> String {
    format!("{:.6}", Timestamp::try_from(time).unwrap_or_default())
}

/// A log to be written to. One that cannot be written must not stop the store.
fn open(name: &str, rotation: Option<&Rotation>) -> Result<Box<dyn Write + Send>, String> {
    let cannot_open = |e: io::Error| format!("--log-outputs: cannot open {name}: {e}");
    Ok(match (name, rotation) {
        ("default" | "stderr", _) => Box::new(io::stderr()),
        ("stdout", _) => Box::new(io::stdout()),
        (JOURNAL, _) => {
            let journal = Journal::open().map_err(|e| format!("--log-outputs: can't find journal ({e}); is systemd running?"))?;
            Box::new(journal)
        }
        (path, Some(rotation)) => Box::new(Rotating::open(Path::new(path), rotation.clone()).map_err(cannot_open)?),
        (path, None) => Box::new(OpenOptions::new().create(true).append(true).open(path).map_err(cannot_open)?),
    })
}

/// Gives each line to all outputs.
#[derive(Clone)]
struct Outputs(Vec<NonBlocking>);

impl Write for Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for output in &mut self.0 {
            // It is only queued here, or dropped.
            let _ = output.write_all(line);
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Installs the log; lines are written while the answer lives. Fails when a log file cannot be opened
/// or the level is unknown. Each output has a thread of its own, and lines are dropped when it cannot
/// keep up: a reader of the log that has stopped must stop neither the store nor the other outputs.
pub fn install(outputs: &[String], rotation: Option<&Rotation>, level: &str, json: bool) -> Result<Vec<WorkerGuard>, String> {
    let filter = match level {
        "debug" | "info" | "warn" | "error" => level,
        "dpanic" | "panic" | "fatal" => "error",
        _ => return Err(format!("--log-level: unknown level {level:?}; use debug, info, warn, error, panic or fatal")),
    };
    // openraft warns of things that are ordinary, such as a vote that overtakes a message.
    let filter = EnvFilter::new(format!("{filter},openraft=error,h2=warn,hyper=warn"));
    let opened = outputs.iter().map(|name| Ok(tracing_appender::non_blocking(open(name, rotation)?)));
    let (outputs, guards): (Vec<_>, Vec<_>) = opened.collect::<Result<Vec<_>, String>>()?.into_iter().unzip();
    let outputs = Outputs(outputs);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .event_format(Lines { json })
        .with_writer(move || outputs.clone())
        .try_init()
        .map_err(|e| e.to_string())?;
    Ok(guards)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::timestamp;

    #[test]
    fn timestamps_are_calendar_dates() {
        assert_eq!(timestamp(UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
        let leap_day = UNIX_EPOCH + Duration::new(1_709_210_096, 7_000);
        assert_eq!(timestamp(leap_day), "2024-02-29T12:34:56.000007Z");
    }
}
