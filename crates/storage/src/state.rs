//! The state store: one RocksDB instance without a write-ahead log. What a crash takes from it is
//! replayed from the raft log, so all tables are flushed together or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use keelson_mvcc::{Backend, Cursor, ReadMode, StorageError, Table, WriteBatch};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator, ErrorKind,
    FlushOptions, Options, ReadOptions, ReadTier, WriteOptions,
};

use crate::failpoint;

/// Sizes that trade memory for speed, in bytes.
#[derive(Clone, Debug)]
pub struct StateOptions {
    /// Blocks of all tables that are kept in memory, indexes and filters included.
    pub block_cache: usize,
    /// Writes of all tables that are collected in memory before they become files.
    pub write_buffer: usize,
    /// Upper bound of background writes per second.
    pub background_bytes_per_second: i64,
    /// Tables that are kept open; `None` for all.
    pub max_open_tables: Option<usize>,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self { block_cache: 64 << 20, write_buffer: 40 << 20, background_bytes_per_second: 256 << 20, max_open_tables: None }
    }
}

/// Bytes that are read at once for a pass over many rows.
const READ_AHEAD: usize = 256 << 10;

/// What to do about damage. Nothing of it is repaired: what is gone may have been acknowledged.
const DAMAGED: &str = "it is damaged: remove this member, empty its data directory and add it again, or restore a backup";

/// Whether there are tables, but not the file that says which of them count. RocksDB would take that for an empty store and
/// remove them.
fn has_lost_its_tables(path: &Path) -> bool {
    let is_table = |entry: fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "sst");
    !path.join("CURRENT").exists() && fs::read_dir(path).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_table)))
}

/// RocksDB's own number for it: it takes 10 off for files that are no tables.
pub(crate) fn max_open_files(tables: Option<usize>) -> i32 {
    tables.map_or(-1, |n| i32::try_from(n + 10).unwrap_or(i32::MAX))
}

/// The state store.
pub struct StateBackend {
    db: Arc<DB>,
    path: PathBuf,
    unlogged: WriteOptions,
    cached: ReadOptions,
    blocking: ReadOptions,
}

const fn name(table: Table) -> &'static str {
    match table {
        Table::Meta => "meta",
        Table::History => "history",
        Table::Revisions => "revisions",
        Table::Live => "live",
    }
}

fn table_options(table: Table, options: &StateOptions, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(16 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(6);
    if table == Table::History {
        blocks.set_bloom_filter(10.0, false);
    }
    let mut cf = Options::default();
    cf.set_block_based_table_factory(&blocks);
    cf.set_write_buffer_size(options.write_buffer / 2);
    cf.set_max_write_buffer_number(4);
    cf.set_level_compaction_dynamic_level_bytes(true);
    cf.set_compression_type(DBCompressionType::Lz4);
    cf.set_target_file_size_base(32 << 20);
    cf.set_max_bytes_for_level_base(128 << 20);
    cf
}

impl StateBackend {
    /// Opens the store in `path`, or begins one where there are no tables. Whether there should be some, the log knows.
    pub fn open(path: &Path, options: &StateOptions) -> Result<Self, StorageError> {
        if has_lost_its_tables(path) {
            let missing = path.join("CURRENT");
            return Err(StorageError(format!("cannot open the state store: {} is missing; {DAMAGED}", missing.display())));
        }
        let cache = Cache::new_lru_cache(options.block_cache);
        let mut db_options = Options::default();
        db_options.create_if_missing(true);
        db_options.create_missing_column_families(true);
        db_options.set_atomic_flush(true);
        db_options.set_max_background_jobs(2);
        db_options.set_bytes_per_sync(1 << 20);
        db_options.set_ratelimiter(options.background_bytes_per_second, 100_000, 10);
        db_options.set_db_write_buffer_size(options.write_buffer);
        db_options.set_max_open_files(max_open_files(options.max_open_tables));
        db_options.set_keep_log_file_num(4);
        db_options.set_max_log_file_size(8 << 20);
        db_options.set_stats_dump_period_sec(0);
        let tables = Table::ALL.map(|t| ColumnFamilyDescriptor::new(name(t), table_options(t, options, &cache)));
        let db = DB::open_cf_descriptors(&db_options, path, tables).map_err(|e| {
            let text = e.to_string();
            // One file names the next: none of them may be missing.
            let advice = if e.kind() == ErrorKind::Corruption || text.contains("No such file or directory") {
                DAMAGED
            } else {
                "check that the disk is in order and has space, and that the files are readable"
            };
            StorageError(format!("cannot open the state store {}: {text}; {advice}", path.display()))
        })?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        let mut cached = ReadOptions::default();
        cached.set_read_tier(ReadTier::BlockCache);
        Ok(Self { db: Arc::new(db), path: path.to_owned(), unlogged, cached, blocking: ReadOptions::default() })
    }

    fn table(&self, table: Table) -> &ColumnFamily {
        handle(&self.db, table)
    }

    fn cursor_with(&self, table: Table, end: Option<&[u8]>, mut options: ReadOptions) -> StateCursor<'_> {
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        StateCursor { iterator: self.db.raw_iterator_cf_opt(self.table(table), options) }
    }

    /// Writes all tables out; after it the log is not needed up to here.
    pub fn flush(&self) -> Result<(), StorageError> {
        failpoint::pass("state-flush");
        let tables = Table::ALL.map(|t| self.table(t));
        self.db.flush_cfs_opt(&tables, &FlushOptions::default()).map_err(error)
    }

    /// The row as it is on disk, whatever is still in memory.
    pub fn get_flushed(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let mut persisted = ReadOptions::default();
        persisted.set_read_tier(ReadTier::Persisted);
        let row = self.db.get_pinned_cf_opt(self.table(table), key, &persisted).map_err(error)?;
        Ok(row.map(|r| Bytes::copy_from_slice(&r)))
    }

    /// Freezes a copy of everything into `path`, which must not exist. Files are shared, not copied.
    pub fn checkpoint(&self, path: &Path) -> Result<(), StorageError> {
        failpoint::pass("checkpoint");
        Checkpoint::new(&self.db).and_then(|c| c.create_checkpoint(path)).map_err(error)
    }

    /// Reads one row of a store that nobody has open.
    pub fn peek(path: &Path, table: Table, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let names = Table::ALL.map(name);
        let db = DB::open_cf_for_read_only(&Options::default(), path, names, false).map_err(error)?;
        let row = db.get_pinned_cf(handle(&db, table), key).map_err(error)?;
        Ok(row.map(|r| Bytes::copy_from_slice(&r)))
    }

    /// Rewrites all tables without their garbage, what was in memory only as well. Takes long, blocks nobody.
    pub fn compact_all(&self) -> Result<(), StorageError> {
        self.flush()?;
        for table in Table::ALL {
            failpoint::pass("defragment");
            self.db.compact_range_cf(self.table(table), None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }

    /// Ends background work for good, a running rewrite included. Call it before the process exits.
    pub fn close(&self) {
        self.db.cancel_all_background_work(true);
    }

    /// Bytes of all files of the store.
    #[must_use]
    pub fn disk_size(&self) -> u64 {
        let property = |p: &str| -> u64 {
            Table::ALL.iter().filter_map(|t| self.db.property_int_value_cf(self.table(*t), p).ok().flatten()).sum()
        };
        property("rocksdb.total-sst-files-size") + property("rocksdb.cur-size-all-mem-tables")
    }

    /// Where the store lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// RocksDB names the file, if it is one.
fn error(e: rocksdb::Error) -> StorageError {
    match e.kind() {
        ErrorKind::Corruption => StorageError(format!("state store: {e}; {DAMAGED}")),
        _ => StorageError(format!("state store: {e}")),
    }
}

/// A batch for the state store.
pub struct StateBatch {
    db: Arc<DB>,
    batch: rocksdb::WriteBatch,
}

fn handle(db: &DB, table: Table) -> &ColumnFamily {
    db.cf_handle(name(table)).expect("every table was opened")
}

impl WriteBatch for StateBatch {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.batch.put_cf(handle(&self.db, table), key, value);
    }
    fn delete(&mut self, table: Table, key: &[u8]) {
        self.batch.delete_cf(handle(&self.db, table), key);
    }
    fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        self.batch.delete_range_cf(handle(&self.db, table), from, to);
    }
    fn size(&self) -> usize {
        self.batch.size_in_bytes()
    }
}

/// A cursor over one table.
pub struct StateCursor<'a> {
    iterator: DBRawIterator<'a>,
}

impl Cursor for StateCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<(), StorageError> {
        self.iterator.seek(key);
        self.iterator.status().map_err(error)
    }
    fn step(&mut self) -> Result<(), StorageError> {
        self.iterator.next();
        if self.iterator.valid() { Ok(()) } else { self.iterator.status().map_err(error) }
    }
    fn row(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item()
    }
}

impl Backend for StateBackend {
    type Batch = StateBatch;
    type Cursor<'a> = StateCursor<'a>;

    fn batch(&self) -> StateBatch {
        StateBatch { db: self.db.clone(), batch: rocksdb::WriteBatch::default() }
    }

    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        failpoint::pass("apply");
        self.db.write_opt(batch.batch, &self.unlogged).map_err(error)
    }

    fn get(&self, table: Table, key: &[u8], mode: ReadMode) -> Result<Option<Bytes>, keelson_mvcc::GetError> {
        let options = match mode {
            ReadMode::CacheOnly => &self.cached,
            ReadMode::Blocking => &self.blocking,
        };
        match self.db.get_pinned_cf_opt(self.table(table), key, options) {
            Ok(row) => Ok(row.map(|r| Bytes::copy_from_slice(&r))),
            Err(e) if mode == ReadMode::CacheOnly && e.kind() == ErrorKind::Incomplete => Err(keelson_mvcc::GetError::WouldBlock),
            Err(e) => Err(error(e).into()),
        }
    }

    fn cursor(&self, table: Table, end: Option<&[u8]>) -> StateCursor<'_> {
        self.cursor_with(table, end, ReadOptions::default())
    }

    fn cursor_for_many(&self, table: Table, end: Option<&[u8]>) -> StateCursor<'_> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(READ_AHEAD);
        self.cursor_with(table, end, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tables_survive_a_flush_together_and_reads_tell_what_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateBackend::open(dir.path(), &StateOptions::default()).unwrap();
        let mut batch = store.batch();
        for table in Table::ALL {
            batch.put(table, b"k", b"v");
        }
        store.write(batch).unwrap();
        assert_eq!(store.get_flushed(Table::Meta, b"k").unwrap(), None);
        store.flush().unwrap();
        let mut later = store.batch();
        later.put(Table::Live, b"later", b"v");
        store.write(later).unwrap();
        drop(store);

        let store = StateBackend::open(dir.path(), &StateOptions::default()).unwrap();
        for table in Table::ALL {
            assert_eq!(store.get(table, b"k", ReadMode::Blocking).unwrap().as_deref(), Some(b"v".as_slice()));
        }
        // A clean close flushes too.
        assert_eq!(store.get_flushed(Table::Live, b"later").unwrap().as_deref(), Some(b"v".as_slice()));
        let copy = dir.path().join("copy");
        store.checkpoint(&copy).unwrap();
        assert_eq!(StateBackend::peek(&copy, Table::Live, b"later").unwrap().as_deref(), Some(b"v".as_slice()));
        let mut cursor = store.cursor(Table::History, Some(b"l"));
        cursor.seek(b"a").unwrap();
        assert_eq!(cursor.row(), Some((b"k".as_slice(), b"v".as_slice())));
        cursor.step().unwrap();
        assert_eq!(cursor.row(), None);
    }

    #[test]
    fn a_row_that_is_not_in_memory_is_not_waited_for_by_who_may_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let open = || StateBackend::open(dir.path(), &StateOptions::default()).unwrap();
        let store = open();
        let mut batch = store.batch();
        batch.put(Table::Live, b"k", b"v");
        store.write(batch).unwrap();
        assert!(store.get(Table::Live, b"k", ReadMode::CacheOnly).is_ok(), "it has just been written");
        store.flush().unwrap();
        drop(store);
        let store = open();
        let cached = || store.get(Table::Live, b"k", ReadMode::CacheOnly);
        assert!(matches!(cached(), Err(keelson_mvcc::GetError::WouldBlock)));
        store.get(Table::Live, b"k", ReadMode::Blocking).unwrap();
        assert_eq!(cached().unwrap().as_deref(), Some(b"v".as_slice()));
    }

    #[test]
    fn tables_that_cannot_be_found_any_more_are_missed_and_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let open = || StateBackend::open(dir.path(), &StateOptions::default());
        let store = open().unwrap();
        let mut batch = store.batch();
        batch.put(Table::Live, b"k", b"v");
        store.write(batch).unwrap();
        store.flush().unwrap();
        drop(store);
        let current = fs::read(dir.path().join("CURRENT")).unwrap();
        fs::remove_file(dir.path().join("CURRENT")).unwrap();
        let text = open().err().expect("it is refused").0;
        assert!(text.contains("CURRENT is missing") && text.contains("restore a backup"), "{text}");
        fs::write(dir.path().join("CURRENT"), current).unwrap();
        let row = open().unwrap().get(Table::Live, b"k", ReadMode::Blocking).unwrap();
        assert_eq!(row.as_deref(), Some(b"v".as_slice()));
    }
}
