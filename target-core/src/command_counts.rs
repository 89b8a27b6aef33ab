//! How many commands of each operation code came, by nexus and by unit.
//!
//! Each I_T_L nexus counts for itself, so that no two initiators write to one cache line, and counting is one addition that
//! nobody contends for. What ended nexuses counted is kept by their unit.

use std::sync::atomic::{AtomicU64, Ordering};

use scsi_model::opcode_table::{self, CODES};

/// The last is all operation codes that do not exist.
const PLACES: usize = CODES + 1;

/// Counters of one nexus and unit.
#[derive(Debug)]
pub(crate) struct CommandCounts([AtomicU64; PLACES]);

impl Default for CommandCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl CommandCounts {
    pub(crate) fn count(&self, cdb: &[u8]) {
        let place = cdb.first().map_or(CODES, |code| opcode_table::ordinal(*code));
        self.0[place].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedCommands([u64; PLACES]);

impl Default for CountedCommands {
    fn default() -> Self {
        Self([0; PLACES])
    }
}

impl CountedCommands {
    pub(crate) fn add(&mut self, counts: &CommandCounts) {
        for (sum, counted) in self.0.iter_mut().zip(&counts.0) {
            *sum += counted.load(Ordering::Relaxed);
        }
    }

    /// Of those that came at all: what an operation code stands for, and how many came.
    pub fn by_operation(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = opcode_table::code_names().chain(["unknown"]);
        names.zip(self.0).filter(|(_, count)| *count != 0)
    }
}

/// What came to one unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitCommands {
    /// From everybody, since the start.
    pub all: CountedCommands,
    /// From those that are there, by the names of initiator and target.
    pub by_nexus: std::collections::BTreeMap<(String, String), CountedCommands>,
}
