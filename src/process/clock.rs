//! CLOCK_BOOTTIME in milliseconds: the one clock of deadlines, for it counts the time a machine was
//! suspended.

use crate::decide::time::At;

/// Now. Async-signal-safe: no allocation, one call into the kernel's vDSO.
pub fn now() -> At {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec; the call writes nothing else.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    At(time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000)
}
