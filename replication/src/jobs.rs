//! Counts what is under way outside the engine, so that an end can be waited for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// The count. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jobs {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    none: Notify,
}

/// One job, until dropped.
#[derive(Debug)]
pub(crate) struct Running {
    shared: Arc<Shared>,
}

impl Jobs {
    pub(crate) fn start(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::AcqRel);
        Running {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Waits until nothing runs.
    pub(crate) async fn none(&self) {
        loop {
            let none = self.shared.none.notified();
            tokio::pin!(none);
            none.as_mut().enable();
            if self.shared.running.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.shared.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.none.notify_waiters();
        }
    }
}
