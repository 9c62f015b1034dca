//! The replayable form of a sequence: one step per line, as its name and the protobuf bytes of its
//! request in hex, with the readable form behind a `#`.
//!
//! Bytes, so that whatever the generator can send can also be replayed, enum values that do not
//! exist included; and so that a field added to a message needs no change here.

use std::fmt::Write;

use anyhow::{Context, Result, anyhow, bail};
use prost::Message;

use super::step::Step;

/// The comment of a line is for people; a page-long value does not help them.
const COMMENT_CHARS: usize = 400;

pub fn write(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Range(m) => line(&mut text, step, None, m),
            Step::RangeStream(m) => line(&mut text, step, None, m),
            Step::Put(m) => line(&mut text, step, None, m),
            Step::DeleteRange(m) => line(&mut text, step, None, m),
            Step::Txn(m) => line(&mut text, step, None, m),
            Step::Compact(m) => line(&mut text, step, None, m),
            Step::LeaseGrant(m) => line(&mut text, step, None, m),
            Step::LeaseRevoke(m) => line(&mut text, step, None, m),
            Step::LeaseTimeToLive(m) => line(&mut text, step, None, m),
            Step::LeaseLeases(m) => line(&mut text, step, None, m),
            Step::LeaseKeepAlive(m) => line(&mut text, step, None, m),
            Step::Watch(stream, m) => line(&mut text, step, Some(*stream), m),
            Step::CloseStream(stream) => {
                let _ = writeln!(text, "{} {stream}", step.kind());
            }
            Step::Settle => text.push_str("settle\n"),
        }
    }
    text
}

fn line(text: &mut String, step: &Step, stream: Option<usize>, message: &(impl Message + std::fmt::Debug)) {
    text.push_str(step.kind());
    if let Some(stream) = stream {
        let _ = write!(text, " {stream}");
    }
    text.push(' ');
    // An empty message still needs a word of its own.
    text.push_str("0x");
    for byte in message.encode_to_vec() {
        let _ = write!(text, "{byte:02x}");
    }
    let readable: String = format!("{message:?}").chars().take(COMMENT_CHARS).collect();
    let _ = writeln!(text, "  # {readable}");
}

pub fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = code.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        steps.push(parse_step(&words).with_context(|| format!("line {}: {code}", number + 1))?);
    }
    Ok(steps)
}

fn parse_step(words: &[&str]) -> Result<Step> {
    Ok(match *words {
        ["settle"] => Step::Settle,
        ["close-stream", stream] => Step::CloseStream(stream.parse().context("the stream's number")?),
        ["watch", stream, hex] => Step::Watch(stream.parse().context("the stream's number")?, message(hex)?),
        ["range", hex] => Step::Range(message(hex)?),
        ["range-stream", hex] => Step::RangeStream(message(hex)?),
        ["put", hex] => Step::Put(message(hex)?),
        ["delete-range", hex] => Step::DeleteRange(message(hex)?),
        ["txn", hex] => Step::Txn(message(hex)?),
        ["compact", hex] => Step::Compact(message(hex)?),
        ["lease-grant", hex] => Step::LeaseGrant(message(hex)?),
        ["lease-revoke", hex] => Step::LeaseRevoke(message(hex)?),
        ["lease-time-to-live", hex] => Step::LeaseTimeToLive(message(hex)?),
        ["lease-leases", hex] => Step::LeaseLeases(message(hex)?),
        ["lease-keep-alive", hex] => Step::LeaseKeepAlive(message(hex)?),
        _ => bail!("not a step"),
    })
}

fn message<M: Message + Default>(word: &str) -> Result<M> {
    let digits = word.strip_prefix("0x").context("the message must start with 0x")?;
    let bytes = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2);
            pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(|| anyhow!("bad hex"))
        })
        .collect::<Result<Vec<u8>>>()?;
    Ok(M::decode(bytes.as_slice())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::generate::{Generator, Profile, Scene};

    #[test]
    fn every_generated_step_survives_being_written_and_parsed() {
        let mut generator = Generator::new(7, Profile::Narrow);
        let scene = Scene { revision: 40, compacted: 12, watches: vec![(0, 3)] };
        let mut steps: Vec<Step> = (0..2_000).map(|_| generator.next(scene.clone())).collect();
        steps.push(Step::Settle);
        let text = write(&steps);
        assert_eq!(parse(&text).unwrap(), steps);
    }

    #[test]
    fn comments_and_empty_lines_are_not_steps() {
        assert_eq!(parse("# seed 5\n\nsettle # all\n").unwrap(), vec![Step::Settle]);
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = parse("settle\nput 0x0\n").unwrap_err();
        assert!(format!("{error:#}").contains("line 2"), "{error:#}");
    }
}
