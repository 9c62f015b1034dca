//! Whole numbers and booleans, with the texts that Go has for wrong ones.

use std::num::IntErrorKind;

use super::quote::quote;

/// `strconv.ParseInt`. Base 0 takes it from a prefix (`0x`, `0o`, `0b`, `0`) and allows underscores.
pub fn int(text: &str, base: u32) -> Result<i64, String> {
    let wrong = |why| format!("strconv.ParseInt: parsing {}: {why}", quote(text.as_bytes()));
    let (sign, magnitude) = match text.as_bytes().first() {
        Some(b'-') => ("-", &text[1..]),
        Some(b'+') => ("", &text[1..]),
        _ => ("", text),
    };
    let (digits, base) = digits(magnitude, base).ok_or_else(|| wrong("invalid syntax"))?;
    i64::from_str_radix(&format!("{sign}{digits}"), base).map_err(|e| wrong(reason(e.kind())))
}

/// `strconv.ParseUint`: no sign.
pub fn uint(text: &str, base: u32) -> Result<u64, String> {
    let wrong = |why| format!("strconv.ParseUint: parsing {}: {why}", quote(text.as_bytes()));
    let (digits, base) = digits(text, base).ok_or_else(|| wrong("invalid syntax"))?;
    u64::from_str_radix(&digits, base).map_err(|e| wrong(reason(e.kind())))
}

/// `strconv.ParseBool`.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text.as_bytes()))),
    }
}

/// What is left without prefix and underscores. `None` where Rust would take what Go does not.
fn digits(text: &str, base: u32) -> Option<(String, u32)> {
    if text.starts_with(['+', '-']) {
        return None;
    }
    if base != 0 {
        return Some((text.to_owned(), base));
    }
    let lower = text.to_ascii_lowercase();
    let (rest, base) = if let Some(rest) = lower.strip_prefix("0x") {
        (rest, 16)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (rest, 2)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (rest, 8)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (&lower[1..], 8)
    } else {
        (lower.as_str(), 10)
    };
    Some((rest.replace('_', ""), base))
}

fn reason(kind: &IntErrorKind) -> &'static str {
    match kind {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        assert_eq!(int("694d77aa9a38260f", 16), Ok(0x694d_77aa_9a38_260f));
        assert_eq!(int("-1", 0), Ok(-1));
        assert_eq!(int("+7", 0), Ok(7));
        assert_eq!(int("0x10", 0), Ok(16));
        assert_eq!(int("010", 0), Ok(8));
        assert_eq!(int("1_000", 0), Ok(1000));
        assert_eq!(int("xyz", 16).unwrap_err(), r#"strconv.ParseInt: parsing "xyz": invalid syntax"#);
        assert_eq!(int("--1", 10).unwrap_err(), r#"strconv.ParseInt: parsing "--1": invalid syntax"#);
        assert_eq!(int("", 10).unwrap_err(), r#"strconv.ParseInt: parsing "": invalid syntax"#);
        let large = "9223372036854775808";
        assert_eq!(int(large, 10).unwrap_err(), format!(r#"strconv.ParseInt: parsing "{large}": value out of range"#));
        assert_eq!(uint("8e9e05c52164694d", 16), Ok(0x8e9e_05c5_2164_694d));
        assert!(uint("+1", 16).is_err());
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("yes").unwrap_err(), r#"strconv.ParseBool: parsing "yes": invalid syntax"#);
    }
}
