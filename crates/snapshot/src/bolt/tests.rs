//! What is written can be read, whatever the sizes; what bbolt writes otherwise can be read, too.

use super::*;

/// A value of so many bytes that differ from place to place.
fn value(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 31 + seed) % 251).unwrap()).collect()
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn write(buckets: &[(&str, Rows)]) -> Vec<u8> {
    let extents: Vec<Extent> = buckets
        .iter()
        .map(|(_, rows)| {
            let mut extent = Extent::default();
            rows.iter().for_each(|(k, v)| extent.add(k.len(), v.len()));
            extent
        })
        .collect();
    let pages = Extent::file_pages(&extents);
    let mut writer = Writer::begin(Vec::new(), pages).unwrap();
    for (name, rows) in buckets {
        let mut tree = writer.bucket(name);
        rows.iter().for_each(|(k, v)| tree.add(k, v).unwrap());
        tree.finish().unwrap();
    }
    let file = writer.finish().unwrap();
    assert_eq!(file.len() as u64, pages * PAGE as u64);
    file
}

fn read(file: &[u8]) -> Vec<(String, Rows)> {
    let database = Database::open(file).unwrap();
    assert_eq!(database.size(), file.len() as u64);
    let read = |bucket: &Bucket| {
        let mut rows = Rows::new();
        database
            .visit::<ReadError>(bucket, |k, v| {
                rows.push((k.to_vec(), v.to_vec()));
                Ok(())
            })
            .unwrap();
        (String::from_utf8(bucket.name.clone()).unwrap(), rows)
    };
    database.buckets().unwrap().iter().map(read).collect()
}

fn rows(count: usize, len: impl Fn(usize) -> usize) -> Rows {
    (0..count).map(|i| ((i as u64).to_be_bytes().to_vec(), value(len(i), i))).collect()
}

#[test]
fn buckets_of_any_size_survive_a_round_trip() {
    // Long keys make branches of branches out of few rows.
    let long = |i: usize| [(i as u64).to_be_bytes().to_vec(), vec![b'k'; 20_000]].concat();
    let buckets: [(&str, Rows); 6] = [
        ("deep", (0..40).map(|i| (long(i), Vec::new())).collect()),
        ("empty", Rows::new()),
        ("large", rows(9, |i| if i % 3 == 0 { 3_000_000 } else { i })),
        ("many", rows(200_000, |i| i % 90)),
        ("one", rows(1, |_| 5)),
        ("exact", rows(16, |_| 4096 - ELEMENT - 8)),
    ];
    let file = write(&buckets);
    let mut want: Vec<(String, Rows)> = buckets.iter().map(|(name, rows)| ((*name).to_owned(), rows.clone())).collect();
    want.sort();
    assert!(read(&file) == want);
}

#[test]
fn the_longest_keys_there_can_be_are_counted_and_written() {
    let key = |i: usize| [(i as u64).to_be_bytes().to_vec(), vec![b'k'; 32768 - 8]].concat();
    // Two of them close a branch.
    for count in [1, 2, 3, 4, 5, 17, 64] {
        let rows: Rows = (0..count).map(|i| (key(i), vec![0; i % 3 * 40_000])).collect();
        let file = write(&[("b", rows.clone())]);
        assert!(read(&file) == [("b".to_owned(), rows)], "{count}");
    }
}

#[test]
fn little_of_a_file_is_left_free() {
    let buckets = [("key", rows(100_000, |i| i % 1500))];
    let bytes: usize = buckets[0].1.iter().map(|(k, v)| ELEMENT + k.len() + v.len()).sum();
    assert!(write(&buckets).len() < bytes + bytes / 12);
}

#[test]
fn rows_that_were_not_counted_or_are_out_of_order_are_refused() {
    let mut writer = Writer::begin(Vec::new(), Extent::file_pages(&[Extent::default()])).unwrap();
    let mut tree = writer.bucket("b");
    tree.add(b"b", b"").unwrap();
    assert!(tree.add(b"a", b"").is_err());
    assert!(tree.add(b"b", b"").is_err());
    let many = (0..10_u8).try_for_each(|i| tree.add(&[b'c', i], &[0; 60_000]));
    assert!(many.and_then(|()| tree.finish()).is_err());
}

#[test]
fn meta_pages_are_bbolts_own() {
    let meta = Meta { page_size: 4096, root: 3, pages: 4, transaction: 0 };
    let bytes = meta.encode();
    assert_eq!(bytes[..16], [0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Meta::decode(&bytes), Some(meta));
    // FNV-1a's published test vectors.
    for (text, sum) in [("", 0xcbf2_9ce4_8422_2325_u64), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)] {
        assert_eq!(checksum(text.as_bytes()), sum);
    }
    for at in 0..META_LEN {
        let mut damaged = bytes;
        damaged[at] ^= 1;
        assert_eq!(Meta::decode(&damaged), None, "{at}");
    }
}

#[test]
fn one_meta_page_is_enough_and_the_newer_one_counts() {
    let file = write(&[("b", rows(3, |i| i))]);
    for page in [0, 1] {
        let mut damaged = file.clone();
        damaged[page * PAGE + HEADER + 20] ^= 1;
        assert_eq!(read(&damaged), read(&file), "{page}");
    }
    let mut both = file.clone();
    both[HEADER] ^= 1;
    both[PAGE + HEADER] ^= 1;
    assert!(Database::open(both.as_slice()).is_err());
    assert!(Database::open(&file[..file.len() - 1]).is_err());
    let newer = Meta { page_size: 4096, root: 2, pages: 3, transaction: 9 };
    let mut other = file;
    other[PAGE + HEADER..][..META_LEN].copy_from_slice(&newer.encode());
    assert_eq!(Database::open(other.as_slice()).unwrap().size(), 3 * 4096);
}

#[test]
fn small_buckets_of_bbolts_lie_inside_of_the_element_that_names_them() {
    // A leaf with one row, k = v, as bbolt writes it into the tree of buckets.
    let mut inline = vec![0; 16];
    inline.extend_from_slice(&header(0, LEAF, 1, 0));
    for field in [0_u32, 16, 1, 1] {
        inline.extend_from_slice(&field.to_le_bytes());
    }
    inline.extend_from_slice(b"kv");
    let mut root = header(2, LEAF, 1, 0).to_vec();
    for field in [IS_BUCKET, 16, 4, u32::try_from(inline.len()).unwrap()] {
        root.extend_from_slice(&field.to_le_bytes());
    }
    root.extend_from_slice(b"meta");
    root.extend_from_slice(&inline);
    let mut file = vec![0; 2 * PAGE];
    let meta = Meta { page_size: 4096, root: 2, pages: 3, transaction: 1 };
    file[HEADER..][..META_LEN].copy_from_slice(&meta.encode());
    file.extend_from_slice(&root);
    file.resize(3 * PAGE, 0);
    assert_eq!(read(&file), [("meta".to_owned(), vec![(b"k".to_vec(), b"v".to_vec())])]);
}

#[test]
fn a_tree_that_leads_back_to_itself_comes_to_an_end() {
    let mut file = write(&[("b", rows(20_000, |_| 10))]);
    // It comes after the leaves, and before what is left free.
    let branch = (2..file.len() / PAGE).rev().find(|page| u16_at(&file, page * PAGE + 8) == Some(BRANCH)).unwrap();
    let child = branch * PAGE + HEADER + 8;
    file[child..][..8].copy_from_slice(&(branch as u64).to_le_bytes());
    let database = Database::open(file.as_slice()).unwrap();
    let bucket = &database.buckets().unwrap()[0];
    assert!(database.visit::<ReadError>(bucket, |_, _| Ok(())).is_err());
    // Twice the same leaf.
    let first = u64_at(&file, child + ELEMENT).unwrap();
    let mut file = file.clone();
    file[child..][..8].copy_from_slice(&first.to_le_bytes());
    let database = Database::open(file.as_slice()).unwrap();
    assert!(database.visit::<ReadError>(&database.buckets().unwrap()[0], |_, _| Ok(())).is_err());
}
