//! The wall clock, shifted. The monotonic clocks stay right.

use std::ffi::{c_int, c_long};

use crate::control;
use crate::real::{Timespec, Timeval};

pub const WALL: c_int = 0;
const WALL_COARSE: c_int = 5;

/// Monotonic clocks count from the start of the machine, and no machine runs for so long.
const WALL_SECONDS_MIN: c_long = 1_000_000_000;

pub fn is_wall(clock: c_int) -> bool {
    matches!(clock, WALL | WALL_COARSE)
}

pub fn shift(time: &mut Timespec) {
    add(time, control::clock_offset_ms());
}

pub fn shift_micros(time: &mut Timeval) {
    let mut precise = Timespec { seconds: time.seconds, nanos: time.micros * 1_000 };
    shift(&mut precise);
    *time = Timeval { seconds: precise.seconds, micros: precise.nanos / 1_000 };
}

/// A time to wait for, which was computed with the shifted clock, on the clock that the kernel goes by.
pub fn unshift(until: &mut Timespec) {
    if until.seconds >= WALL_SECONDS_MIN {
        add(until, -control::clock_offset_ms());
    }
}

fn add(time: &mut Timespec, offset_ms: i64) {
    let nanos = time.nanos + offset_ms.rem_euclid(1_000) * 1_000_000;
    time.seconds += offset_ms.div_euclid(1_000) + nanos / 1_000_000_000;
    time.nanos = nanos % 1_000_000_000;
}
