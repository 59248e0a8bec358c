//! The commit log of one broker group: segments, append, group-commit flush, recovery.
//!
//! It stores Raft entries with opaque bodies, and knows nothing of openraft, of Kafka or of record batches. Votes,
//! appends, truncations and the purge mark go through one ordered queue to a *writer* thread; a *flusher* thread makes
//! them durable, one fdatasync for all that was written before it began. `DESIGN.md`, sections 4 and 5.
//!
//! Invariant: `flushed <= written <= last`, in the order of writing. An entry is never reported flushed before it would
//! survive a power loss, and whatever was reported flushed is found again by [`CommitLog::open`], or the log refuses to
//! open.
//!
//! Deliberately absent: recycled segments, the scrubber, rewriting of sealed segments, the batch table. A log does not
//! lock its directory: one process opens it once.

#![warn(missing_docs)]

mod archive;
mod disk;
mod entry;
mod error;
mod flusher;
mod format;
mod index_file;
mod inspect;
mod log;
mod options;
mod read;
mod recovery;
mod repair;
mod scan;
mod segment;
mod shared;
mod staged;
mod steps;
mod table;
mod tail;
mod whole_file;
mod writer;

pub use archive::ArchiveWriter;
pub use disk::{Disk, DiskFile, DiskHook, DiskUsage, HookedDisk, RealDisk, SimDisk};
pub use entry::{BODY_BYTES_MAX, LogEntry, LogId, VOTE_BYTES_MAX};
pub use error::LogError;
pub use inspect::{FileReport, Finding, inspect};
pub use log::CommitLog;
pub use options::{LogDriver, LogObserver, LogOptions, Recovered, SegmentInfo, SegmentRole, TornTail};
pub use repair::Repair;
pub use shared::FlushCallback;
pub use steps::{LogSteps, Step};
