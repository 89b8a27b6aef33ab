//! A seeded simulator of two and three whole systems: the real shell (arrays, remote pairs, links, journals) on simulated disks, networks
//! and clocks. **The same seed gives the same run, exactly**; that is checked, too.
//!
//! # How a run repeats itself
//!
//! All systems of a run live on one thread, in a tokio runtime whose time is paused: it goes on when nothing is left to do, and jumps to the
//! next moment at which there is. Nothing else runs: disks are memory, whose calls are made when virtual time has passed
//! (`target_core::media::Media::turn`), the journal is written by a task in turns (`replication::machine`), links go over byte streams in
//! memory (`replication::link::Network`), and all chance and all clocks come from the seed. What a run did is one number, the hash
//! of every byte that arrived anywhere and of every line of its [`trace`]; two runs of a seed have the same.
//!
//! # Where things are
//!
//! - [`trace`]: what happened, and its hash. [`machine`]: clocks that are wrong, and chance.
//! - [`disk`]: disks that are slow and lose what was not flushed. [`network`]: connections that are cut after any byte, go silent, are late.
//! - [`site`]: a system, its death and its next life. [`hosts`]: who writes. [`ledger`]: what must be found, which is the oracle.
//! - [`world`]: systems and the pairs between them; [`episode`]: what happens to them. [`run()`]: a run from seed to verdict, [`counts`]: what it had.

pub mod counts;
pub mod disk;
pub mod episode;
pub mod hosts;
pub mod ledger;
pub mod machine;
pub mod network;
pub mod run;
pub mod site;
pub mod trace;
pub mod world;

pub use counts::{Counts, Happening};
pub use run::{Failure, Options, Report, run};

/// Locks, also after a panic, which a run reports for itself.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
