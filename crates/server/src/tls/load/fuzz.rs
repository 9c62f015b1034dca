//! Fuzz target for PEM files.

use keelson_fuzz::{Damage, damaged, target};

use super::*;

const FILE: &[u8] = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n# two\n-----BEGIN CERTIFICATE-----\n\
    MAAwAA==\n-----END CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n\
    -----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";

#[test]
fn any_file_has_certificates_keys_and_lists_or_an_error_that_names_it() {
    let file = Named { flag: "--cert-file".into(), path: "/x".into() };
    target!(5_000).with_type::<(Vec<Damage>, Vec<u8>)>().for_each(|(damage, bytes)| {
        for bytes in [damaged(FILE, damage), bytes.clone()] {
            let errors = [
                certificates(&file, &bytes).err(),
                key(&file, &bytes).err(),
                lists(&file, bytes).and_then(|l| newest(&file, l)).err(),
            ];
            assert!(errors.iter().flatten().all(|e| e.contains("--cert-file=/x")), "{errors:?}");
        }
    });
}
