//! Files that are there whole or not at all: they get their name when what they hold is on disk.

use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::LogError;

/// End of a name that is not the last one. Opening a log removes such files.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// Writes and flushes a file under another name, then gives it its own. The new name is not durable yet.
pub(crate) fn write_whole(disk: &dyn Disk, path: &Path, slices: &[IoSlice<'_>]) -> Result<Arc<dyn DiskFile>, LogError> {
    let temporary = PathBuf::from(format!("{}{TEMPORARY_SUFFIX}", path.display()));
    let io = |action| move |error| LogError::io(action, path, error);
    let file = disk.create(&temporary).map_err(io("create"))?;
    file.write_all_at(slices, 0).map_err(io("write"))?;
    file.sync_data().map_err(io("flush"))?;
    disk.rename(&temporary, path).map_err(io("rename"))?;
    Ok(file)
}

pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    match disk.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(LogError::io("remove", path, error)),
        _ => Ok(()),
    }
}
