//! A unit to oneself: no command of any nexus is carried out on it meanwhile.
//!
//! WRITE ATOMIC is seen by readers whole or not at all, and a ROD token is made between two writes, not during one. Both
//! close the gates that every command of the unit's nexuses passes, and those of copies that other units do; what is
//! inside ends first, what comes waits. Whoever asks must not be inside itself: it waits outside, and what it was
//! planned with may have changed when its turn comes, so it is planned anew then.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use crate::{
    gate::Gate,
    logical_unit::{ItlNexus, LogicalUnit},
};

/// The unit is quiet until this is dropped.
pub(crate) struct Quiet {
    unit: Arc<LogicalUnit>,
    closed: Vec<Arc<Gate>>,
    /// One at a time.
    _turn: OwnedMutexGuard<()>,
}

impl LogicalUnit {
    /// Waits until nothing is done on this unit, and lets nothing begin.
    pub(crate) async fn quiesce(self: &Arc<Self>) -> Quiet {
        let turn = self.quieting().clone().lock_owned().await;
        let mut quiet = Quiet {
            unit: self.clone(),
            closed: Vec::new(),
            _turn: turn,
        };
        // A nexus that comes from now on has its gate closed from the start.
        let nexuses = self.begin_quiet();
        let gates = nexuses.iter().map(|itl| &itl.tasks).chain([self.copies()]);
        for gate in gates {
            gate.close_and_drain().await;
            quiet.closed.push(gate.clone());
        }
        quiet
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let newcomers: Vec<Arc<ItlNexus>> = self.unit.end_quiet();
        let gates = self.closed.iter().chain(newcomers.iter().map(|itl| &itl.tasks));
        for gate in gates {
            gate.reopen();
        }
    }
}
