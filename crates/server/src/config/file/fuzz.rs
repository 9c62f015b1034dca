//! Fuzz target for the configuration file.

use keelson_fuzz::{Damage, damaged, target};

use super::*;

const FILE: &str = "name: a\nquota-backend-bytes: 13\nlog-outputs: [stderr, stdout]\nlisten-client-urls: 'http://127.0.0.1:1'\n\
    watch-progress-notify-interval: 5000000000\nenable-pprof: false\nunknown: {a: &x [1, 2], b: *x}\ninitial-cluster-token: |\n  t\n\
    client-transport-security: {cert-file: /c, client-cert-auth: true, allowed-cn: [a]}\n\
    discovery-config: {token: t, client: {endpoints: [a, b], secure: {key: /k}}}\n";

#[test]
fn any_file_gives_values_that_fit_their_flags_or_an_error() {
    target!(3_000).with_type::<(Vec<Damage>, String)>().for_each(|(damage, text)| {
        for text in [String::from_utf8_lossy(&damaged(FILE.as_bytes(), damage)).as_ref(), text] {
            match parse(text) {
                Ok(found) => {
                    for (name, value) in found.values {
                        let flag = flags::find(name).unwrap();
                        assert!(flags::check(&flag, &value).is_ok(), "{name}={value:?}");
                    }
                }
                Err(e) => assert!(!e.is_empty()),
            }
        }
    });
}
