//! The span that a call is a part of, as its client tells it: W3C's trace context.

use http::HeaderMap;

/// Bit of a trace's flags: it is told.
const SAMPLED: u8 = 1;
/// All flags that the first version knows.
const FLAGS: u8 = 3;
/// What a version cannot be.
const NO_VERSION: u8 = 0xff;
/// Bytes of what others that take part may say.
const LONGEST_STATE: usize = 512;

/// The client's span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace that it belongs to.
    pub trace: [u8; 16],
    /// Itself.
    pub span: [u8; 8],
    /// Whether it is told.
    pub is_sampled: bool,
    /// What others that take part have to say.
    pub state: String,
}

/// So many bytes out of digits of which none is upper case.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let is_hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex || digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl Parent {
    /// Reads what a call brings along; nothing if that is nothing, or cannot be understood.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
        let [version] = bytes(parts.next()?)?;
        let (trace, span) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
        let [flags] = bytes(parts.next()?)?;
        // A later version may say more.
        let is_first = version == 0;
        if version == NO_VERSION || (is_first && (parts.next().is_some() || flags > FLAGS)) {
            return None;
        }
        if trace == [0; 16] || span == [0; 8] {
            return None;
        }
        let state = headers.get("tracestate").and_then(|state| state.to_str().ok()).filter(|state| state.len() <= LONGEST_STATE);
        Some(Self { trace, span, is_sampled: flags & SAMPLED != 0, state: state.unwrap_or_default().to_owned() })
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parent(text: &'static str) -> Option<Parent> {
        Parent::of(&HeaderMap::from_iter([("traceparent".parse().unwrap(), HeaderValue::from_static(text))]))
    }

    #[test]
    fn what_a_client_tells_of_its_span_is_read() {
        let told = parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!((told.trace[0], told.trace[15], told.span[0], told.span[7]), (0x4b, 0x36, 0, 0xb7));
        assert!(told.is_sampled && told.state.is_empty());
        assert!(!parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap().is_sampled);
        assert!(parent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-is-to-come").unwrap().is_sampled);
    }

    #[test]
    fn what_cannot_be_understood_is_nothing() {
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-04",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47+6-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parent(wrong), None, "{wrong}");
        }
    }
}
