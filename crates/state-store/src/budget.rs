//! The memory that all RocksDBs of a node share.

use rocksdb::{Cache, WriteBufferManager};

/// One per node: write buffers and block cache of all broker groups. Cloning shares it.
///
/// When the write buffers are full, RocksDB flushes the group that writes; writers are never stalled for it.
#[derive(Clone)]
pub struct StoreBudget {
    cache: Cache,
    write_buffers: WriteBufferManager,
}

impl StoreBudget {
    /// Write buffers of a node, in bytes, unless configured otherwise.
    pub const WRITE_BUFFER_BYTES: usize = 48 << 20;
    /// Block cache of a node, in bytes, unless configured otherwise.
    pub const BLOCK_CACHE_BYTES: usize = 32 << 20;

    /// A budget of its own.
    #[must_use]
    pub fn new(write_buffer_bytes: usize, block_cache_bytes: usize) -> Self {
        Self {
            cache: Cache::new_lru_cache(block_cache_bytes),
            write_buffers: WriteBufferManager::new_write_buffer_manager(write_buffer_bytes, false),
        }
    }

    /// Bytes that write buffers hold now.
    #[must_use]
    pub fn write_buffer_usage_bytes(&self) -> usize {
        self.write_buffers.get_usage()
    }

    /// Bytes that the block cache holds now.
    #[must_use]
    pub fn block_cache_usage_bytes(&self) -> usize {
        self.cache.get_usage()
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn write_buffers(&self) -> &WriteBufferManager {
        &self.write_buffers
    }
}

impl Default for StoreBudget {
    fn default() -> Self {
        Self::new(Self::WRITE_BUFFER_BYTES, Self::BLOCK_CACHE_BYTES)
    }
}
