//! When a pair that a fault suspended is tried again (decision 10 of docs/pairs.md).
//!
//! What keeps a far volume from being written may last, as a full disk there does, and only a try finds that out: it sends what may not arrive. So the first
//! try comes at once, which after a lost link is all that is needed, and from then on each comes a pause after the one before, twice as long each
//! time, up to a limit. A pair that has become equal begins anew, and so does one whose link was lost: that is another fault.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use replication_engine::{Limits, ids::VolumeId};
use tokio::time::Instant;

use crate::lock;

/// The pairs that were tried and are not equal yet, by their foreign volumes.
#[derive(Debug, Default)]
pub(super) struct Again(Mutex<BTreeMap<VolumeId, Try>>);

#[derive(Debug, Clone, Copy)]
struct Try {
    /// The earliest moment of the next one.
    next: Instant,
    pause: Duration,
}

impl Again {
    /// Is it time? Then this is a try.
    pub(super) fn is_due(&self, pair: VolumeId, now: Instant, limits: &Limits) -> bool {
        let mut tried = lock(&self.0);
        let before = tried.get(&pair).copied();
        if before.is_some_and(|before| now < before.next) {
            return false;
        }
        let most = Duration::from_nanos(limits.resume_after_most);
        let pause = before.map_or(Duration::from_nanos(limits.resume_after), |before| {
            before.pause.saturating_mul(2).min(most)
        });
        let next = now + pause;
        tried.insert(pair, Try { next, pause });
        true
    }

    /// The fault is over, or is another one.
    pub(super) fn forget(&self, pair: VolumeId) {
        lock(&self.0).remove(&pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_the_pair_is_equal() {
        let second = 1_000_000_000;
        let limits = Limits {
            resume_after: second,
            resume_after_most: 3 * second,
            ..Limits::default()
        };
        let (again, begun) = (Again::default(), Instant::now());
        let due = |pair, at: u64| again.is_due(VolumeId(pair), begun + Duration::from_secs(at), &limits);
        let times: Vec<u64> = (0..12).filter(|second| due(1, *second)).collect();
        assert_eq!(times, [0, 1, 3, 6, 9]);
        assert!(due(2, 9), "another pair has pauses of its own");
        assert!(!due(1, 11));
        again.forget(VolumeId(1));
        assert!(due(1, 11));
        assert!(!due(1, 11) && due(1, 12));
    }
}
