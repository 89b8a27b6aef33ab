//! The replication engine's shell: journal file, copy workers, paired volumes.
//!
//! The engine (`replication-engine`) is a pure machine; this package gives it a disk, a clock and hosts.
//!
//! | part | modules |
//! |---|---|
//! | the whole | [`mod@array`], [`array_error`], `membership`, `recovery`, `clock`, `jobs`, `tally`; [`machine`] |
//! | the engine's effects | `perform`, `copy_worker`, `ops` |
//! | I/O that needs none | `passing` |
//! | the journal | [`journal_file`], `journal_writer` |
//! | other systems | [`remote`], `leg` |
//! | what hosts see | [`paired_volume`], [`statistics`] |
//! | other systems | [`link`] |
//! | what administrators see | [`control`], [`events`] |

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod array;
pub mod array_error;
mod clock;
mod compare;
pub mod control;
mod copy_worker;
mod digest;
pub mod events;
mod jobs;
pub mod journal_file;
mod journal_writer;
mod leg;
pub mod link;
pub mod machine;
mod membership;
mod ops;
pub mod paired_volume;
mod passing;
mod perform;
mod recovery;
pub mod remote;
pub mod statistics;
mod tally;
#[cfg(test)]
mod tests;

pub use array::{Array, Opening, Tuning};
pub use array_error::ArrayError;
pub use control::HostUse;
pub use paired_volume::PairedVolume;
pub use tally::Changes;

/// Locks, also after a thread has panicked with the lock held: what these mutexes guard is changed in single steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
