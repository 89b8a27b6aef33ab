//! A number that goes up, and who waits for it to.
//!
//! Those who wait are woken in the order in which they came: a simulation that is to repeat a run exactly needs that, and
//! `tokio::sync::watch` wakes them in an order of chance.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: AtomicU64,
    went_up: Notify,
}

impl Tally {
    /// One more.
    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub(crate) fn add(&self, more: u64) {
        self.count.fetch_add(more, Ordering::AcqRel);
        self.went_up.notify_waiters();
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Until there are so many.
    pub(crate) async fn reach(&self, count: u64) {
        loop {
            let mut went_up = pin!(self.went_up.notified());
            went_up.as_mut().enable();
            if self.count() >= count {
                return;
            }
            went_up.await;
        }
    }
}

/// Sees what changes after a moment.
#[derive(Debug)]
pub struct Changes {
    tally: Arc<Tally>,
    seen: u64,
}

impl Changes {
    /// What changes from now on.
    pub(crate) fn of(tally: &Arc<Tally>) -> Self {
        let (tally, seen) = (Arc::clone(tally), tally.count());
        Self { tally, seen }
    }

    /// What has changed until now is seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.tally.count();
    }

    /// Until something has changed that was not seen; then it is.
    pub async fn changed(&mut self) {
        self.tally.reach(self.seen + 1).await;
        self.mark_unchanged();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, task::Context, task::Poll, task::Waker};

    use super::*;

    #[test]
    fn a_change_is_seen_once_and_none_is_missed() {
        let tally = Arc::new(Tally::default());
        tally.add_one();
        let mut changes = Changes::of(&tally);
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut changed = pin!(changes.changed());
            assert!(
                changed.as_mut().poll(&mut context).is_pending(),
                "that was before"
            );
            tally.add_one();
            assert_eq!(changed.as_mut().poll(&mut context), Poll::Ready(()));
        }
        tally.add_one();
        assert_eq!(pin!(changes.changed()).poll(&mut context), Poll::Ready(()));
        tally.add_one();
        changes.mark_unchanged();
        assert!(pin!(changes.changed()).poll(&mut context).is_pending());
        assert!(pin!(tally.reach(5)).poll(&mut context).is_pending());
        assert_eq!(pin!(tally.reach(4)).poll(&mut context), Poll::Ready(()));
    }
}
