//! Fuzz target for the first bytes of a connection, by which HTTP/2 is told from HTTP/1.

use futures::executor::block_on;
use keelson_fuzz::target;

use super::*;

/// Gives its bytes in pieces of the given lengths.
struct Pieces<'a> {
    bytes: &'a [u8],
    lengths: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = self.lengths.next().map_or(usize::MAX, |n| usize::from(*n).max(1));
        let (piece, rest) = self.bytes.split_at(length.min(self.bytes.len()).min(buf.remaining()));
        buf.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}

#[test]
fn http2_is_told_by_its_preface_however_it_is_cut_and_no_byte_is_lost() {
    let metrics = std::panic::AssertUnwindSafe(Metrics::new(1, false, crate::config::Gates::default()));
    target!(10_000).with_type::<(Vec<u8>, u8, Vec<u8>)>().for_each(|(tail, common, lengths)| {
        let bytes = [&PREFACE[..usize::from(*common) % (PREFACE.len() + 1)], tail].concat();
        let mut io = Pieces { bytes: &bytes, lengths: lengths.iter().cycle() };
        match block_on(first_bytes(&mut io)) {
            Ok((head, is_http2)) => {
                assert_eq!(is_http2, bytes.starts_with(PREFACE));
                let mut whole = Vec::new();
                let mut connection = Counting { head: head.into(), io, metrics: Some(metrics.clone()) };
                block_on(connection.read_to_end(&mut whole)).unwrap();
                assert_eq!(whole, bytes);
            }
            Err(e) => assert!(e.kind() == io::ErrorKind::UnexpectedEof && PREFACE.starts_with(&bytes)),
        }
    });
}
