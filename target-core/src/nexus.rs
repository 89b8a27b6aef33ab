//! An I_T nexus: where commands arrive, and what happens to its logical units when it resets or ends.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    command::{Execution, ScsiCommand, ScsiResponse},
    logical_unit::LogicalUnit,
    lun_map::{Access, LunMap},
    target::{InitiatorPort, Target},
};

/// Why a task management function was not performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TmfRefusal {
    /// Response 2: LUN does not exist.
    #[error("the LUN does not exist")]
    LunDoesNotExist,
}

/// The path of one initiator port to one target port.
pub struct Nexus {
    target: Arc<Target>,
    initiator: InitiatorPort,
    portal_group: u16,
    luns: ArcSwap<LunMap>,
}

impl Nexus {
    pub(crate) fn new(
        target: Arc<Target>,
        initiator: InitiatorPort,
        portal_group: u16,
        access: &Access,
    ) -> Arc<Self> {
        Arc::new(Self {
            target,
            initiator,
            portal_group,
            luns: ArcSwap::from_pointee(LunMap::new(access)),
        })
    }

    /// The initiator port.
    pub fn initiator(&self) -> &InitiatorPort {
        &self.initiator
    }

    /// The target.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Target portal group tag.
    pub fn portal_group(&self) -> u16 {
        self.portal_group
    }

    /// Begins a command. What can be done without waiting is done before this returns.
    pub fn execute(self: &Arc<Self>, command: ScsiCommand) -> Execution {
        let _ = command;
        Execution::Done(ScsiResponse {
            status: 0x08,
            ..ScsiResponse::default()
        })
    }

    /// The logical unit behind this LUN: the same unit has other LUNs for other initiators.
    pub fn logical_unit(&self, lun: [u8; 8]) -> Option<Arc<LogicalUnit>> {
        self.luns.load().get(lun).map(|entry| entry.unit.clone())
    }

    /// Is there a logical unit behind this LUN for this initiator?
    pub fn lun_exists(&self, lun: [u8; 8]) -> bool {
        self.luns.load().get(lun).is_some()
    }

    /// ABORT TASK SET, CLEAR TASK SET (SAM-5 7.3, 7.5): the state effects only, the caller ends the tasks.
    pub fn abort_task_set(&self, lun: [u8; 8]) -> Result<(), TmfRefusal> {
        self.luns
            .load()
            .get(lun)
            .map(|_| ())
            .ok_or(TmfRefusal::LunDoesNotExist)
    }

    /// LOGICAL UNIT RESET (SAM-5 6.3.3): the state effects only, the caller ends the tasks of all nexuses.
    pub fn logical_unit_reset(&self, lun: [u8; 8]) -> Result<(), TmfRefusal> {
        self.luns
            .load()
            .get(lun)
            .map(|_| ())
            .ok_or(TmfRefusal::LunDoesNotExist)
    }

    /// TARGET WARM RESET and COLD RESET: every logical unit is reset.
    pub fn target_reset(&self) {}

    /// I_T nexus loss (SAM-5 6.3.4): the session ended.
    pub fn close(&self) {}

    pub(crate) fn remap(&self, access: &Access) {
        self.luns.store(Arc::new(LunMap::new(access)));
    }
}

impl std::fmt::Debug for Nexus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Nexus({} to {})", self.initiator.name, self.target.name())
    }
}
