//! Fuzz target for the file that says whose data directory it is.

use keelson_fuzz::{Damage, damaged, target};

use super::*;

#[test]
fn an_identity_survives_a_round_trip_and_a_damaged_file_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = std::panic::AssertUnwindSafe(DataDir::open(dir.path()).unwrap());
    target!(20_000).with_type::<(String, u64, u64, Vec<Damage>)>().for_each(|(uuid, cluster_id, member_id, damage)| {
        let identity = Identity::new(uuid.clone(), *cluster_id, *member_id);
        let text = serde_json::to_vec_pretty(&identity).unwrap();
        assert_eq!(open.parse_identity(&text).unwrap(), identity);
        match open.parse_identity(&damaged(&text, damage)) {
            Ok(got) => assert!((format::OLDEST..=format::newest()).contains(&got.format)),
            Err(e @ DataDirError::Damaged { .. }) => assert!(e.to_string().contains("identity.json is damaged"), "{e}"),
            Err(DataDirError::TooNew { found, .. }) => assert!(found > format::newest()),
            Err(e) => panic!("{e}"),
        }
    });
}
