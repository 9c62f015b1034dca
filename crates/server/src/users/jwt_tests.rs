//! Tokens of every kind, with keys in every form that openssl writes. The keys in `test_keys` are for these tests alone.

use std::path::PathBuf;

use super::*;

const EVERY_WAY: &[(&str, &str)] = &[
    ("HS256", "rsa.pub"),
    ("HS384", "rsa.pub"),
    ("HS512", "rsa.pub"),
    ("RS256", "rsa.pem"),
    ("RS384", "rsa-pkcs1.pem"),
    ("RS512", "rsa.pem"),
    ("PS256", "rsa-pkcs1.pem"),
    ("PS384", "rsa.pem"),
    ("PS512", "rsa.pem"),
    ("ES256", "p256-sec1.pem"),
    ("ES384", "p384-sec1.pem"),
    ("EdDSA", "ed25519.pem"),
];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/users/test_keys").join(name)
}

fn open(method: &str, private: Option<&str>, public: Option<&str>) -> Result<Jwt, String> {
    let (private, public) = (private.map(file), public.map(file));
    Jwt::open(&JwtOptions { method: method.into(), private, public, ttl: Duration::from_secs(300) })
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn ann() -> Option<Asker> {
    Some(Asker { user: "ann".into(), revision: 7 })
}

#[test]
fn a_token_of_each_kind_is_read_back_until_its_time_has_passed() {
    for (method, key) in EVERY_WAY {
        let jwt = open(method, Some(key), None).unwrap_or_else(|e| panic!("{method}: {e}"));
        let token = jwt.sign("ann", 7, now()).unwrap();
        assert_eq!(jwt.read(&token, now()), ann(), "{method}");
        assert_eq!(jwt.read(&token, now() + Duration::from_secs(299)), ann());
        assert_eq!(jwt.read(&token, now() + Duration::from_secs(300)), None);
        assert_eq!(jwt.read(&format!("{token}x"), now()), None);
    }
}

#[test]
fn whoever_has_the_public_key_can_check_and_cannot_sign() {
    for (method, private, public) in [("RS256", "rsa.pem", "rsa.pub"), ("ES256", "p256-sec1.pem", "p256.pub")] {
        let (signs, checks) = (open(method, Some(private), Some(public)).unwrap(), open(method, None, Some(public)).unwrap());
        let token = signs.sign("ann", 7, now()).unwrap();
        assert_eq!(checks.read(&token, now()), ann());
        assert_eq!(checks.sign("ann", 7, now()), Err(Error::VerifyOnlyKey));
    }
}

#[test]
fn a_token_does_not_choose_how_it_is_checked() {
    let (right, secret) = (open("RS256", Some("rsa.pem"), None).unwrap(), open("HS256", Some("rsa.pub"), None).unwrap());
    // Signed with the public key as a secret, which everybody can do.
    assert_eq!(right.read(&secret.sign("root", 7, now()).unwrap(), now()), None);
    let other = open("RS512", Some("rsa.pem"), None).unwrap();
    assert_eq!(right.read(&other.sign("root", 7, now()).unwrap(), now()), None);
    let claims = encode(&json!({ "username": "root", "revision": 7 }));
    for header in [json!({ "alg": "none" }), json!({ "alg": "RS256" }), json!({})] {
        assert_eq!(right.read(&format!("{}.{claims}.", encode(&header)), now()), None);
    }
    for garbage in ["", ".", "..", "a.b.c", "é.é.é"] {
        assert_eq!(right.read(garbage, now()), None);
    }
}

#[test]
fn claims_that_are_missing_or_of_another_kind_are_refused() {
    let jwt = open("HS256", Some("rsa.pub"), None).unwrap();
    let token = |claims: Value| {
        let signed = format!("{}.{}", encode(&json!({ "alg": "HS256" })), encode(&claims));
        let signature = jwt.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let read = |claims| jwt.read(&token(claims), now());
    assert_eq!(read(json!({ "username": "ann", "revision": 7 })), ann(), "for ever");
    assert_eq!(read(json!({ "username": "ann", "revision": 7, "nbf": 1_700_000_000 })), ann());
    for wrong in [
        json!({ "username": "ann" }),
        json!({ "revision": 7 }),
        json!({ "username": 1, "revision": 7 }),
        json!({ "username": "ann", "revision": "7" }),
        json!({ "username": "ann", "revision": 7, "exp": "never" }),
        json!({ "username": "ann", "revision": 7, "nbf": 1_700_000_001 }),
        json!(["ann"]),
    ] {
        assert_eq!(read(wrong.clone()), None, "{wrong}");
    }
}

#[test]
fn keys_that_are_missing_or_do_not_fit_are_refused_with_their_option() {
    let refused = |method, private, public| open(method, private, public).err().expect("refused");
    assert!(refused("RS256", None, None).contains("priv-key"));
    assert!(refused("HS256", None, Some("rsa.pub")).contains("priv-key"));
    assert!(refused("RS256", Some("absent.pem"), None).contains("cannot be read"));
    assert!(refused("RS256", Some("p256-sec1.pem"), None).contains("another kind"));
    assert!(refused("ES384", Some("p256-sec1.pem"), None).contains("sign-method"));
    assert!(refused("RS256", Some("rsa.pub"), None).contains("no private key"));
    assert!(refused("RS256", None, Some("rsa.pem")).contains("no public key"));
    assert!(refused("ES256", Some("p256-sec1.pem"), Some("rsa.pub")).contains("belong together"));
}
