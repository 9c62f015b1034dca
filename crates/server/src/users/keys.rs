//! Keys that sign and check web tokens: RSA, elliptic curves, or one that both sides know.

use std::path::Path;

use keelson_api::Error;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::config::JwtOptions;

/// What a sequence of bytes is signed and checked with.
pub enum Key {
    /// A secret that whoever checks has, too.
    Shared(hmac::Key),
    /// A private key, unless tokens are made elsewhere, and the public one that goes with it.
    Pair { private: Option<Private>, public: Vec<u8>, verify: &'static dyn VerificationAlgorithm },
}

pub enum Private {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// How keys of a family are used, by the name that tokens have for it.
enum Way {
    Shared(hmac::Algorithm),
    Rsa(&'static dyn RsaEncoding, &'static dyn VerificationAlgorithm),
    Ecdsa(Curve, &'static signature::EcdsaSigningAlgorithm, &'static dyn VerificationAlgorithm),
    Ed25519,
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

fn way(method: &str) -> Option<Way> {
    Some(match method {
        "HS256" => Way::Shared(hmac::HMAC_SHA256),
        "HS384" => Way::Shared(hmac::HMAC_SHA384),
        "HS512" => Way::Shared(hmac::HMAC_SHA512),
        "RS256" => Way::Rsa(&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Way::Rsa(&signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Way::Rsa(&signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Way::Rsa(&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
        "PS384" => Way::Rsa(&signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
        "PS512" => Way::Rsa(&signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
        "ES256" => Way::Ecdsa(Curve::P256, &signature::ECDSA_P256_SHA256_FIXED_SIGNING, &signature::ECDSA_P256_SHA256_FIXED),
        "ES384" => Way::Ecdsa(Curve::P384, &signature::ECDSA_P384_SHA384_FIXED_SIGNING, &signature::ECDSA_P384_SHA384_FIXED),
        "EdDSA" => Way::Ed25519,
        _ => return None,
    })
}

/// Whether tokens can be signed in this way.
pub fn knows(method: &str) -> bool {
    way(method).is_some()
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("--auth-token: {option}={} cannot be read: {e}", path.display()))
}

fn unusable(option: &str, path: &Path, why: impl std::fmt::Display) -> String {
    format!("--auth-token: {option}={} cannot be used: {why}", path.display())
}

impl Key {
    /// Reads what the options name. With a private key alone, the public one comes from it.
    pub fn open(options: &JwtOptions) -> Result<Self, String> {
        let way = way(&options.method).ok_or_else(|| format!("--auth-token: unknown sign-method {:?}", options.method))?;
        if let Way::Shared(algorithm) = way {
            let path =
                options.private.as_ref().ok_or("--auth-token: priv-key is missing: the key that tokens are signed with")?;
            let secret = read("priv-key", path)?;
            if secret.is_empty() {
                return Err(unusable("priv-key", path, "the file is empty"));
            }
            return Ok(Self::Shared(hmac::Key::new(algorithm, &secret)));
        }
        let private = match &options.private {
            Some(path) => Some(private(&way, &read("priv-key", path)?).map_err(|why| unusable("priv-key", path, why))?),
            None => None,
        };
        let public = match &options.public {
            Some(path) => Some(public(&read("pub-key", path)?).map_err(|why| unusable("pub-key", path, why))?),
            None => None,
        };
        let public = match (private.as_ref().map(Private::public), public) {
            (None, None) => return Err("--auth-token: jwt needs priv-key, or pub-key if tokens are only to be checked".into()),
            (Some(own), Some(public)) if own != public => {
                return Err("--auth-token: pub-key and priv-key do not belong together".into());
            }
            (Some(own), _) => own,
            (None, Some(public)) => public,
        };
        let verify: &'static dyn VerificationAlgorithm = match way {
            Way::Rsa(_, verify) | Way::Ecdsa(_, _, verify) => verify,
            Way::Ed25519 | Way::Shared(_) => &signature::ED25519,
        };
        Ok(Self::Pair { private, public, verify })
    }

    /// Signs, if there is a private key.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Self::Shared(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Self::Pair { private, .. } => private.as_ref().ok_or(Error::VerifyOnlyKey)?.sign(message),
        }
    }

    /// Whether this signature of the message was made with the key.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Shared(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Pair { public, verify, .. } => UnparsedPublicKey::new(*verify, public).verify(message, signature).is_ok(),
        }
    }
}

impl Private {
    fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
            Self::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        let failed = |_| {
            tracing::error!("a token could not be signed");
            Error::Stopped
        };
        match self {
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Self::Ecdsa(pair) => pair.sign(&random, message).map(|s| s.as_ref().to_vec()).map_err(failed),
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// A private key in any of the forms that openssl writes.
fn private(way: &Way, pem: &[u8]) -> Result<Private, String> {
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|e| format!("no private key in PEM form: {e}"))?;
    let unfit = |e: ring::error::KeyRejected| format!("the key does not fit the sign-method: {e}");
    match (way, &der) {
        (Way::Rsa(encoding, _), PrivateKeyDer::Pkcs8(der)) => {
            RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map(|pair| Private::Rsa(Box::new(pair), *encoding)).map_err(unfit)
        }
        (Way::Rsa(encoding, _), PrivateKeyDer::Pkcs1(der)) => {
            RsaKeyPair::from_der(der.secret_pkcs1_der()).map(|pair| Private::Rsa(Box::new(pair), *encoding)).map_err(unfit)
        }
        (Way::Ecdsa(curve, algorithm, _), PrivateKeyDer::Pkcs8(_) | PrivateKeyDer::Sec1(_)) => {
            let der = match &der {
                PrivateKeyDer::Sec1(der) => as_pkcs8(*curve, der.secret_sec1_der()),
                other => other.secret_der().to_vec(),
            };
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der, &SystemRandom::new());
            pair.map(|pair| Private::Ecdsa(Box::new(pair))).map_err(unfit)
        }
        (Way::Ed25519, PrivateKeyDer::Pkcs8(der)) => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
            pair.map(|pair| Private::Ed25519(Box::new(pair))).map_err(unfit)
        }
        _ => Err("it is a key of another kind than the sign-method needs".into()),
    }
}

/// A public key by itself, or that of a certificate; without what says of which kind it is.
fn public(pem: &[u8]) -> Result<Vec<u8>, String> {
    if let Ok(der) = SubjectPublicKeyInfoDer::from_pem_slice(pem) {
        let info = SubjectPublicKeyInfoRef::from_der(&der).map_err(|e| e.to_string())?;
        return Ok(info.subject_public_key.raw_bytes().to_vec());
    }
    let der = CertificateDer::from_pem_slice(pem).map_err(|_| "no public key and no certificate in PEM form".to_owned())?;
    let certificate = Certificate::from_der(&der).map_err(|e| e.to_string())?;
    Ok(certificate.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes().to_vec())
}

/// The form of `EC PRIVATE KEY` does not tell its curve in a place where it is looked for: this is the same key in the form
/// of `PRIVATE KEY` (RFC 5958), which wraps it.
fn as_pkcs8(curve: Curve, sec1: &[u8]) -> Vec<u8> {
    const VERSION: &[u8] = &[0x02, 0x01, 0x00];
    const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
    let curve = match curve {
        Curve::P256 => P256,
        Curve::P384 => P384,
    };
    let algorithm = tagged(0x30, &[EC_PUBLIC_KEY, curve].concat());
    tagged(0x30, &[VERSION, &algorithm, &tagged(0x04, sec1)].concat())
}

/// DER: the tag, how long it is, and what it is.
fn tagged(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let digits = &length[length.iter().take_while(|b| **b == 0).count()..];
    let mut out = vec![tag];
    match digits {
        [short @ 0..=0x7f] => out.push(*short),
        [] => out.push(0),
        // At most eight of them.
        _ => {
            out.push(0x80 | digits.len() as u8);
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(contents);
    out
}
