//! From words to a call. Flags may stand anywhere before `--`, also in front of the command.

use super::call::Call;
use super::flag::{Flag, Values};
use super::{Command, PROGRAM, flags_of};
use crate::go::quote::quote;

pub enum Parsed {
    Run(Call),
    /// What to show the help of.
    Help(Vec<&'static Command>),
}

/// A command line that means nothing.
#[derive(Debug)]
pub struct Wrong {
    pub message: String,
    /// The command whose usage helps; none if there is no such command.
    pub usage: Option<Vec<&'static Command>>,
}

pub fn parse(root: &'static Command, words: &[Vec<u8>]) -> Result<Parsed, Wrong> {
    let mut path = vec![root];
    let mut rest = words.to_vec();
    let mut command = root;
    while let Some(at) = first_word(&rest, &path) {
        let Some(found) = command.find(&rest[at]) else { break };
        rest.remove(at);
        path.push(found);
        command = found;
    }
    if path.len() == 1
        && let Some(at) = first_word(&rest, &path)
    {
        let message = format!("unknown command {} for {}", quote(&rest[at]), quote(PROGRAM.as_bytes()));
        return Err(Wrong { message, usage: None });
    }
    let (flags, args) = match parse_flags(flags_of(&path), &rest) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Ok(Parsed::Help(path)),
        Err(message) => return Err(Wrong { message, usage: Some(path) }),
    };
    if command.run.is_none() {
        return Ok(Parsed::Help(path));
    }
    Ok(Parsed::Run(Call { path, args, words: words.to_vec(), flags }))
}

/// Where the first word is that is neither a flag nor the value of one.
fn first_word(words: &[Vec<u8>], path: &[&'static Command]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let short = word.len() == 2 && word[0] == b'-' && word[1] != b'-';
        if word == b"--" {
            return None;
        } else if word.starts_with(b"--") || short {
            let takes_next = !word.contains(&b'=') && !flags_of(path).any(|flag| flag.alone() && is(flag, word)) && !help(word);
            at += 1 + usize::from(takes_next);
        } else if word.starts_with(b"-") || word.is_empty() {
            at += 1;
        } else {
            return Some(at);
        }
    }
    None
}

fn help(word: &[u8]) -> bool {
    word == b"--help" || word == b"-h"
}

fn is(flag: &Flag, word: &[u8]) -> bool {
    match word.strip_prefix(b"--") {
        Some(name) => flag.name.as_bytes() == name,
        None => flag.short.is_some_and(|short| short as u32 == u32::from(word[1])),
    }
}

type FlagsAndArgs = (Values, Vec<Vec<u8>>);

/// Flags and the other words. `None` if help is asked for.
pub fn parse_flags(flags: impl Iterator<Item = &'static Flag>, words: &[Vec<u8>]) -> Result<Option<FlagsAndArgs>, String> {
    let flags: Vec<&'static Flag> = flags.collect();
    let mut values = Values::of(flags.iter().copied());
    let mut args = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == b"--" {
            args.extend(words.cloned());
            break;
        }
        if let Some(long) = word.strip_prefix(b"--") {
            let text = String::from_utf8_lossy(long).into_owned();
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text.as_str(), None),
            };
            if name.is_empty() || name.starts_with('-') {
                return Err(format!("bad flag syntax: --{text}"));
            }
            let Some(flag) = flags.iter().copied().find(|flag| flag.name == name) else {
                return if name == "help" { Ok(None) } else { Err(format!("unknown flag: --{name}")) };
            };
            let value = match value {
                Some(value) => value,
                None if flag.alone() => "true".to_owned(),
                None => next(&mut words).ok_or_else(|| format!("flag needs an argument: --{name}"))?,
            };
            set(&mut values, flag, &value)?;
        } else if word.len() > 1 && word[0] == b'-' {
            let text = String::from_utf8_lossy(&word[1..]).into_owned();
            if !shorthands(&flags, &text, &mut words, &mut values)? {
                return Ok(None);
            }
        } else {
            args.push(word.clone());
        }
    }
    Ok(Some((values, args)))
}

/// One or more of one letter each; the last may have its value behind it. False if help is asked for.
fn shorthands<'a>(
    flags: &[&'static Flag],
    text: &str,
    words: &mut impl Iterator<Item = &'a Vec<u8>>,
    values: &mut Values,
) -> Result<bool, String> {
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let behind = &rest[letter.len_utf8()..];
        let Some(flag) = flags.iter().copied().find(|flag| flag.short == Some(letter)) else {
            return if letter == 'h' { Ok(false) } else { Err(format!("unknown shorthand flag: '{letter}' in -{rest}")) };
        };
        if let Some(value) = behind.strip_prefix('=').filter(|value| !value.is_empty()) {
            set(values, flag, value)?;
            return Ok(true);
        }
        if flag.alone() {
            set(values, flag, "true")?;
            rest = behind;
            continue;
        }
        let value = if behind.is_empty() {
            next(words).ok_or_else(|| format!("flag needs an argument: '{letter}' in -{rest}"))?
        } else {
            behind.to_owned()
        };
        set(values, flag, &value)?;
        return Ok(true);
    }
    Ok(true)
}

fn next<'a>(words: &mut impl Iterator<Item = &'a Vec<u8>>) -> Option<String> {
    words.next().map(|word| String::from_utf8_lossy(word).into_owned())
}

fn set(values: &mut Values, flag: &'static Flag, value: &str) -> Result<(), String> {
    let wrong = |why| format!("invalid argument {} for {} flag: {why}", quote(value.as_bytes()), quote(flag.shown().as_bytes()));
    values.set(flag, value).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ROOT;

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn call(line: &str) -> Call {
        match parse(&ROOT, &words(line)) {
            Ok(Parsed::Run(call)) => call,
            Ok(Parsed::Help(path)) => panic!("{line}: help of {path:?}"),
            Err(wrong) => panic!("{line}: {wrong:?}"),
        }
    }

    fn wrong(line: &str) -> String {
        match parse(&ROOT, &words(line)) {
            Ok(_) => panic!("{line}: taken"),
            Err(wrong) => wrong.message,
        }
    }

    fn names(call: &Call) -> Vec<&str> {
        call.path.iter().skip(1).map(|command| command.name).collect()
    }

    #[test]
    fn flags_may_stand_anywhere_and_a_value_is_no_command() {
        let call = call("-w json --endpoints a:1,b:2 get --endpoints=c:3 foo --prefix bar --rev 7");
        assert_eq!(names(&call), ["get"]);
        assert_eq!(call.args, words("foo bar"));
        assert_eq!(call.flags.text("write-out"), "json");
        assert_eq!(call.flags.list("endpoints"), ["a:1", "b:2", "c:3"]);
        assert!(call.flags.on("prefix") && !call.flags.on("keys-only"));
        assert_eq!(call.flags.int("rev"), 7);
    }

    #[test]
    fn what_follows_two_dashes_is_no_flag() {
        let call = call("put foo -- --bar");
        assert_eq!(call.args, words("foo --bar"));
    }

    #[test]
    fn commands_may_be_cut_short_where_only_one_begins_so() {
        assert_eq!(names(&call("mem li")), ["member", "list"]);
        assert_eq!(names(&call("lease keep 1")), ["lease", "keep-alive"]);
        assert_eq!(wrong("m"), r#"unknown command "m" for "keelsonctl""#);
    }

    #[test]
    fn switches_take_a_value_only_behind_an_equals_sign() {
        let with = call("get foo --prefix=false");
        assert!(!with.flags.on("prefix"));
        let behind = call("get --prefix false");
        assert!(behind.flags.on("prefix"));
        assert_eq!(behind.args, words("false"));
    }

    #[test]
    fn letters_can_be_joined_and_have_their_value_behind_them() {
        assert_eq!(call("-wjson get foo").flags.text("write-out"), "json");
        assert_eq!(call("get foo -w=json").flags.text("write-out"), "json");
        assert!(call("txn -i").flags.on("interactive"));
    }

    #[test]
    fn mistakes_are_told_as_etcdctl_tells_them() {
        assert_eq!(wrong("nonsense"), r#"unknown command "nonsense" for "keelsonctl""#);
        assert_eq!(wrong("get foo --nonsense"), "unknown flag: --nonsense");
        assert_eq!(wrong("get foo -x"), "unknown shorthand flag: 'x' in -x");
        assert_eq!(wrong("get foo --rev"), "flag needs an argument: --rev");
        assert_eq!(wrong("get foo -w"), "flag needs an argument: 'w' in -w");
        assert_eq!(wrong("get foo --=x"), "bad flag syntax: --=x");
        let rev = r#"invalid argument "x" for "--rev" flag: strconv.ParseInt: parsing "x": invalid syntax"#;
        assert_eq!(wrong("get foo --rev=x"), rev);
        let timeout = r#"invalid argument "5" for "--command-timeout" flag: time: missing unit in duration "5""#;
        assert_eq!(wrong("get foo --command-timeout 5"), timeout);
    }

    #[test]
    fn help_is_shown_where_it_is_asked_for_or_a_command_is_missing() {
        for line in ["", "--help", "lease", "lease nonsense", "get --help", "get foo -h", "lease grant --help 5"] {
            assert!(matches!(parse(&ROOT, &words(line)), Ok(Parsed::Help(_))), "{line}");
        }
    }

    #[test]
    fn every_command_can_be_run_or_has_sub_commands_and_no_flag_twice() {
        fn walk(command: &'static Command, mut path: Vec<&'static Command>) {
            path.push(command);
            assert!(command.run.is_some() || !command.commands.is_empty(), "{path:?}");
            let mut names: Vec<_> = flags_of(&path).map(|flag| flag.name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{path:?}");
            for flag in flags_of(&path) {
                let mut values = Values::of(flags_of(&path));
                assert_eq!(values.set(flag, flag.default), Ok(()), "{path:?} --{}", flag.name);
            }
            command.commands.iter().for_each(|sub| walk(sub, path.clone()));
        }
        walk(&ROOT, Vec::new());
    }
}
