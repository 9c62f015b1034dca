//! JSON as Go's encoder writes it: fields in the order of the structure, bytes in base64, `<`, `>` and `&` escaped.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// An object that is being written.
pub struct Object {
    text: String,
}

impl Object {
    pub fn new() -> Self {
        Self { text: String::from("{") }
    }

    /// A field whose value is JSON already.
    pub fn raw(mut self, name: &str, value: impl AsRef<str>) -> Self {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text += &string(name);
        self.text.push(':');
        self.text += value.as_ref();
        self
    }

    /// A field that is left out where there is no value.
    pub fn optional(self, name: &str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.raw(name, value),
            None => self,
        }
    }

    /// Left out when it is zero.
    pub fn number<T: Default + PartialEq + ToString>(self, name: &str, value: T) -> Self {
        if value == T::default() { self } else { self.raw(name, value.to_string()) }
    }

    /// Left out when it is false.
    pub fn truth(self, name: &str, value: bool) -> Self {
        if value { self.raw(name, "true") } else { self }
    }

    /// Left out when it is empty.
    pub fn text(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.raw(name, string(value)) }
    }

    /// Left out when there are none.
    pub fn bytes(self, name: &str, value: &[u8]) -> Self {
        if value.is_empty() { self } else { self.raw(name, bytes(value)) }
    }

    /// Left out when it has no elements.
    pub fn list<T>(self, name: &str, values: &[T], show: impl Fn(&T) -> String) -> Self {
        if values.is_empty() { self } else { self.raw(name, list(values, show)) }
    }

    pub fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

pub fn list<T>(values: &[T], show: impl Fn(&T) -> String) -> String {
    format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(","))
}

pub fn bytes(bytes: &[u8]) -> String {
    format!("\"{}\"", BASE64_STANDARD.encode(bytes))
}

pub fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            ..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_are_left_out_and_the_order_is_kept() {
        let object =
            Object::new().number("b", 0).number("z", -1).text("t", "").text("a", "x").truth("f", false).bytes("k", b"foo");
        assert_eq!(object.list("l", &[1, 2], ToString::to_string).end(), r#"{"z":-1,"a":"x","k":"Zm9v","l":[1,2]}"#);
        assert_eq!(Object::new().end(), "{}");
    }

    #[test]
    fn texts_are_escaped_as_for_a_web_page() {
        assert_eq!(string("a\"<b>&\u{1}\né"), "\"a\\\"\\u003cb\\u003e\\u0026\\u0001\\né\"");
    }
}
