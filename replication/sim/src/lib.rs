//! A seeded simulator of the replication engine: disks that lose writes, kills, an oracle.
//!
//! The real engine ([`replication_engine::Engine`]) runs on simulated disks with volatile caches and a simulated journal; hosts read
//! and write everywhere at once, users give every command of the table, effects end in any order, the system is killed or
//! loses power at any step and comes up again. All of it follows from one seed. An oracle that knows nothing of tracks
//! and marks says what each read may find.
//!
//! - [`seeds`]: which of them; [`options`]: seed to profile; [`rng`]: seed to numbers.
//! - [`disk`], [`journal_disk`], [`task`]: what the engine's effects are done to, and how.
//! - [`content`]: what a block may hold; [`oracle`]: what a volume must hold; `check`: what must hold between them.
//! - [`world`], `workload`, `passing`, `crash`: the machine, its users, its end and its beginning.
//! - [`run()`]: a run from seed to verdict.

pub mod commands;
pub mod content;
pub mod disk;
pub mod host;
pub mod journal_disk;
pub mod options;
pub mod oracle;
pub mod rng;
pub mod run;
pub mod seeds;
pub mod task;
pub mod world;

mod check;
mod crash;
mod passing;
mod workload;

pub use options::Options;
pub use run::{Failure, run};
