//! A library that the chaos runner preloads (`LD_PRELOAD`) into nodes: a disk that can be slow, fail, and forget what was not
//! flushed, and a wall clock that can be wrong. ADR 0022.
//!
//! Functions of the C library are replaced; each calls the real one. What reached the disk is kept beside the data, in the shadow:
//!
//! ```text
//!  shadow/content/INODE   the file as of its last fsync or fdatasync
//!  shadow/names/INODE     a directory's names as of its last fsync: a line "INODE KIND NAME" each, d or f
//!  shadow/removed/INODE   a removed file, as long as its directory was not flushed
//! ```
//!
//! After SIGKILL the runner cuts the data back to a state that a loss of power could have left (`power.rs` of the runner). A page is
//! marked after it was written and copied after it was flushed, so that nothing that was promised can be missing in the shadow.
//!
//! Deliberately without dependencies: the runner's build script compiles this file alone and carries the result in its binary.

mod clock;
mod control;
mod disk;
mod real;

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_long, c_void};

use real::{Iovec, Timespec, Timeval};

thread_local! {
    /// Calls of our own go to the real functions.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Does something with files of ours, unless this thread is doing so already.
fn outside(work: impl FnOnce()) {
    let entered = INSIDE.try_with(|inside| !inside.replace(true)).unwrap_or(false);
    if entered {
        let errno = real::errno();
        work();
        real::set_errno(errno);
        let _ = INSIDE.try_with(|inside| inside.set(false));
    }
}

/// A full disk takes the beginning of a write that is longer than this, and of any other nothing.
const LAST_ROOM_BYTES: usize = 4_096;

/// How much of a write finds room; None: nothing does.
fn room(fd: c_int, length: usize) -> Option<usize> {
    let mut is_full = false;
    if !control::has_room() {
        outside(|| is_full = disk::is_watched(fd));
    }
    match is_full {
        false => Some(length),
        true if length > LAST_ROOM_BYTES => Some(length / 2),
        true => None,
    }
}

fn no_room() -> isize {
    real::set_errno(real::ENOSPC);
    -1
}

/// Marks what a call has written; `at` None: where the file's position was before.
fn wrote(fd: c_int, at: Option<i64>, result: isize) -> isize {
    if result > 0 {
        outside(|| disk::wrote(fd, at, result as u64));
    }
    result
}

/// # Safety
/// As `write(2)`. So it is with all functions here: the caller keeps the contract of the function of the same name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, length: usize) -> isize {
    room(fd, length).map_or_else(no_room, |room| wrote(fd, None, unsafe { real::write(fd, buffer, room) }))
}

/// # Safety
/// As `writev(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, slices: *const Iovec, count: c_int) -> isize {
    // Whole or not at all: where it would be cut does not matter.
    room(fd, 0).map_or_else(no_room, |_| wrote(fd, None, unsafe { real::writev(fd, slices, count) }))
}

/// # Safety
/// As `pwrite(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, buffer: *const c_void, length: usize, at: i64) -> isize {
    room(fd, length).map_or_else(no_room, |room| wrote(fd, Some(at), unsafe { real::pwrite(fd, buffer, room, at) }))
}

/// # Safety
/// As `pwrite(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, buffer: *const c_void, length: usize, at: i64) -> isize {
    unsafe { pwrite(fd, buffer, length, at) }
}

/// # Safety
/// As `pwritev(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(fd: c_int, slices: *const Iovec, count: c_int, at: i64) -> isize {
    // Whole or not at all: where it would be cut does not matter.
    room(fd, 0).map_or_else(no_room, |_| wrote(fd, Some(at), unsafe { real::pwritev(fd, slices, count, at) }))
}

/// # Safety
/// As `pwritev(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64(fd: c_int, slices: *const Iovec, count: c_int, at: i64) -> isize {
    unsafe { pwritev(fd, slices, count, at) }
}

/// # Safety
/// As `ftruncate(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: i64) -> c_int {
    let result = unsafe { real::ftruncate(fd, length) };
    outside(|| disk::changed_from(fd, length));
    result
}

/// # Safety
/// As `ftruncate(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    unsafe { ftruncate(fd, length) }
}

/// # Safety
/// As `fallocate(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, at: i64, length: i64) -> c_int {
    const KEEP_SIZE: c_int = 1;
    if room(fd, 0).is_none() {
        return no_room() as c_int;
    }
    let result = unsafe { real::fallocate(fd, mode, at, length) };
    // To allocate changes no byte; everything else does.
    if mode & !KEEP_SIZE != 0 {
        outside(|| disk::changed_from(fd, at));
    }
    result
}

/// # Safety
/// As `fallocate(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, at: i64, length: i64) -> c_int {
    unsafe { fallocate(fd, mode, at, length) }
}

/// # Safety
/// As `fsync(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    flush(fd, real::fsync)
}

/// # Safety
/// As `fdatasync(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    flush(fd, real::fdatasync)
}

fn flush(fd: c_int, real: unsafe fn(c_int) -> c_int) -> c_int {
    let mut fails = false;
    outside(|| {
        if disk::is_watched(fd) {
            std::thread::sleep(control::flush_delay());
            fails = control::flush_fails();
        }
    });
    if fails {
        real::set_errno(real::EIO);
        return -1;
    }
    // SAFETY: the caller's descriptor, as in the call that this one stands for.
    let result = unsafe { real(fd) };
    if result == 0 {
        outside(|| disk::flushed(fd));
    }
    result
}

/// # Safety
/// As `rename(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    outside(|| disk::removing(real::path(real::AT_FDCWD, to)));
    unsafe { real::rename(from, to) }
}

/// # Safety
/// As `unlink(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    outside(|| disk::removing(real::path(real::AT_FDCWD, path)));
    unsafe { real::unlink(path) }
}

/// # Safety
/// As `unlinkat(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
    const AT_REMOVEDIR: c_int = 0x200;
    if flags & AT_REMOVEDIR == 0 {
        outside(|| disk::removing(real::path(dir, path)));
    }
    unsafe { real::unlinkat(dir, path, flags) }
}

/// # Safety
/// As `clock_gettime(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let result = unsafe { real::clock_gettime(clock, time) };
    if result == 0 && clock::is_wall(clock) {
        unsafe { clock::shift(&mut *time) };
    }
    result
}

/// # Safety
/// As `gettimeofday(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut Timeval, zone: *mut c_void) -> c_int {
    let result = unsafe { real::gettimeofday(time, zone) };
    if result == 0 && !time.is_null() {
        unsafe { clock::shift_micros(&mut *time) };
    }
    result
}

/// # Safety
/// As `time(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(to: *mut c_long) -> c_long {
    let mut now = Timespec::default();
    unsafe { clock_gettime(clock::WALL, &mut now) };
    if !to.is_null() {
        unsafe { *to = now.seconds };
    }
    now.seconds
}

/// # Safety
/// As `pthread_cond_timedwait(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_timedwait(
    cond: *mut c_void,
    mutex: *mut c_void,
    until: *const Timespec,
) -> c_int {
    let mut until = unsafe { *until };
    clock::unshift(&mut until);
    unsafe { real::pthread_cond_timedwait(cond, mutex, &until) }
}
