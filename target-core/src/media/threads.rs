//! A small pool of plain threads for calls that wait for a disk.
//!
//! Each disk has its own, so that one that hangs does not take the others with it. Threads are started when work
//! waits and none is free, up to a limit (the disk's queue depth, in effect), and end when idle. The queue needs no
//! limit of its own: what waits in it is bounded by the command windows of the sessions.

use std::{
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::volume::IoError;

const IDLE_LIFE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send + 'static>;

/// See the module's page. Dropping it ends the threads once the queue is empty.
pub(crate) struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    limit: usize,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Threads {
    /// A pool of at most `limit` threads; none is started yet.
    pub(crate) fn new(name: impl Into<String>, limit: usize) -> Self {
        let shared = Shared {
            name: name.into(),
            limit,
            state: Mutex::default(),
            work: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Queues `job` now; the future only waits for its end, and dropping it does not stop the job.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, IoError> + Send + 'static,
    ) -> impl Future<Output = Result<T, IoError>> + Send + 'static {
        let (answer, end) = oneshot::channel();
        // Nobody may be listening any more: the work was done all the same.
        self.submit(Box::new(move || drop(answer.send(job()))));
        async move {
            end.await
                .unwrap_or_else(|_| Err(IoError::Internal("an I/O thread died".into())))
        }
    }

    fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        state.queue.push_back(job);
        if state.queue.len() <= state.idle {
            self.shared.work.notify_one();
        } else if state.threads < self.shared.limit {
            state.threads += 1;
            let shared = self.shared.clone();
            let started = std::thread::Builder::new()
                .name(self.shared.name.clone())
                .stack_size(256 << 10)
                .spawn(move || shared.work());
            if let Err(error) = started {
                state.threads -= 1;
                if state.threads == 0 {
                    // Nobody would ever come for it. The dropped sender is the error its caller sees.
                    tracing::error!(%error, "cannot start an I/O thread");
                    state.queue.clear();
                }
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            // A job that panics has dropped its answer channel, which is how its caller learns of it.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            if state.closed {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let (woken, timeout) = self
                .work
                .wait_timeout(state, IDLE_LIFE)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn runs_at_most_limit_jobs_at_once_and_all_of_them() {
        let threads = Threads::new("test", 3);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs: Vec<_> = (0..20)
            .map(|index| {
                let (now, most) = (now.clone(), most.clone());
                threads.run(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok(index)
                })
            })
            .collect();
        for (index, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await, Ok(index));
        }
        assert!((2..=3).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_pool_lives_on() {
        let threads = Threads::new("test", 1);
        let bad = threads.run(|| -> Result<(), IoError> { panic!("planted") }).await;
        assert!(matches!(bad, Err(IoError::Internal(_))));
        assert_eq!(threads.run(|| Ok(5)).await, Ok(5));
    }

    #[tokio::test]
    async fn what_was_queued_is_done_after_the_pool_is_gone() {
        let threads = Threads::new("test", 1);
        let first = threads.run(|| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(1)
        });
        let second = threads.run(|| Ok(2));
        drop(threads);
        assert_eq!((first.await, second.await), (Ok(1), Ok(2)));
    }
}
