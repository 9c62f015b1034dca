//! Lines of a transaction or of interactive watches, cut into words.

use super::quote::unquote;
use crate::exit::{Failure, INVALID_INPUT};

/// Words are separated by spaces; one in quotes may hold any. Double quotes have escapes, single ones none.
pub fn split(line: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '"' if closes(rest) => {
                let (word, after) = unquote(rest).ok_or_else(|| Failure::new(INVALID_INPUT, "invalid syntax"))?;
                words.push(word);
                rest = after;
            }
            '\'' if rest[1..].contains('\'') => {
                let (word, after) = rest[1..].split_once('\'').unwrap_or_default();
                words.push(word.as_bytes().to_vec());
                rest = after;
            }
            // A quote that nothing closes is passed over.
            '"' | '\'' => rest = &rest[1..],
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(rest.as_bytes()[..end].to_vec());
                rest = &rest[end..];
            }
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

/// Whether the double quote at the start has its other half.
fn closes(text: &str) -> bool {
    let mut escaped = false;
    text.chars().skip(1).any(|c| {
        let end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        end
    })
}

#[cfg(test)]
mod tests {
    use super::split;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap().into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn lines_are_cut_as_a_shell_would() {
        assert_eq!(words("put foo bar"), ["put", "foo", "bar"]);
        assert_eq!(words(r#"put "a key" 'a "value"'"#), ["put", "a key", r#"a "value""#]);
        assert_eq!(words(r#"put ''  "tab\there""#), ["put", "", "tab\there"]);
        assert_eq!(words("watch foo -- echo it's"), ["watch", "foo", "--", "echo", "it's"]);
        assert_eq!(words("  "), [""; 0]);
        assert!(split(r#"put "\q" v"#).is_err());
    }
}
