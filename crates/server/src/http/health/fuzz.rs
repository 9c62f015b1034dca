//! Fuzz target for the parameters of a query.

use keelson_fuzz::target;

use super::*;

#[test]
fn any_query_has_the_parameters_it_was_made_of() {
    target!(30_000).with_type::<(Vec<(String, String)>, String)>().for_each(|(pairs, any)| {
        let plain = |s: &str| !s.contains(['&', '=']);
        let pairs: Vec<_> = pairs.iter().filter(|(k, v)| plain(k) && plain(v)).collect();
        let query = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("&");
        for (name, _) in &pairs {
            let got: Vec<_> = parameters(&query, name).collect();
            let want: Vec<_> = pairs.iter().filter(|(k, _)| k == name).map(|(_, v)| v.as_str()).collect();
            assert_eq!(got, want);
        }
        assert!(parameters(any, "exclude").all(|v| v.len() <= any.len()));
    });
}
