//! What can go wrong. Corrupt, full and dead are apart, because their remedies are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use duolog_types::LogIndex;

/// An error of the commit log. Cheap to clone: one failure is told to every waiter.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The disk refused. After a failed write or flush the log is dead: every later call answers this error.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "write", "flush".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: Arc<io::Error>,
    },
    /// The disk is full. An append that is refused with this has had no effect, and may be tried again.
    #[error("no space left on the disk of {}", path.display())]
    NoSpace {
        /// The file or directory that could not grow.
        path: PathBuf,
    },
    /// A record below the last position known to be flushed is not what was written. Nothing was changed.
    #[error(
        "{} is corrupt at byte {position_bytes}: {reason} (expected CRC {expected_crc:#010x}, found {found_crc:#010x})",
        file.display()
    )]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where the damaged record begins, in bytes from the start of the file.
        position_bytes: u64,
        /// CRC-32C that the record carries, or that the chain asks for; 0 where there is none.
        expected_crc: u32,
        /// CRC-32C of what was read; 0 where there is none.
        found_crc: u32,
        /// What is wrong, in words.
        reason: &'static str,
    },
    /// The file was written by a newer Duolog.
    #[error("{} has format version {found}, expected at most {supported}: use a newer duolog", file.display())]
    UnsupportedVersion {
        /// The file.
        file: PathBuf,
        /// The version found.
        found: u8,
        /// The newest version this program reads.
        supported: u8,
    },
    /// Entries must follow the last one without a gap.
    #[error("expected an entry with log index {expected}, found {found}")]
    OutOfOrder {
        /// The next log index.
        expected: LogIndex,
        /// The log index that was given.
        found: LogIndex,
    },
    /// Raft may neither read nor truncate at or below the purge mark.
    #[error("log index {index} is not above the purge mark {purged}")]
    Purged {
        /// What was asked for.
        index: LogIndex,
        /// The purge mark, inclusive.
        purged: LogIndex,
    },
    /// A byte range that does not lie within the body.
    #[error("expected a range within {body_bytes} bytes at log index {index}, found {start}..{end}")]
    OutOfRange {
        /// The entry.
        index: LogIndex,
        /// Start of the range.
        start: u32,
        /// End of the range, exclusive.
        end: u32,
        /// Length of the body.
        body_bytes: u32,
    },
    /// A body or a vote over its limit.
    #[error("expected a {what} of at most {bytes_max} bytes, found {bytes}")]
    TooLarge {
        /// "vote" or "body".
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The log was closed, or its last handle dropped, before this was done.
    #[error("the commit log is closed")]
    Closed,
}

impl LogError {
    /// Wraps an error of the disk; a full disk gets its own variant.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            Self::NoSpace { path: path.to_owned() }
        } else {
            Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
        }
    }

    pub(crate) fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
