//! What the workers are to do, which the thread that measures tells them.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Load that does not count.
    Warming,
    Measuring,
    /// No more commands; those in flight are awaited.
    Ending,
}

/// The phase, for all threads to see. Nothing else depends on when they do.
#[derive(Default)]
pub(super) struct Stage(AtomicU8);

impl Stage {
    pub(super) fn phase(&self) -> Phase {
        match self.0.load(Relaxed) {
            0 => Phase::Warming,
            1 => Phase::Measuring,
            _ => Phase::Ending,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Relaxed);
    }

    /// Unless a worker has ended it already.
    pub(super) fn begin_to_measure(&self) {
        let (from, to) = (Phase::Warming as u8, Phase::Measuring as u8);
        let _ = self.0.compare_exchange(from, to, Relaxed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_not_measured() {
        let stage = Stage::default();
        assert_eq!(stage.phase(), Phase::Warming);
        stage.begin_to_measure();
        assert_eq!(stage.phase(), Phase::Measuring);
        stage.enter(Phase::Ending);
        stage.begin_to_measure();
        assert_eq!(stage.phase(), Phase::Ending);
    }
}
