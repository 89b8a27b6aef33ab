//! Few words about many failures: what may happen with every I/O is said a few times in a while, and then only counted.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many messages were left out before one that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut(pub u64);

impl LeftOut {
    /// As a field of a log line, which it is only if there were any.
    pub fn noted(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }
}

/// Lets a few messages a period through, and counts those it does not.
#[derive(Debug)]
pub struct Throttle {
    burst: u32,
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the period in hand began; `None` before the first message.
    began: Option<Instant>,
    said: u32,
    left_out: u64,
}

impl Throttle {
    /// Lets `burst` messages through in each `period`, which begins with a message.
    pub const fn new(burst: u32, period: Duration) -> Self {
        let state = State {
            began: None,
            said: 0,
            left_out: 0,
        };
        Self {
            burst,
            period,
            state: Mutex::new(state),
        }
    }

    /// For what every I/O can cause: five in ten seconds.
    pub const fn per_io() -> Self {
        Self::new(5, Duration::from_secs(10))
    }

    /// May a message be said now? If so: how many were left out since the last one that was.
    pub fn admit(&self, now: Instant) -> Option<LeftOut> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= self.period)
        {
            state.began = Some(now);
            state.said = 0;
        }
        if state.said == self.burst {
            state.left_out += 1;
            return None;
        }
        state.said += 1;
        Some(LeftOut(std::mem::take(&mut state.left_out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_the_rest_is_counted_and_said_later() {
        let throttle = Throttle::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let said: Vec<_> = [0, 1, 2, 9, 10, 10, 10]
            .map(|second| throttle.admit(at(second)).map(|left_out| left_out.0))
            .into();
        assert_eq!(said, [Some(0), Some(0), None, None, Some(2), Some(0), None]);
        assert_eq!(throttle.admit(at(99)).and_then(LeftOut::noted), Some(1));
    }
}
