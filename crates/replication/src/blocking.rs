//! What waits for a disk, beside the tasks of the runtime.

use std::io;

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs what blocks on a thread of its own; in place on a runtime of one thread, that of a simulation, in which nothing runs beside.
///
/// # Errors
/// Those of `run`; or it panicked.
pub(crate) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => run(),
        _ => tokio::task::spawn_blocking(run).await.map_err(io::Error::other)?,
    }
}
