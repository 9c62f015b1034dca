//! Compressed requests. Answers are not compressed, which gRPC leaves to the server.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use keelson_api::Code;

use super::status::Status;

/// How those messages of a call are compressed that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// As gzip does it; etcd knows no other way.
    Gzip,
}

impl Encoding {
    /// Reads what a call announces.
    pub fn of(headers: &HeaderMap) -> Result<Self, Status> {
        match headers.get("grpc-encoding").map(http::HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip),
            Some(other) => {
                let name = String::from_utf8_lossy(other);
                let text = format!("grpc: Decompressor is not installed for grpc-encoding {name:?}");
                Err(Status::new(Code::Unimplemented, text))
            }
        }
    }
}

/// Unpacks a message, which may not become longer than `max_bytes`.
pub(super) fn gunzip(packed: &[u8], max_bytes: usize) -> Result<Bytes, Status> {
    let mut decoder = MultiGzDecoder::new(packed);
    let mut message = Vec::new();
    // One byte more tells that there is more.
    let unpacked = (&mut decoder).take(max_bytes as u64 + 1).read_to_end(&mut message);
    match unpacked {
        Err(e) if decoder.header().is_none() => {
            Err(Status::new(Code::Internal, format!("grpc: failed to decompress the message: gzip: {e}")))
        }
        Err(e) => Err(Status::new(Code::Internal, format!("grpc: failed to read decompressed data: {e}"))),
        Ok(length) if length > max_bytes => {
            let text = format!("grpc: received message after decompression larger than max {max_bytes}");
            Err(Status::new(Code::ResourceExhausted, text))
        }
        Ok(_) => Ok(message.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn a_message_is_unpacked_up_to_the_limit() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&[7; 1000]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(gunzip(&packed, 1000).unwrap(), vec![7; 1000]);
        assert_eq!(gunzip(&packed, 999).unwrap_err().code, Code::ResourceExhausted);
        let refusal = |packed| gunzip(packed, 1000).unwrap_err();
        assert!(refusal(&packed[..packed.len() - 1]).message.contains("failed to read"));
        assert!(refusal(b"no gzip, however long").message.contains("failed to decompress"));
    }
}
