//! What a process uses, from `/proc`. A process that has ended uses nothing.

use std::{fs, iter::Sum, ops::Sub};

use rustix::param::clock_ticks_per_second;

/// What processes have used of the CPUs since they began, all their threads together.
#[derive(Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// Nanoseconds that the scheduler has let the threads run that exist still (`/proc/PID/task/*/schedstat`).
    pub(crate) run_ns: u64,
    /// And those in which they could have run, and others did.
    pub(crate) wait_ns: u64,
    /// Microseconds in user space and in the kernel, from the ticks of `/proc/PID/stat`.
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    /// How often a thread went to sleep by itself.
    pub(crate) voluntary_switches: u64,
}

impl CpuTime {
    /// Of these processes together, now.
    pub(crate) fn of(processes: &[u32]) -> Self {
        processes.iter().map(|process| Self::of_one(*process)).sum()
    }

    fn of_one(process: u32) -> Self {
        let mut time = Self::default();
        if let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) {
            (time.user_us, time.system_us) = ticks_us(&stat).unwrap_or_default();
        }
        for thread in fs::read_dir(format!("/proc/{process}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let text = |file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            let schedstat = text("schedstat");
            let mut nanoseconds = schedstat
                .split_whitespace()
                .map_while(|field| field.parse::<u64>().ok());
            time.run_ns += nanoseconds.next().unwrap_or(0);
            time.wait_ns += nanoseconds.next().unwrap_or(0);
            time.voluntary_switches += field(&text("status"), "voluntary_ctxt_switches:").unwrap_or(0);
        }
        time
    }
}

impl Sum for CpuTime {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), |sum, time| Self {
            run_ns: sum.run_ns + time.run_ns,
            wait_ns: sum.wait_ns + time.wait_ns,
            user_us: sum.user_us + time.user_us,
            system_us: sum.system_us + time.system_us,
            voluntary_switches: sum.voluntary_switches + time.voluntary_switches,
        })
    }
}

/// What was used since `earlier`; 0 where threads that had used more have ended.
impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            run_ns: self.run_ns.saturating_sub(earlier.run_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
            voluntary_switches: self.voluntary_switches.saturating_sub(earlier.voluntary_switches),
        }
    }
}

/// Resident memory in KiB.
pub(crate) fn resident_kib(process: u32) -> u64 {
    fs::read_to_string(format!("/proc/{process}/status"))
        .ok()
        .and_then(|status| field(&status, "VmRSS:"))
        .unwrap_or(0)
}

/// `utime` and `stime` of a line of `stat`, in microseconds. The name before them is in parentheses and may have any bytes in it.
fn ticks_us(stat: &str) -> Option<(u64, u64)> {
    let mut after_name = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let mut ticks = || {
        let ticks: u64 = after_name.next()?.parse().ok()?;
        Some(ticks * 1_000_000 / clock_ticks_per_second())
    };
    Some((ticks()?, ticks()?))
}

/// The number after this name in a file of lines `name: number [unit]`.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_after_a_name_with_parentheses_and_spaces() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        let tick = 1_000_000 / clock_ticks_per_second();
        assert_eq!(ticks_us(stat), Some((250 * tick, 50 * tick)));
        assert_eq!(ticks_us("7 (cut"), None);
        assert_eq!(ticks_us("7 (cut) S 1"), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "VmHWM:\t  900 kB\nVmRSS:\t  812 kB\nvoluntary_ctxt_switches:\t31\nnonvoluntary_ctxt_switches:\t4\n";
        assert_eq!(field(status, "VmRSS:"), Some(812));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(31));
        assert_eq!(field(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_run_and_has_memory_and_one_that_is_none_has_not() {
        let own = std::process::id();
        assert!(CpuTime::of(&[own]).run_ns > 0);
        assert!(resident_kib(own) > 0);
        // The highest number of a process is 2^22.
        assert_eq!((CpuTime::of(&[u32::MAX]).run_ns, resident_kib(u32::MAX)), (0, 0));
    }
}
