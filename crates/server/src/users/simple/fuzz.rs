//! Fuzz target for simple tokens as clients send them.

use keelson_fuzz::target;

use super::*;

#[test]
fn a_token_tells_the_entry_that_is_written_in_it_or_none() {
    target!(50_000).with_type::<(String, u64)>().for_each(|(any, index)| {
        if let Some(told) = index_of(any) {
            let (_, written) = any.split_once('.').unwrap();
            assert_eq!(written.trim_start_matches('0'), told.to_string().trim_start_matches('0'));
        }
        let letters = any.replace('.', "");
        assert_eq!(index_of(&format!("{letters}.{index}")), Some(*index));
        assert_eq!(index_of(&letters), None);
    });
}
