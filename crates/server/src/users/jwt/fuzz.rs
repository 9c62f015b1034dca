//! Fuzz target for tokens as clients send them.

use std::panic::AssertUnwindSafe;

use keelson_fuzz::{Damage, damaged, target};

use super::super::simple;
use super::*;

#[test]
fn a_token_that_was_not_signed_with_the_key_is_nobodys_whatever_it_looks_like() {
    let secret = concat!(env!("CARGO_MANIFEST_DIR"), "/src/users/test_keys/rsa.pub");
    let options =
        JwtOptions { method: "HS256".into(), private: Some(secret.into()), public: None, ttl: Duration::from_secs(300) };
    let jwt = AssertUnwindSafe(Jwt::open(&options).unwrap());
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let right = jwt.sign("ann", 7, now).unwrap();
    target!(20_000).with_type::<(String, Vec<Damage>)>().for_each(|(any, damage)| {
        assert_eq!(jwt.read(any, now), None);
        let (header_and_claims, _) = right.rsplit_once('.').unwrap();
        assert_eq!(jwt.read(&format!("{header_and_claims}.{any}"), now), None);
        let changed = damaged(right.as_bytes(), damage);
        if let Ok(changed) = std::str::from_utf8(&changed) {
            assert!(jwt.read(changed, now).is_none() || changed == right, "{changed}");
        }
        let _ = simple::index_of(any);
    });
}
