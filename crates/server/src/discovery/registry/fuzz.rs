//! Fuzz target for what a registry of members answers.

use keelson_fuzz::target;

use super::*;

const PIECES: [&str; 8] = ["m", "=", ",", "http://", "10.0.0.1", ":", "2380", "/"];

#[test]
fn any_answer_of_a_registry_is_members_with_urls_or_an_error() {
    target!(10_000).with_type::<(String, Vec<u8>, u8)>().for_each(|(any, pieces, number)| {
        match size_of(Some(any.as_str())) {
            Ok(size) => assert!(size > 0),
            Err(e) => assert!(e.to_string().contains("size key is bad")),
        }
        assert_eq!(size_of(Some(number.to_string().as_str())).ok(), (*number > 0).then_some(usize::from(*number)));
        let made: String = pieces.iter().map(|n| PIECES[usize::from(*n) % PIECES.len()]).collect();
        for text in [any, &made] {
            match parse_cluster(text) {
                Ok(members) => assert!(members.values().all(|urls| !urls.is_empty())),
                Err(e) => assert!(!e.is_empty()),
            }
        }
    });
}
