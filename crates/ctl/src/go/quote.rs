//! Quoted text: `%q`, and what it reads back.

/// `strconv.Quote`. Bytes need not be text; those that are not appear as `\x..`.
pub fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push(&mut quoted, c));
        chunk.invalid().iter().for_each(|byte| quoted += &format!("\\x{byte:02x}"));
    }
    quoted.push('"');
    quoted
}

fn push(quoted: &mut String, c: char) {
    match c {
        '"' => quoted.push_str("\\\""),
        '\\' => quoted.push_str("\\\\"),
        '\x07' => quoted.push_str("\\a"),
        '\x08' => quoted.push_str("\\b"),
        '\x0c' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\x0b' => quoted.push_str("\\v"),
        _ if printable(c) => quoted.push(c),
        ..' ' | '\x7f' => *quoted += &format!("\\x{:02x}", c as u32),
        ..'\u{10000}' => *quoted += &format!("\\u{:04x}", c as u32),
        _ => *quoted += &format!("\\U{:08x}", c as u32),
    }
}

fn printable(c: char) -> bool {
    // Behind another character marks that join it are left alone, as Go leaves them.
    c == '\'' || format!("a{c}").escape_debug().eq(['a', c])
}

/// Reads one quoted text from the start of `text`; what is left is the second part.
pub fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (raw, rest) = raw.split_once('`')?;
        return Some((raw.as_bytes().to_vec(), rest));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut bytes = Vec::new();
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return Some((bytes, rest)),
            '\n' => return None,
            '\\' => rest = escape(rest, &mut bytes)?,
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// What follows a backslash; returns the rest.
fn escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let simple = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        'x' => {
            bytes.push(u8::from_str_radix(text.get(1..3)?, 16).ok()?);
            return text.get(3..);
        }
        'u' | 'U' => {
            let end = if kind == 'u' { 5 } else { 9 };
            let c = char::from_u32(u32::from_str_radix(text.get(1..end)?, 16).ok()?)?;
            bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            return text.get(end..);
        }
        '0'..='7' => {
            bytes.push(u8::from_str_radix(text.get(..3)?, 8).ok()?);
            return text.get(3..);
        }
        _ => return None,
    };
    bytes.push(simple);
    text.get(1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_printed_is_escaped_as_go_escapes_it() {
        assert_eq!(quote(b"foo"), r#""foo""#);
        assert_eq!(quote(b"a\"b\\c'd"), r#""a\"b\\c'd""#);
        assert_eq!(quote(b"\x00\x07\n\x7f"), r#""\x00\a\n\x7f""#);
        assert_eq!(quote(b"\xff\xfea"), r#""\xff\xfea""#);
        assert_eq!(quote("größe 世".as_bytes()), "\"größe 世\"");
        assert_eq!(quote("e\u{301}\u{a0}\u{200b}".as_bytes()), "\"e\u{301}\\u00a0\\u200b\"");
    }

    #[test]
    fn what_was_quoted_is_read_back() {
        for bytes in [&b"foo"[..], b"a\"b\\c", b"\x00\xff\n", "世\u{a0}".as_bytes()] {
            let quoted = quote(bytes);
            assert_eq!(unquote(&format!("{quoted}) rest")), Some((bytes.to_vec(), ") rest")));
        }
        assert_eq!(unquote(r#""\101\U0001F600""#), Some(("A😀".as_bytes().to_vec(), "")));
        assert_eq!(unquote("`raw \\`x"), Some((b"raw \\".to_vec(), "x")));
        assert_eq!(unquote("\"open"), None);
        assert_eq!(unquote("bare"), None);
        assert_eq!(unquote(r#""\é""#), None);
    }
}
