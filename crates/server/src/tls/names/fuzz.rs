//! Fuzz target for what is read from the certificates of others.

use keelson_fuzz::{Damage, damaged, target};
use rustls::pki_types::pem::PemObject;

use super::*;

const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBzzCCAXagAwIBAgIUUMLaZqp1mJzBXMau2YDT5GRRyWQwCgYIKoZIzj0EAwIw\n\
HTEKMAgGA1UECgwBbzEPMA0GA1UEAwwGcGVlci0xMB4XDTI2MTEyMzA4NTk1OFoX\n\
DTM2MTEyMDA4NTk1OFowHTEKMAgGA1UECgwBbzEPMA0GA1UEAwwGcGVlci0xMFkw\n\
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEP9Sdy0UiRB8WjUAS491tUkd0dfMul2t\n\
ayPW03gbjl06kw2Qtk7oANfzUEbHxT94ji45QTXoWXnzMKFKPWnXtaOBkzCBkDAd\n\
BgNVHQ4EFgQUiO1AmQtSrb2Zja0DW+ADP2thCWowHwYDVR0jBBgwFoAUiO1AmQtS\n\
rb2Zja0DW+ADP2thCWowQAYDVR0RBDkwN4IObTEuZXhhbXBsZS5jb22CDSouZXhh\n\
bXBsZS5jb22HBAoAAAGHEAAAAAAAAAAAAAAAAAAAAAEwDAYDVR0TAQH/BAIwADAK\n\
BggqhkjOPQQDAgNHADBEAiBIM4wppwBRN8DKj8TsqKFd2TwKEZumNcjD0vbFRq0G\n\
KAIgNatpxBe+20UUTEPTW660NuCfAvoyq9r2j9xhN91LjM8=\n\
-----END CERTIFICATE-----\n";

#[test]
fn any_certificate_has_names_or_cannot_be_read() {
    let whole = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let (addresses, names) = hosts(&parsed(&whole).unwrap()).unwrap();
    assert_eq!((addresses.len(), names.len()), (2, 2));
    let rules = [(vec!["peer-1".to_owned()], vec![]), (vec![], vec!["m1.example.com".to_owned(), "10.0.0.1".to_owned()])];
    let rules = rules.map(|(names, hosts)| Allowed { names, hosts });
    assert!(rules.iter().all(|rule| rule.check(&whole).is_ok()));
    target!(5_000).with_type::<Vec<Damage>>().for_each(|damage| {
        let leaf = CertificateDer::from(damaged(&whole, damage));
        for rule in &rules {
            assert!(rule.check(&leaf).is_ok_and(|()| true) || rule.check(&leaf).is_err_and(|e| !e.is_empty()));
        }
        if let Ok(certificate) = parsed(&leaf)
            && let Err(e) = hosts(&certificate)
        {
            assert!(!e.is_empty());
        }
    });
}
