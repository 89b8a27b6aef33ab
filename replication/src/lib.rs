//! The replication engine's shell: journal file, copy workers, paired volumes.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod events;
pub mod journal_file;
mod journal_writer;
pub mod statistics;

/// Locks, also after a thread has panicked with the lock held: what these mutexes guard is changed in single steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
