//! When to call again: soon at first, then less and less often, and never all at the same moment.

use std::time::Duration;

/// A back-off. It doubles from `first` to `most`; each wait is shortened by up to a half, at random, so that systems which
/// lost their links together do not call together.
#[derive(Debug, Clone)]
pub struct Reconnect {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Reconnect {
    /// Waits from `first` to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// A connection ended that was open for so long (zero: a call that failed). How long to wait before the next call;
    /// `jitter` is random. Only one that was open longer than the longest wait starts the back-off anew: a link that opens and
    /// breaks at once is not to be called at the fastest rate for ever.
    pub fn wait(&mut self, open: Duration, jitter: u32) -> Duration {
        if open >= self.most {
            self.next = self.first;
        }
        let wait = self.next;
        self.next = (self.next * 2).min(self.most);
        let shorter = wait.as_nanos() / 2 * u128::from(jitter) / u128::from(u32::MAX);
        wait.saturating_sub(Duration::from_nanos(shorter as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(10);

    #[test]
    fn waits_double_up_to_the_most_and_begin_anew_after_a_good_connection() {
        let mut reconnect = Reconnect::new(FIRST, MOST);
        let waits: Vec<u128> = (0..9)
            .map(|_| reconnect.wait(Duration::ZERO, 0).as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(reconnect.wait(MOST / 2, 0), MOST);
        assert_eq!(reconnect.wait(MOST, 0), FIRST);
    }

    proptest! {
        #[test]
        fn jitter_takes_at_most_a_half(jitter in any::<u32>(), failures in 0..12) {
            let mut reconnect = Reconnect::new(FIRST, MOST);
            let mut plain = reconnect.clone();
            for _ in 0..failures {
                reconnect.wait(Duration::ZERO, 7);
                plain.wait(Duration::ZERO, 0);
            }
            let (longest, wait) = (plain.wait(Duration::ZERO, 0), reconnect.wait(Duration::ZERO, jitter));
            prop_assert!(wait <= longest && wait >= longest / 2);
        }
    }
}
