//! What the runner asks for: a small file that both sides map.
//!
//! ```text
//!  0         8                 16              24                  32             40
//!  │ alive   │ flush delay, ms │ flushes fail  │ wall clock + ms   │ no room        │     u64 each, the clock's i64; the machine's byte order
//! ```

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::real;

/// Says that the library is at work.
const ALIVE: u64 = 0x6475_6f6c_6f67;

#[repr(C)]
struct Control {
    alive: AtomicU64,
    flush_delay_ms: AtomicU64,
    flush_fails: AtomicU64,
    clock_offset_ms: AtomicI64,
    no_room: AtomicU64,
}

/// None: the runner has told of no file.
static CONTROL: OnceLock<Option<&'static Control>> = OnceLock::new();

fn control() -> Option<&'static Control> {
    *CONTROL.get_or_init(map)
}

/// Without waiting for another thread that is just mapping the file.
pub fn clock_offset_ms() -> i64 {
    CONTROL.get().copied().flatten().map_or(0, |control| control.clock_offset_ms.load(Ordering::Relaxed))
}

pub fn flush_delay() -> Duration {
    Duration::from_millis(control().map_or(0, |control| control.flush_delay_ms.load(Ordering::Relaxed)))
}

pub fn flush_fails() -> bool {
    control().is_some_and(|control| control.flush_fails.load(Ordering::Relaxed) != 0)
}

pub fn has_room() -> bool {
    control().is_none_or(|control| control.no_room.load(Ordering::Relaxed) == 0)
}

/// When the library is loaded, so that the clock knows its offset from the first look on.
extern "C" fn begin() {
    control();
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

fn map() -> Option<&'static Control> {
    const READ_WRITE: i32 = 1 | 2;
    const SHARED: i32 = 1;
    let file = OpenOptions::new().read(true).write(true).open(std::env::var_os("DUOLOG_CHAOS_CONTROL")?).ok()?;
    let length = size_of::<Control>();
    if file.metadata().ok()?.len() < length as u64 {
        return None;
    }
    // SAFETY: a mapping of a file that is long enough; it stays for the life of the process, and all access is atomic.
    let control = unsafe {
        let at = real::mmap(std::ptr::null_mut(), length, READ_WRITE, SHARED, file.as_raw_fd(), 0);
        if at as isize == -1 {
            return None;
        }
        &*at.cast::<Control>()
    };
    control.alive.store(ALIVE, Ordering::Relaxed);
    Some(control)
}
