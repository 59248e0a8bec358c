//! How RocksDB is set up, and why.

use duolog_state::TableId;
use rocksdb::{BlockBasedOptions, ColumnFamilyDescriptor, DBCompressionType, Options};

use crate::StoreBudget;

/// Largest memtable of one table; the node's budget flushes earlier when several groups are busy.
const WRITE_BUFFER_BYTES: usize = 16 << 20;
/// A memtable grows in pieces of this size. The budget counts whole pieces: with RocksDB's default of 1 MiB the twelve
/// tables of four groups would take 48 MiB of it with a row each.
const ARENA_BLOCK_BYTES: usize = 64 << 10;
const OPEN_FILES_MAX: i32 = 256;
const BACKGROUND_JOBS: i32 = 2;

pub(crate) fn database(budget: &StoreBudget) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Tables become durable together or not at all: there is no write-ahead log that could join them again.
    options.set_atomic_flush(true);
    options.set_write_buffer_manager(budget.write_buffers());
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_bytes_per_sync(1 << 20);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    options.set_stats_dump_period_sec(0);
    options
}

pub(crate) fn tables(budget: &StoreBudget) -> Vec<ColumnFamilyDescriptor> {
    let descriptor = |table: TableId| ColumnFamilyDescriptor::new(table.name(), table_options(budget));
    // RocksDB always has "default"; it stays empty, but its memtable belongs to the budget too.
    let default = ColumnFamilyDescriptor::new("default", table_options(budget));
    std::iter::once(default).chain(TableId::ALL.into_iter().map(descriptor)).collect()
}

fn table_options(budget: &StoreBudget) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(budget.cache());
    // Index and filter blocks count against the budget as well.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // Whole keys: `get` of producers, offsets and topics. The consume queue is read by seeks around a key, which a
    // prefix filter does not help (a partition that is asked for exists), so there is no prefix extractor.
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_arena_block_size(ARENA_BLOCK_BYTES);
    options
}
