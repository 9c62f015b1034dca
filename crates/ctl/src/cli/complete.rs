//! What could come next on a command line: the scripts of `completion` ask for it with the hidden command `__complete`.

use super::{Command, flags_of};

/// The words that the last of `words` can become.
pub fn candidates(root: &'static Command, words: &[String]) -> Vec<String> {
    let Some((last, before)) = words.split_last() else { return Vec::new() };
    let mut path = vec![root];
    let mut words = before.iter();
    let mut value_of = None;
    let mut arguments = 0;
    while let Some(word) = words.next() {
        value_of = None;
        if let Some(flag) = flags_of(&path).find(|flag| named(flag.name, flag.short, word)) {
            if !flag.alone() && words.next().is_none() {
                value_of = Some(flag);
            }
        } else if !word.starts_with('-') {
            match path.last().and_then(|command| command.find(word.as_bytes())) {
                Some(command) => path.push(command),
                None => arguments += 1,
            }
        }
    }
    let command = path[path.len() - 1];
    let mut found: Vec<String> = if let Some(flag) = value_of {
        flag.choices.iter().map(|choice| choice.to_string()).collect()
    } else if last.starts_with('-') {
        flags_of(&path).map(|flag| format!("--{}", flag.name)).collect()
    } else if arguments == 0 {
        let names = command.commands.iter().map(|command| command.name);
        names.chain(command.choices.iter().copied()).map(str::to_owned).collect()
    } else {
        Vec::new()
    };
    found.retain(|candidate| candidate.starts_with(last.as_str()));
    found.sort();
    found
}

fn named(name: &str, short: Option<char>, word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|long| long == name) || short.is_some_and(|short| word == format!("-{short}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ROOT;

    fn after(line: &str) -> Vec<String> {
        candidates(&ROOT, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn commands_flags_and_values_are_offered() {
        assert_eq!(after("me"), ["member"]);
        assert_eq!(after("member "), ["add", "list", "promote", "remove", "update"]);
        assert_eq!(after("-w json member li"), ["list"]);
        assert_eq!(after("get foo --keys"), ["--keys-only"]);
        assert_eq!(after("get -w p"), ["protobuf"]);
        assert_eq!(after("completion f"), ["fish"]);
        assert_eq!(after("get foo "), [""; 0]);
    }
}
