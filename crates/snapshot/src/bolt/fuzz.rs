//! Fuzz targets for the reader: what it makes of damaged files, and of nodes that somebody made up.

use bolero::TypeGenerator;
use keelson_fuzz::{Damage, damaged, target};

use super::*;

#[derive(Debug, TypeGenerator)]
struct Row {
    key: Vec<u8>,
    len: u16,
}

/// Reads everything there is: an answer or an error.
fn read_all(file: &[u8]) -> Result<usize, ReadError> {
    let database = Database::open(file)?;
    let mut bytes = 0;
    for bucket in database.buckets()? {
        let mut last: Option<Vec<u8>> = None;
        database.visit::<ReadError>(&bucket, |key, value| {
            assert!(last.as_deref().is_none_or(|last| last < key));
            last = Some(key.to_vec());
            bytes += key.len() + value.len();
            Ok(())
        })?;
    }
    Ok(bytes)
}

/// A file with one bucket of these rows.
fn file(rows: &[Row]) -> (Vec<u8>, usize) {
    let rows: std::collections::BTreeMap<_, _> = rows.iter().map(|r| (r.key.as_slice(), usize::from(r.len))).collect();
    let rows: Vec<_> = rows.into_iter().filter(|(key, _)| !key.is_empty()).collect();
    let mut extent = Extent::default();
    rows.iter().for_each(|(key, len)| extent.add(key.len(), *len));
    let mut writer = Writer::begin(Vec::new(), Extent::file_pages([&extent])).unwrap();
    let mut tree = writer.bucket("key");
    rows.iter().for_each(|(key, len)| tree.add(key, &vec![7; *len]).unwrap());
    tree.finish().unwrap();
    (writer.finish().unwrap(), rows.iter().map(|(key, len)| key.len() + len).sum())
}

#[test]
fn rows_survive_a_round_trip_and_a_damaged_file_is_read_as_far_as_it_goes() {
    target!(2_000).with_type::<(Vec<Row>, Vec<Damage>)>().for_each(|(rows, damage)| {
        let (file, bytes) = file(rows);
        assert_eq!(read_all(&file).unwrap(), bytes);
        // The meta pages have checksums: what lies behind them must be looked at as well.
        let (head, body) = file.split_at(2 * PAGE);
        let mut body = damaged(body, damage);
        body.resize(file.len() - head.len(), 0);
        let _ = read_all(&[head, &body].concat());
        let _ = read_all(&damaged(&file, damage));
    });
}

#[test]
fn nodes_of_any_bytes_never_panic_and_never_hang() {
    target!(20_000).for_each(|bytes: &[u8]| {
        let mut file = vec![0; 2 * PAGE];
        let body = bytes.len().div_ceil(PAGE).max(1);
        let meta = Meta { page_size: 4096, root: 2, pages: 2 + body as u64, transaction: 1 };
        file[HEADER..][..META_LEN].copy_from_slice(&meta.encode());
        file.extend_from_slice(bytes);
        file.resize((2 + body) * PAGE, 0);
        // So that more than the first check is reached.
        file[2 * PAGE..][..8].copy_from_slice(&2_u64.to_le_bytes());
        let _ = read_all(&file);
        let _ = read_all(bytes);
    });
}
