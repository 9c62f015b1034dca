//! Messages of a stream, out of JSON that comes in pieces of any size. No byte is looked at more than a few times: whoever
//! sends a long message byte by byte makes no more work than with one piece, and many short ones in one piece neither.

use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::read::{self, Unreadable};

/// What has come and was not read yet.
pub struct Incoming {
    json: Vec<u8>,
    /// Up to here it was read.
    begin: usize,
    /// Where the next message may end.
    scan: Scan,
    /// Bytes that there were when it was last tried to read, in vain.
    tried: usize,
    limit: usize,
}

impl Incoming {
    /// Nothing yet, and never more than so many bytes.
    pub fn new(limit: usize) -> Self {
        Self { json: Vec::new(), begin: 0, scan: Scan::default(), tried: 0, limit }
    }

    /// Takes a piece; false if that is too much.
    pub fn push(&mut self, piece: &[u8]) -> bool {
        self.json.drain(..self.begin);
        self.begin = 0;
        let fits = self.json.len() + piece.len() <= self.limit;
        if fits {
            self.json.extend_from_slice(piece);
        }
        fits
    }

    /// Bytes that have come and were not read yet.
    pub fn held(&self) -> usize {
        self.json.len() - self.begin
    }

    /// The next message; nothing while more has to come for that.
    pub fn next(&mut self, kind: &MessageDescriptor) -> Result<Option<DynamicMessage>, Unreadable> {
        let rest = &self.json[self.begin..];
        // What is no message has no end that could be found: it is noticed when there is twice as much of it.
        if !self.scan.finds_end(rest) && rest.len() < 2 * self.tried {
            return Ok(None);
        }
        match read::first(rest) {
            Ok(Some((value, end))) => {
                let message = read::read(kind, value)?;
                self.begin += end;
                (self.scan, self.tried) = (Scan::default(), 0);
                Ok(Some(message))
            }
            Ok(None) | Err(Unreadable::Incomplete) => {
                self.tried = rest.len();
                Ok(None)
            }
            Err(wrong) => Err(wrong),
        }
    }
}

/// Follows the brackets of JSON, as far as it takes to see that an object or a list has ended.
#[derive(Default)]
struct Scan {
    /// Up to here it was looked at.
    at: usize,
    depth: usize,
    in_text: bool,
    is_escaped: bool,
}

impl Scan {
    /// Whether there is an end in what has been added.
    fn finds_end(&mut self, json: &[u8]) -> bool {
        while let Some(byte) = json.get(self.at) {
            self.at += 1;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_text => self.is_escaped = true,
                b'"' => self.in_text = !self.in_text,
                b'{' | b'[' if !self.in_text => self.depth += 1,
                b'}' | b']' if !self.in_text => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::WatchRequest;
    use keelson_api::etcdserverpb::watch_request::RequestUnion;
    use prost::Message;

    use super::super::descriptors;
    use super::*;

    const LIMIT: usize = 4 << 20;

    fn create(key: &str) -> String {
        format!(r#" {{"create_request":{{"key":"{key}","range_end":"","unknown":"}}\"]{{"}}}}"#)
    }

    /// The lengths of the keys that are watched, of messages in pieces of so many bytes; and how it ended.
    fn read_in_pieces(json: &str, bytes: usize) -> (Vec<usize>, bool) {
        let kind = descriptors::message("etcdserverpb.WatchRequest");
        let (mut incoming, mut seen) = (Incoming::new(LIMIT), Vec::new());
        for piece in json.as_bytes().chunks(bytes) {
            if !incoming.push(piece) {
                return (seen, false);
            }
            loop {
                match incoming.next(&kind) {
                    Ok(Some(message)) => {
                        let request = WatchRequest::decode(&message.encode_to_vec()[..]).unwrap().request_union;
                        let Some(RequestUnion::CreateRequest(create)) = request else { panic!("{request:?}") };
                        seen.push(create.key.len());
                    }
                    Ok(None) => break,
                    Err(_) => return (seen, false),
                }
            }
        }
        (seen, true)
    }

    #[test]
    fn messages_are_read_as_soon_as_they_are_whole_however_they_are_cut() {
        let json = ["YQ==", "YWI=", "", "YWJj"].map(create).concat();
        for bytes in 1..=json.len() {
            assert_eq!(read_in_pieces(&json, bytes), (vec![1, 2, 0, 3], true), "{bytes}");
        }
        // Without anything that follows.
        assert_eq!(read_in_pieces(create("YQ==").trim(), 3), (vec![1], true));
    }

    #[test]
    fn what_is_no_message_ends_them() {
        let good = create("YQ==");
        for bad in ["{]", "]", "5 ", "[1]", "null ", r#"{"create_request":5}"#, "\u{1}", r#"{"create_request":{,,,,,,,,,"#] {
            for bytes in [1, 7, 1000] {
                // What follows makes it be looked at once more.
                let json = format!("{good}{bad}{:100}", "");
                assert_eq!(read_in_pieces(&json, bytes), (vec![1], false), "{bad} {bytes}");
            }
        }
        // Nothing is wrong with it yet.
        assert_eq!(read_in_pieces(r#"{"create_request":{"#, 1), (vec![], true));
        let (endless, too_long) = (r#"{"create_request":{"key":""#, "A".repeat(LIMIT));
        assert_eq!(read_in_pieces(&format!("{good}{endless}{too_long}"), 1000), (vec![1], false));
    }

    /// If every piece were read from the beginning, or every message moved what follows it, this would take hours.
    #[test]
    fn a_long_message_in_small_pieces_and_many_messages_in_one_piece_are_no_more_work_than_others() {
        let long = create(&"A".repeat(2 << 20));
        assert_eq!(read_in_pieces(&long, 1), (vec![3 << 19], true));
        let one = r#"{"create_request":{}}"#;
        let many = LIMIT / one.len();
        assert_eq!(read_in_pieces(&one.repeat(many), LIMIT), (vec![0; many], true));
    }
}
