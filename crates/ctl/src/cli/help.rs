//! Help and usage, laid out as cobra does.

use super::flag::{Flag, Kind};
use super::{Command, GLOBAL, Group, PROGRAM};
use crate::go::quote::quote;

/// The whole page of a command.
pub fn page(path: &[&'static Command]) -> String {
    let Some(command) = path.last() else { return String::new() };
    let about = if command.long.is_empty() { command.short } else { command.long };
    format!(
        "{}\n\n{}Use \"{PROGRAM} options\" for a list of global command-line options (applies to all commands).\n",
        about.trim(),
        usage(path)
    )
}

/// How it is called, its sub-commands and flags.
pub fn usage(path: &[&'static Command]) -> String {
    let Some(command) = path.last() else { return String::new() };
    let called = path.iter().map(|command| command.name).collect::<Vec<_>>().join(" ");
    let mut text = String::from("Usage:\n");
    if command.run.is_some() {
        // As a hint, where the line has none yet.
        let flags = if local(path).next().is_some() && !command.arguments.contains("[options]") { " [flags]" } else { "" };
        let line = format!("  {called} {}", command.arguments);
        text += &format!("{}{flags}\n", line.trim_end());
    }
    if !command.commands.is_empty() {
        text += &format!("  {called} [command]\n");
        text += &commands(command.commands);
    }
    let flags = lines(local(path));
    if !flags.is_empty() {
        text += &format!("\nFlags:\n{flags}");
    }
    if !command.commands.is_empty() {
        text += &format!("\nUse \"{called} [command] --help\" for more information about a command.\n");
    }
    text
}

/// The flags that are not everybody's.
fn local(path: &[&'static Command]) -> impl Iterator<Item = &'static Flag> {
    super::flags_of(path).filter(|flag| !GLOBAL.iter().any(|global| global.name == flag.name))
}

fn commands(commands: &[&'static Command]) -> String {
    let width = commands.iter().map(|command| command.name.len()).max().unwrap_or_default().max(11);
    let list = |group: Group| {
        let mut members: Vec<_> = commands.iter().filter(|command| command.group == group).collect();
        members.sort_by_key(|command| command.name);
        members.iter().map(|command| format!("  {:width$} {}\n", command.name, command.short)).collect::<String>()
    };
    let mut text = String::new();
    for (group, heading) in Group::HEADINGS {
        let members = list(group);
        if !members.is_empty() {
            text += &format!("\n{heading}\n{members}");
        }
    }
    let others = list(Group::None);
    if !others.is_empty() {
        text += &format!("\nAvailable Commands:\n{others}");
    }
    text
}

/// The page of the flags that every command has.
pub fn options() -> String {
    format!("The following options can be passed to any command:\n\n{}", lines(GLOBAL.iter()))
}

fn lines(flags: impl Iterator<Item = &'static Flag>) -> String {
    let mut rows: Vec<_> = flags
        .map(|flag| {
            let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
            let kind = flag.kind.name();
            let space = if kind.is_empty() { "" } else { " " };
            (format!("  {short}--{}{space}{kind}", flag.name), format!("{}{}", flag.about, default(flag)), flag.name)
        })
        .collect();
    rows.sort_by_key(|(_, _, name)| *name);
    let width = rows.iter().map(|(left, _, _)| left.len()).max().unwrap_or_default();
    rows.iter().map(|(left, right, _)| format!("{left:width$}   {right}\n")).collect()
}

fn default(flag: &Flag) -> String {
    match (flag.kind, flag.default) {
        (_, "" | "false" | "0") => String::new(),
        (Kind::Text, text) => format!(" (default {})", quote(text.as_bytes())),
        (Kind::List, list) => format!(" (default [{list}])"),
        (_, other) => format!(" (default {other})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ROOT;

    #[test]
    fn pages_name_sub_commands_under_their_heading_and_flags_with_their_defaults() {
        let root = page(&[&ROOT]);
        assert!(root.contains("\nKey-value commands\n  compaction "), "{root}");
        assert!(root.contains("\nUsage:\n  keelsonctl [command]\n"), "{root}");
        assert!(!root.contains("--endpoints"), "{root}");
        let get = page(&[&ROOT, ROOT.find(b"get").unwrap()]);
        assert!(get.contains("  keelsonctl get [options] <key> [range_end]\n\nFlags:\n"), "{get}");
        assert!(get.contains("(default \"l\")"), "{get}");
        assert!(options().contains("\n      --endpoints strings "), "{}", options());
    }
}
