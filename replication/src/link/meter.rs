//! How many bytes went, and how fast of late.

use crate::lock;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Whole seconds that a rate is the mean of.
const SECONDS: u64 = 3;

/// Counts bytes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    total: AtomicU64,
    /// The present second and those before it: which second, and its bytes.
    seconds: Mutex<[(u64, u64); SECONDS as usize + 1]>,
}

impl Meter {
    /// So many more.
    pub(super) fn add(&self, bytes: usize, now: Duration) {
        self.total.fetch_add(bytes as u64, Ordering::Relaxed);
        let second = now.as_secs();
        let mut seconds = lock(&self.seconds);
        let slot = &mut seconds[(second % (SECONDS + 1)) as usize];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += bytes as u64;
    }

    /// All of them.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes a second, over the last whole seconds.
    pub(super) fn rate(&self, now: Duration) -> u64 {
        let second = now.as_secs();
        let seconds = lock(&self.seconds);
        let recent = seconds
            .iter()
            .filter(|(of, _)| *of < second && *of + SECONDS >= second);
        recent.map(|(_, bytes)| bytes).sum::<u64>() / SECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_mean_of_the_last_whole_seconds() {
        let meter = Meter::default();
        let at = |millis| Duration::from_millis(millis);
        for second in 0..10 {
            meter.add(300, at(second * 1000));
            meter.add(300, at(second * 1000 + 500));
        }
        assert_eq!((meter.total(), meter.rate(at(9600))), (6000, 600));
        assert_eq!(meter.rate(at(12_999)), 200);
        assert_eq!(meter.rate(at(13_000)), 0);
    }
}
