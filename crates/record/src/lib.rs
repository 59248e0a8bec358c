//! Kafka's record batch v2, byte for byte the on-disk format, and the log entry that carries batches.
//!
//! - [`RecordBatch`], [`BatchView`]: a batch and its header, without copying;
//! - [`split_batches`], [`validate_records`]: what a producer may send;
//! - [`RecordIter`], [`first_record_at_or_after`], [`max_timestamp_record`]: looking into a batch;
//! - [`BatchBuilder`]: making one;
//! - [`entry`]: the body of a log entry of kind "batches";
//! - [`group`]: the records of consumer groups and committed offsets.
//!
//! Invariant: no input, however damaged, makes a function here panic or allocate by a length that it claims.
//! Deliberately absent: message formats 0 and 1 (Kafka 4 dropped them), offset assignment, topic limits.

mod batch;
mod builder;
mod compression;
pub mod entry;
mod error;
mod filter;
pub mod group;
mod header;
mod lookup;
mod merge;
pub mod patch;
mod record;
mod split;

mod validate;
mod varint;

pub use batch::RecordBatch;
pub use builder::{BatchBuilder, BuildError};
pub use compression::Compression;
pub use error::{BatchError, BatchErrorKind};
pub use filter::{BatchFilter, KEYS_HEADER, MESSAGE_ID_HEADER, NameFilter, NameSearch, TAG_HEADER, TagFilter};
pub use header::{BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, BatchView, TimestampKind};
pub use lookup::{first_record_at_or_after, max_timestamp_record};
pub use record::{Record, RecordHeader, RecordIter};
pub use split::split_batches;

pub use validate::{RecordsSummary, validate_records};
