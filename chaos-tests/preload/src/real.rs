//! The functions that ours stand for, and what of the C library is needed besides.

use std::ffi::{CStr, OsStr, c_char, c_int, c_long, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicPtr, Ordering};

pub const AT_FDCWD: c_int = -100;
pub const EIO: c_int = 5;
pub const ENOSPC: c_int = 28;

/// `struct iovec`.
#[repr(C)]
pub struct Iovec {
    base: *mut c_void,
    length: usize,
}

/// `struct timespec`, with 64 bits.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Timespec {
    pub seconds: c_long,
    pub nanos: c_long,
}

/// `struct timeval`, with 64 bits.
#[repr(C)]
pub struct Timeval {
    pub seconds: c_long,
    pub micros: c_long,
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
    pub fn mmap(at: *mut c_void, length: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64)
    -> *mut c_void;
    pub fn lseek(fd: c_int, offset: i64, whence: c_int) -> i64;
}

pub fn errno() -> c_int {
    // SAFETY: the C library's own place of this thread.
    unsafe { *__errno_location() }
}

pub fn set_errno(to: c_int) {
    // SAFETY: as above.
    unsafe { *__errno_location() = to }
}

/// The next definition of a function after this library's.
fn next(slot: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;
    let known = slot.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: the name ends with a zero byte.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "the C library has no {name:?}");
    slot.store(found, Ordering::Relaxed);
    found
}

macro_rules! real {
    ($($name:ident: fn($($argument:ident: $type:ty),*) -> $result:ty = $symbol:literal;)*) => {
        $(
            /// # Safety
            /// As the function of the C library.
            pub unsafe fn $name($($argument: $type),*) -> $result {
                static SLOT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
                // SAFETY: the type is the one of the C library's header.
                let function: unsafe extern "C" fn($($type),*) -> $result =
                    unsafe { std::mem::transmute(next(&SLOT, $symbol)) };
                unsafe { function($($argument),*) }
            }
        )*
    };
}

real! {
    write: fn(fd: c_int, buffer: *const c_void, length: usize) -> isize = c"write";
    writev: fn(fd: c_int, slices: *const Iovec, count: c_int) -> isize = c"writev";
    pwrite: fn(fd: c_int, buffer: *const c_void, length: usize, at: i64) -> isize = c"pwrite64";
    pwritev: fn(fd: c_int, slices: *const Iovec, count: c_int, at: i64) -> isize = c"pwritev64";
    ftruncate: fn(fd: c_int, length: i64) -> c_int = c"ftruncate64";
    fallocate: fn(fd: c_int, mode: c_int, at: i64, length: i64) -> c_int = c"fallocate64";
    fsync: fn(fd: c_int) -> c_int = c"fsync";
    fdatasync: fn(fd: c_int) -> c_int = c"fdatasync";
    rename: fn(from: *const c_char, to: *const c_char) -> c_int = c"rename";
    unlink: fn(path: *const c_char) -> c_int = c"unlink";
    unlinkat: fn(dir: c_int, path: *const c_char, flags: c_int) -> c_int = c"unlinkat";
    clock_gettime: fn(clock: c_int, time: *mut Timespec) -> c_int = c"clock_gettime";
    gettimeofday: fn(time: *mut Timeval, zone: *mut c_void) -> c_int = c"gettimeofday";
    pthread_cond_timedwait: fn(cond: *mut c_void, mutex: *mut c_void, until: *const Timespec) -> c_int = c"pthread_cond_timedwait";
}

/// The absolute path that a call means; None: it is unknown.
pub fn path(dir: c_int, path: *const c_char) -> Option<PathBuf> {
    // SAFETY: the caller of the call gave a string that ends with a zero byte.
    let path = PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    match (path.is_absolute(), dir) {
        (true, _) => Some(path),
        (false, AT_FDCWD) => std::env::current_dir().ok().map(|here| here.join(path)),
        (false, dir) => std::fs::read_link(format!("/proc/self/fd/{dir}")).ok().map(|dir| dir.join(path)),
    }
}
