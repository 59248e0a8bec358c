//! The operating system's files.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{Disk, DiskFile, DiskUsage};

/// Linux refuses more slices in one call.
const IOV_MAX: usize = 1024;

/// Files of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir_all(parent)?;
        }
        fs::create_dir(dir).or_else(|error| if dir.is_dir() { Ok(()) } else { Err(error) })?;
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in fs::read_dir(dir)? {
            // The log's own names are ASCII; others are not its business.
            names.extend(item?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn random_salt(&self) -> u64 {
        let mut salt = [0u8; 8];
        // SAFETY: the buffer is valid for its 8 bytes.
        let read = unsafe { libc::getrandom(salt.as_mut_ptr().cast(), salt.len(), 0) };
        assert_eq!(read, 8, "the kernel gives up to 256 random bytes without fail");
        u64::from_le_bytes(salt)
    }

    fn usage(&self, dir: &Path) -> io::Result<DiskUsage> {
        let path = CString::new(dir.as_os_str().as_bytes())?;
        let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the path ends with a zero byte, and the kernel fills the whole structure when it returns 0.
        let stat = unsafe {
            if libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            stat.assume_init()
        };
        Ok(DiskUsage { total_bytes: stat.f_blocks * stat.f_frsize, free_bytes: stat.f_bavail * stat.f_frsize })
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_exact_at(&self, buffer: &mut [u8], position_bytes: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, position_bytes)
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], mut position_bytes: u64) -> io::Result<()> {
        let mut rest: Vec<IoSlice<'_>> = slices.iter().filter(|slice| !slice.is_empty()).copied().collect();
        let mut rest = &mut rest[..];
        while !rest.is_empty() {
            let written = pwritev(&self.0, &rest[..rest.len().min(IOV_MAX)], position_bytes)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            position_bytes += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    /// The length grows with the space (no `FALLOC_FL_KEEP_SIZE`): a write into it then changes no length, so fdatasync
    /// need not journal the inode for each group commit. The price is that a file ends in zeros after a crash.
    fn allocate(&self, position_bytes: u64, length_bytes: u64) -> io::Result<()> {
        let off = |bytes: u64| libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
        // SAFETY: only numbers are passed, and the descriptor is open.
        let result = unsafe { libc::fallocate(self.0.as_raw_fd(), 0, off(position_bytes)?, off(length_bytes)?) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::EOPNOTSUPP) { Ok(()) } else { Err(error) }
    }

    fn set_len(&self, length_bytes: u64) -> io::Result<()> {
        self.0.set_len(length_bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// One call; interrupted ones are repeated.
fn pwritev(file: &File, slices: &[IoSlice<'_>], position_bytes: u64) -> io::Result<usize> {
    let position = libc::off_t::try_from(position_bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let count = libc::c_int::try_from(slices.len()).expect("at most IOV_MAX slices");
    loop {
        // SAFETY: IoSlice has the layout of iovec by its documentation, and the slices outlive the call.
        let written = unsafe { libc::pwritev(file.as_raw_fd(), slices.as_ptr().cast(), count, position) };
        match usize::try_from(written) {
            Ok(written) => return Ok(written),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_slices_than_one_call_takes_are_written_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("f")).unwrap();
        file.allocate(0, 8192).unwrap();
        assert_eq!(file.len().unwrap(), 8192);
        let bytes: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
        let slices: Vec<IoSlice<'_>> = bytes.chunks(7).map(IoSlice::new).collect();
        assert!(slices.len() > 2 * IOV_MAX);
        file.write_all_at(&slices, 3).unwrap();
        let mut found = vec![0; bytes.len()];
        file.read_exact_at(&mut found, 3).unwrap();
        assert_eq!(found, bytes);
    }
}
