//! The disk of a node whose config asks for a test's faults.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use duolog_commit_log::{Disk, DiskFile, DiskHook, DiskUsage, HookedDisk, RealDisk};

use crate::config::Testing;

/// The operating system's disk, with the faults where there are any.
pub fn disk(faults: &Testing) -> Arc<dyn Disk> {
    let real: Arc<dyn Disk> = Arc::new(RealDisk);
    if faults.skip_flush {
        tracing::warn!("testing.skip_flush is on: acknowledged records are lost with the power");
    }
    if *faults == (Testing { drop_received_marks: faults.drop_received_marks, ..Testing::default() }) {
        return real;
    }
    Arc::new(HookedDisk::new(real, Arc::new(Faults(faults.clone()))))
}

struct Faults(Testing);

impl DiskHook for Faults {
    fn flush(&self, file: &dyn DiskFile) -> io::Result<()> {
        if self.0.skip_flush {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(self.0.flush_delay_ms));
        file.sync_data()
    }

    fn usage(&self, real: DiskUsage) -> DiskUsage {
        let told = self.0.disk_free_bytes_path.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let free_bytes = told.and_then(|text| text.trim().parse().ok()).unwrap_or(real.free_bytes);
        DiskUsage { free_bytes, ..real }
    }
}
