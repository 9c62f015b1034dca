//! Fuzz targets for what a call says in its headers, and for the status it is answered with.

use keelson_fuzz::target;

use super::*;

#[test]
fn any_timeout_header_is_a_time_that_can_be_waited_for_or_none() {
    target!(60_000).with_type::<(u32, u8, Vec<u8>)>().for_each(|(amount, unit, any)| {
        for value in [format!("{}{}", amount % 1_000_000_000, char::from(*unit)).into_bytes(), any.clone()] {
            let Ok(header) = HeaderValue::from_bytes(&value) else { continue };
            let Ok(timeout) = parse_timeout(&String::from_utf8_lossy(header.as_bytes())) else { continue };
            assert!(std::time::Instant::now().checked_add(timeout).is_some());
            assert!(b"HMSmun".contains(value.last().unwrap()));
        }
    });
}

#[test]
fn any_text_travels_in_a_status() {
    target!(30_000).with_type::<String>().for_each(|text| {
        let mut trailers = HeaderMap::new();
        Status::write(Err(&Status::new(Code::Unknown, text.as_str())), &mut trailers);
        let mut sent = trailers["grpc-message"].as_bytes().iter().copied();
        let mut got = Vec::new();
        while let Some(byte) = sent.next() {
            got.push(match byte {
                b'%' => {
                    let hex = [sent.next().unwrap(), sent.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                }
                other => other,
            });
        }
        assert_eq!(got, text.as_bytes());
    });
}
