//! The sources of chance and time of a process, as a simulated machine has them: `getrandom` and `clock_gettime` of the C library
//! are replaced for the thread of a simulation. So nothing has to be told what clock or what dice to use: hash maps, UUIDs,
//! election time-outs, and every `Instant::now()` of any crate follow the seed.
//!
//! A thread that takes no part in a simulation gets the real ones.
#![allow(unsafe_code, reason = "two functions of the C library are replaced")]

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::time::Duration;

use libc::{clockid_t, size_t, ssize_t, timespec};

use crate::random::Random;

/// The time at which every simulation begins: 2026-01-01T00:00:00Z.
const EPOCH_S: i64 = 1_767_225_600;

thread_local! {
    static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
    /// Nanoseconds since the beginning.
    static NOW: Cell<u64> = const { Cell::new(0) };
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
    let now = NOW.get();
    let (seconds, nanos) = ((now / 1_000_000_000).cast_signed(), (now % 1_000_000_000).cast_signed());
    // SAFETY: the caller's promise.
    unsafe { *time = timespec { tv_sec: EPOCH_S + seconds, tv_nsec: nanos } };
    0
}
