//! Fuzz target for the headers of calls between members.

use keelson_fuzz::target;

use super::*;

const NAMES: [&str; 7] = [CLUSTER, FROM, TO, DATA_DIR, TO_DATA_DIR, FORMAT, CLUSTER_FORMAT];

#[test]
fn a_caller_is_who_it_says_or_is_refused_whatever_its_headers() {
    let me = Speaker { cluster_id: 1, member_id: 2, data_dir_uuid: "d".into(), format: 3 };
    target!(10_000).with_type::<(u64, String, u32, Vec<(u8, Vec<u8>)>)>().for_each(|(member_id, uuid, format, changes)| {
        let data_dir_uuid: String = uuid.chars().filter(char::is_ascii_alphanumeric).collect();
        let other = Speaker { cluster_id: 1, member_id: *member_id, data_dir_uuid, format: (*format).max(1) };
        let mut headers = other.headers(2, "d", *format);
        assert_eq!(me.caller(&headers).map_err(|e| e.message), Ok(other));
        for (name, value) in changes {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(NAMES[usize::from(*name) % NAMES.len()], value);
            }
        }
        match me.caller(&headers) {
            Ok(caller) => {
                assert_eq!((Some(caller.member_id), caller.cluster_id), (id(&headers, FROM), 1));
                assert_eq!(id(&headers, TO), Some(2));
            }
            Err(refused) => assert!(!refused.message.is_empty()),
        }
        assert!(cluster_format(&headers) >= format::OLDEST);
        let _ = me.is_known(&headers);
    });
}
