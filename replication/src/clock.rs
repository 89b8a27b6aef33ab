//! The engine's time: nanoseconds since the array was opened, never going back.

use std::sync::atomic::{AtomicU64, Ordering};

use replication_engine::ids::Tick;
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Clock {
    opened: Instant,
    /// Nanoseconds that an orderly shutdown has skipped, so that nothing waits for a period to pass.
    skipped: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            opened: Instant::now(),
            skipped: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Tick {
        let elapsed = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Tick(elapsed.saturating_add(self.skipped.load(Ordering::Relaxed)))
    }

    pub(crate) fn skip(&self, nanoseconds: u64) {
        self.skipped.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}
