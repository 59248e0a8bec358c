//! Small files that are replaced whole: written beside, fsynced, renamed, and the directory fsynced. And directories.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use duolog_commit_log::{Disk, RealDisk};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a JSON file; `None` when there is none.
///
/// # Errors
/// It cannot be read or is not what was expected; the error names the file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, cannot_be_understood(path, &error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

fn cannot_be_understood(path: &Path, error: &serde_json::Error) -> String {
    format!(
        "{} cannot be understood: {error}; restore the file as it was, or move the data directory away",
        path.display()
    )
}

/// Replaces a JSON file; it is on disk when this returns.
///
/// # Errors
/// It cannot be written.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(value)?;
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Creates a directory, and its parents where they are missing. Their names are on disk when this returns: without that a loss of power
/// may take the directory with everything in it, however often its files were flushed.
///
/// # Errors
/// A directory cannot be created or flushed.
pub fn create_dir_all(dir: &Path) -> io::Result<()> {
    RealDisk.create_dir_all(dir)
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// The directory cannot be opened or flushed.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
