//! The sources of chance and time of a process, as a simulated machine has them: `getrandom` and `clock_gettime` of the C library
//! are replaced for the thread of a simulation. So nothing has to be told what clock or what dice to use: hash maps, UUIDs,
//! election time-outs, and every `Instant::now()` of any crate follow the seed.
//!
//! Each node has a clock on the wall of its own, which may be wrong. Whose it is follows from the runtime that asks.
//!
//! A thread that takes no part in a simulation gets the real ones.
#![allow(unsafe_code, reason = "two functions of the C library are replaced")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint, c_void};
use std::time::Duration;

use libc::{clockid_t, size_t, ssize_t, timespec};
use tokio::runtime::{Handle, Id};

use crate::random::Random;

/// The time at which every simulation begins: 2026-01-01T00:00:00Z.
const EPOCH_S: i64 = 1_767_225_600;

thread_local! {
    static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
    /// Nanoseconds since the beginning.
    static NOW: Cell<u64> = const { Cell::new(0) };
    /// The node whose tasks a runtime runs; the newest runtimes at the end.
    static RUNTIMES: RefCell<Vec<(Id, u32)>> = const { RefCell::new(Vec::new()) };
    /// Of nodes whose clock is wrong: the clock, and when it was set.
    static WALL_CLOCKS: RefCell<BTreeMap<u32, (WallClock, u64)>> = const { RefCell::new(BTreeMap::new()) };
}

/// How wrong a clock on the wall is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WallClock {
    /// From now on.
    pub offset_ns: i64,
    /// Gains so many parts in a million.
    pub drift_ppm: i64,
    /// It is never off by more.
    pub max_ns: i64,
}

impl WallClock {
    fn offset_ns(self, age_ns: u64) -> i64 {
        let drifted = i64::try_from(age_ns / 1_000_000).unwrap_or(0) * self.drift_ppm;
        (self.offset_ns + drifted).clamp(-self.max_ns, self.max_ns)
    }
}

/// From now on this thread belongs to the simulation of a seed.
pub fn begin(seed: u64) {
    RANDOM.set(Some(seed));
    NOW.set(0);
}

/// Moves the clock.
pub fn set_now(elapsed: Duration) {
    NOW.set(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
}

/// The current runtime is that of a node.
pub fn enter(node: u32) {
    let id = Handle::current().id();
    RUNTIMES.with_borrow_mut(|runtimes| {
        runtimes.retain(|(_, known)| *known != node);
        runtimes.push((id, node));
    });
}

/// The node whose task is running, if it is one's.
pub fn current_node() -> Option<u32> {
    let id = Handle::try_current().ok()?.id();
    RUNTIMES.with_borrow(|runtimes| runtimes.iter().find(|(known, _)| *known == id).map(|(_, node)| *node))
}

/// A node's clock on the wall is wrong from now on.
pub fn set_wall_clock(node: u32, clock: WallClock) {
    WALL_CLOCKS.with_borrow_mut(|clocks| clocks.insert(node, (clock, NOW.get())));
}

/// What the clock on the wall of whoever asks is off by.
fn wall_offset_ns() -> i64 {
    let is_any_wrong = WALL_CLOCKS.with_borrow(|clocks| !clocks.is_empty());
    let Some(node) = is_any_wrong.then(current_node).flatten() else { return 0 };
    WALL_CLOCKS.with_borrow(|clocks| {
        let wrong = clocks.get(&node).map(|(clock, set_at)| clock.offset_ns(NOW.get().saturating_sub(*set_at)));
        wrong.unwrap_or(0)
    })
}

fn is_simulated() -> bool {
    RANDOM.get().is_some()
}

fn fill(bytes: &mut [u8]) {
    let mut random = Random::new(RANDOM.get().unwrap_or_default());
    for chunk in bytes.chunks_mut(8) {
        let word = random.next().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    RANDOM.set(Some(random.state()));
}

/// As getrandom(2).
///
/// # Safety
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if !is_simulated() {
        // SAFETY: the caller's promise.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as ssize_t;
    }
    // SAFETY: the caller's promise.
    fill(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), length) });
    length as ssize_t
}

/// As clock_gettime(2).
///
/// # Safety
/// `time` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    if !is_simulated() {
        // SAFETY: the caller's promise.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    let mut now = NOW.get();
    if matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE) {
        // Nothing begins before the simulation has run for longer than a clock may be wrong.
        now = now.saturating_add_signed(wall_offset_ns());
    }
    let (seconds, nanos) = ((now / 1_000_000_000).cast_signed(), (now % 1_000_000_000).cast_signed());
    // SAFETY: the caller's promise.
    unsafe { *time = timespec { tv_sec: EPOCH_S + seconds, tv_nsec: nanos } };
    0
}
