//! Asks porcupine (`e2e/peers/porcupine`) whether there is an order of all operations on each key in which
//! every answer is right.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::events::Events;
use super::record::{ABSENT, Outcome, Record, Request};
use crate::program;

/// One line of the history; nothing for what is not an operation on a single key, or was certainly never done.
fn line(record: &Record, happened: &BTreeSet<&str>) -> Option<Value> {
    let known = match record.outcome {
        Outcome::Refused => return None,
        Outcome::Unknown => false,
        Outcome::Answered(_) => true,
    };
    // Values are written once. One that the store never had was not written and will never be.
    let forgotten = |value: &str| !known && !happened.contains(value);
    let mut line = match &record.request {
        Request::Put { key, value } if !forgotten(value) => json!({"kind": "put", "key": key, "value": value}),
        Request::Swap { key, expect, value } if !forgotten(value) => {
            json!({"kind": "cas", "key": key, "expect": expect, "value": value})
        }
        Request::Delete { key } => json!({"kind": "delete", "key": key}),
        Request::Get { key } if known => json!({"kind": "get", "key": key}),
        _ => return None,
    };
    if let Some(answer) = record.answer() {
        let key = line["key"].as_str().unwrap_or_default().to_owned();
        line["done"] = answer.done.into();
        line["found"] = answer.found.get(&key).map_or(ABSENT, |(value, _)| value.as_str()).into();
    }
    line["client"] = record.client.into();
    line["call"] = u64::try_from(record.call.as_nanos()).unwrap_or(u64::MAX).into();
    line["return"] = u64::try_from(record.end.as_nanos()).unwrap_or(u64::MAX).into();
    line["known"] = known.into();
    Some(line)
}

/// The operations on single keys, one per line. `events` is all that ever happened.
pub fn history(records: &[Record], events: &Events) -> String {
    let happened: BTreeSet<&str> =
        events.iter().flat_map(|(_, changes)| changes.values().flatten()).map(String::as_str).collect();
    let mut lines = String::new();
    for line in records.iter().filter_map(|record| line(record, &happened)) {
        writeln!(lines, "{line}").expect("a string takes all");
    }
    lines
}

/// What the checker says of a history that is good; an error with its words otherwise. A picture of what is
/// wrong is left in `dir`.
pub fn check(history: &str, dir: &Path) -> Result<String> {
    let path = dir.join("history.jsonl");
    let picture = dir.join("history.html");
    fs::write(&path, history).context("writing the history")?;
    let checker = program::peer("linearizable")?;
    let output = Command::new(checker).arg("-picture").args([&picture, &path]).output().context("running the checker")?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(said),
        Some(1) => bail!("the history is not linearizable: {said}; see {}", picture.display()),
        code => bail!(
            "the history {} could not be checked ({code:?}): {said}{}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}
