//! Errors of the store; each names the directory.

use std::io;
use std::path::{Path, PathBuf};

use duolog_state::StateError;

/// The store failed. The replica stops; it is never repaired by guessing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The files are damaged. The replica must be built again from another one.
    #[error("{path}: state store is corrupt ({operation}): {reason}")]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What RocksDB says: file, position, expected and found checksum.
        reason: String,
    },
    /// RocksDB failed otherwise: no space, no permission, another process has the directory open.
    #[error("{path}: state store failed ({operation}): {reason}")]
    Failed {
        /// The directory.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What RocksDB says.
        reason: String,
    },
    /// A file operation around RocksDB failed.
    #[error("{path}: {operation}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The files are readable, and what they hold cannot be decoded.
    #[error("{path}: {source}")]
    State {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: StateError,
    },
}

impl StoreError {
    pub(crate) fn rocks(path: &Path, operation: &'static str, error: rocksdb::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Corrupt { path, operation, reason: error.into_string() },
            _ => Self::Failed { path, operation, reason: error.into_string() },
        }
    }

    pub(crate) fn io(path: &Path, operation: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), operation, source }
    }
}

impl From<StoreError> for io::Error {
    /// Damage is [`io::ErrorKind::InvalidData`].
    fn from(error: StoreError) -> Self {
        StateError::from(error).into()
    }
}

impl From<StoreError> for StateError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { .. } => Self::Damaged(error.to_string()),
            StoreError::State { ref source, .. } if source.is_damage() => Self::Damaged(error.to_string()),
            _ => Self::Storage(error.to_string()),
        }
    }
}
