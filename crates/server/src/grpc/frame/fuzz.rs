//! Fuzz targets for messages that arrive in pieces.

use keelson_api::etcdserverpb::{PutRequest, TxnRequest};
use keelson_fuzz::{Damage, damaged, target};

use super::*;

/// Longest message that is taken; short, so that inputs go beyond it.
const MAX: usize = 300;

/// Feeds `bytes` in pieces of the given lengths, over and over; the messages, and how it ended.
fn feed<M: Message + Default>(bytes: &[u8], pieces: &[u8]) -> (Vec<M>, Result<(), FrameError>) {
    let mut frames = Frames { buffer: BytesMut::new(), encoding: Encoding::Identity, max_bytes: MAX };
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut messages = Vec::new();
    let mut lengths = pieces.iter().map(|n| usize::from(*n)).filter(|n| *n > 0).cycle();
    while !rest.is_empty() {
        let piece = rest.split_to(lengths.next().unwrap_or(usize::MAX).min(rest.len()));
        // A piece that nobody else holds takes another way.
        frames.push(if piece.len().is_multiple_of(2) { piece } else { Bytes::copy_from_slice(&piece) });
        loop {
            match frames.next(|_, _| None) {
                Ok(Some((message, _))) => messages.push(message),
                Ok(None) => break,
                Err(e) => return (messages, Err(e)),
            }
        }
        assert!(frames.buffer.len() < HEADER + MAX, "more is held than a message");
    }
    (messages, frames.end())
}

#[test]
fn messages_arrive_whole_however_they_are_cut() {
    target!(10_000).with_type::<(Vec<(Vec<u8>, i64)>, Vec<u8>)>().for_each(|(puts, pieces)| {
        let messages: Vec<_> = puts
            .iter()
            .map(|(key, lease)| PutRequest { key: key.clone().into(), lease: *lease, ..PutRequest::default() })
            .take_while(|m| m.encoded_len() <= MAX)
            .collect();
        let bytes: Vec<u8> = messages.iter().flat_map(|m| frame(m).to_vec()).collect();
        let (got, end) = feed::<PutRequest>(&bytes, pieces);
        assert_eq!(got, messages);
        assert!(end.is_ok());
    });
}

#[test]
fn damaged_frames_are_refused_with_a_status_or_read_as_something_else() {
    target!(10_000).with_type::<(Vec<u8>, Vec<Damage>, Vec<u8>)>().for_each(|(key, damage, pieces)| {
        let put = PutRequest { key: key.clone().into(), ..PutRequest::default() };
        let bytes = damaged(&[frame(&put), frame(&put)].concat(), damage);
        let (messages, end) = feed::<TxnRequest>(&bytes, pieces);
        let (again, _) = feed::<TxnRequest>(&bytes, &[]);
        assert_eq!(messages, again, "the cuts show");
        match end {
            Ok(()) => {}
            Err(FrameError::Refused(status)) => {
                assert!(
                    !status.message.is_empty() && matches!(status.code, Code::Internal | Code::ResourceExhausted | Code::Unknown)
                );
            }
            Err(FrameError::Gone) => panic!("nobody has gone"),
        }
    });
}
