//! `--auth-token` and its like: what users are given when they have signed in, and what it costs to check a password.

use std::path::PathBuf;
use std::time::Duration;

use super::flags::parse_duration;
use crate::users::knows_sign_method;

/// A kind of token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Letters that members remember.
    Simple,
    /// Signed web tokens.
    Jwt(JwtOptions),
    /// None: users come with certificates.
    None,
}

/// How web tokens are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    /// The name of the way, such as RS256.
    pub method: String,
    /// File with the key that checks.
    pub public: Option<PathBuf>,
    /// File with the key that signs.
    pub private: Option<PathBuf>,
    /// How long a token is good.
    pub ttl: Duration,
}

/// How long a web token is good if nothing is said of that.
const DEFAULT_TTL: Duration = Duration::from_secs(300);

/// Reads `simple`, or `jwt,sign-method=RS256,priv-key=FILE`.
pub fn parse(text: &str, warnings: &mut Vec<String>) -> Result<TokenKind, String> {
    let invalid = |why: String| format!("--auth-token: {why}");
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options: Vec<(&str, &str)> = Vec::new();
    for option in parts {
        let pair = option.split_once('=').filter(|(_, value)| !value.contains('='));
        let (name, value) = pair.ok_or_else(|| invalid(format!("{option:?} is not NAME=VALUE")))?;
        if options.iter().any(|(known, _)| *known == name) {
            return Err(invalid(format!("{name} is there twice")));
        }
        options.push((name, value));
    }
    match kind {
        "simple" => Ok(TokenKind::Simple),
        "" => Ok(TokenKind::None),
        "jwt" => jwt(&options, warnings).map(TokenKind::Jwt).map_err(invalid),
        other => Err(invalid(format!("unknown kind {other:?}: it must be simple or jwt"))),
    }
}

fn jwt(options: &[(&str, &str)], warnings: &mut Vec<String>) -> Result<JwtOptions, String> {
    let of = |name: &str| options.iter().find(|(n, value)| *n == name && !value.is_empty()).map(|(_, value)| *value);
    for (unknown, _) in options.iter().filter(|(n, _)| !matches!(*n, "sign-method" | "pub-key" | "priv-key" | "ttl")) {
        warnings.push(format!("--auth-token: unknown option {unknown} of jwt has no effect"));
    }
    let method = of("sign-method").ok_or("jwt needs sign-method, such as RS256")?;
    if method == "ES512" {
        return Err("sign-method ES512 is not supported: sign with ES256, ES384 or EdDSA".into());
    }
    if !knows_sign_method(method) {
        return Err(format!("unknown sign-method {method:?}"));
    }
    let ttl = match of("ttl") {
        Some(text) => parse_duration(text).ok_or_else(|| format!("ttl={text} is not a duration such as 5m"))?,
        None => DEFAULT_TTL,
    };
    let file = |name| of(name).map(PathBuf::from);
    Ok(JwtOptions { method: method.to_owned(), public: file("pub-key"), private: file("priv-key"), ttl })
}

/// Nothing at all means the default.
pub fn simple_token_ttl(seconds: i64) -> Result<Duration, String> {
    match u32::try_from(seconds) {
        Ok(0) => Ok(Duration::from_secs(300)),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => Err(format!("--auth-token-ttl={seconds} is not a number of seconds")),
    }
}

/// As in etcd, one that cannot be is the default.
pub fn bcrypt_cost(cost: i64, warnings: &mut Vec<String>) -> u32 {
    const DEFAULT: u32 = 10;
    u32::try_from(cost).ok().filter(|cost| (4..=31).contains(cost)).unwrap_or_else(|| {
        warnings.push(format!("--bcrypt-cost={cost} is taken as {DEFAULT}: it must be from 4 to 31"));
        DEFAULT
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_takes_is_taken() {
        let mut warnings = Vec::new();
        assert_eq!(parse("simple", &mut warnings), Ok(TokenKind::Simple));
        assert_eq!(parse("", &mut warnings), Ok(TokenKind::None));
        let text = "jwt,pub-key=/a.pub,priv-key=/a.key,sign-method=RS256,ttl=10m,other=1";
        let Ok(TokenKind::Jwt(options)) = parse(text, &mut warnings) else { panic!("{text}") };
        assert_eq!((options.method.as_str(), options.ttl), ("RS256", Duration::from_secs(600)));
        assert_eq!((options.public, options.private), (Some("/a.pub".into()), Some("/a.key".into())));
        assert!(warnings.len() == 1 && warnings[0].contains("other"), "{warnings:?}");
        for method in ["HS256", "HS384", "HS512", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"] {
            assert!(parse(&format!("jwt,sign-method={method}"), &mut warnings).is_ok(), "{method}");
        }
    }

    #[test]
    fn mistakes_are_refused_with_their_reason() {
        let refused = |text| parse(text, &mut Vec::new()).unwrap_err();
        assert!(refused("other").contains("simple or jwt"));
        assert!(refused("jwt").contains("sign-method"));
        assert!(refused("jwt,sign-method=none").contains("none"));
        assert!(refused("jwt,sign-method=ES512").contains("ES384"));
        assert!(refused("jwt,sign-method").contains("NAME=VALUE"));
        assert!(refused("jwt,ttl=1m,ttl=2m").contains("twice"));
        assert!(refused("jwt,sign-method=RS256,ttl=soon").contains("soon"));
    }
}
