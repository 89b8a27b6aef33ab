//! The clocks: the one that never goes back, what it says on the calendar's, and the CPU time of this process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds of the monotonic clock. One number, not an `Instant`: it is taken for each receive, subtracted for each I/O, and lies in
/// every slot.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Seconds since 1970 at that moment of the monotonic clock, as traces show them.
pub(crate) fn unix_seconds(moment_ns: u64) -> f64 {
    let ago = Duration::from_nanos(now_ns().saturating_sub(moment_ns));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.saturating_sub(ago).as_secs_f64()
}

/// CPU time of this process, ended threads included.
pub(crate) fn own_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

/// These clocks begin at zero.
fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
