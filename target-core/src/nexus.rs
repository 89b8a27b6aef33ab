//! An I_T nexus: where commands arrive, and what happens to its logical units when it resets or ends.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use scsi_model::{
    device_server::answer_absent_unit,
    unit::{self, NexusId, NexusPorts},
    unit_attention::UnitAttention,
};

use crate::{
    command::{Execution, ReadAtOnce, Room, ScsiCommand, WriteAtOnce},
    executor,
    logical_unit::LogicalUnit,
    lun_map::{Access, LunMap, Way},
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
    way: Arc<Way>,
    target: Arc<Target>,
    initiator: InitiatorPort,
    portal_group: u16,
    luns: ArcSwap<LunMap>,
    listener: OnceLock<Listener>,
}

/// Called when the initiator has other LUNs than before.
type Listener = Box<dyn Fn() + Send + Sync>;

impl Nexus {
    pub(crate) fn new(
        target: Arc<Target>,
        initiator: InitiatorPort,
        portal_group: u16,
        access: &Access,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let ports = NexusPorts {
            initiator: unit::InitiatorPort {
                name: initiator.name.clone(),
                isid: initiator.isid,
            },
            target: target.port(portal_group),
        };
        let way = Way::new(NexusId(NEXT.fetch_add(1, Ordering::Relaxed)), ports);
        let luns = LunMap::new(access, &LunMap::default(), &way);
        Arc::new(Self {
            way,
            target,
            initiator,
            portal_group,
            luns: ArcSwap::from_pointee(luns),
            listener: OnceLock::new(),
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

    /// From now on `listener` is called each time the initiator gets other LUNs than it had, with the unit attention of that pending
    /// and the new LUNs in force. It must not wait, nor call the nexus. Only the first one counts.
    pub fn on_other_luns(&self, listener: impl Fn() + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// Target portal group tag.
    pub fn portal_group(&self) -> u16 {
        self.portal_group
    }

    /// Begins a command. What can be done without waiting is done before this returns.
    pub fn execute(self: &Arc<Self>, command: ScsiCommand) -> Execution {
        let luns = self.luns.load();
        let Some(seen) = luns.get(command.lun) else {
            let answer = answer_absent_unit(&command.cdb, luns.numbers());
            return Execution::Done(executor::respond(answer, 0, command.data_in_limit));
        };
        seen.itl().commands.count(&command.cdb);
        match executor::execute_inline(seen, &command) {
            Some(response) => Execution::Done(response),
            None => executor::execute(self, &luns, seen, command),
        }
    }

    /// Begins a command of which is known that it waits.
    pub fn execute_waiting(self: &Arc<Self>, command: ScsiCommand) -> Execution {
        let luns = self.luns.load();
        let Some(seen) = luns.get(command.lun) else {
            return self.execute(command);
        };
        seen.itl().commands.count(&command.cdb);
        match executor::write_waiting(seen, &command, &self.target) {
            Some(execution) => execution,
            None => executor::execute(self, &luns, seen, command),
        }
    }

    /// Does a READ whose data is at hand, straight to where it is sent from. Unless it is done nothing has happened.
    pub fn read_at_once(&self, lun: [u8; 8], cdb: &[u8], limit: u32, room: &mut dyn Room) -> ReadAtOnce {
        let luns = self.luns.load();
        let Some(seen) = luns.get(lun) else {
            return ReadAtOnce::Other;
        };
        let read = executor::read_at_once(seen, cdb, limit, room);
        if matches!(read, ReadAtOnce::Done { .. }) {
            seen.itl().commands.count(cdb);
        }
        read
    }

    /// Does a WRITE that need not wait. Unless it is done nothing has happened.
    pub fn write_at_once(&self, lun: [u8; 8], cdb: &[u8], data: &Bytes) -> WriteAtOnce {
        let luns = self.luns.load();
        let Some(seen) = luns.get(lun) else {
            return WriteAtOnce::Other;
        };
        let written = executor::write_at_once(seen, cdb, data);
        if matches!(written, WriteAtOnce::Done { .. }) {
            seen.itl().commands.count(cdb);
        }
        written
    }

    /// Is there a logical unit behind this LUN for this initiator?
    pub fn lun_exists(&self, lun: [u8; 8]) -> bool {
        self.luns.load().get(lun).is_some()
    }

    /// The logical unit behind this LUN for this initiator.
    pub fn logical_unit(&self, lun: [u8; 8]) -> Option<Arc<LogicalUnit>> {
        self.luns.load().get(lun).map(|seen| seen.unit.clone())
    }

    /// ABORT TASK SET, CLEAR TASK SET (SAM-5 7.3, 7.5): the state effects only, the caller ends the tasks.
    pub fn abort_task_set(&self, lun: [u8; 8]) -> Result<(), TmfRefusal> {
        self.logical_unit(lun)
            .map(|_| ())
            .ok_or(TmfRefusal::LunDoesNotExist)
    }

    /// Another initiator's CLEAR TASK SET has ended commands of this one (SAM-5 5.14, 7.5).
    pub fn commands_cleared(&self, unit: &LogicalUnit) {
        unit.raise_for(self.way.id, UnitAttention::CommandsCleared);
    }

    /// LOGICAL UNIT RESET (SAM-5 6.3.3): the state effects only, the caller ends the tasks of all nexuses.
    pub fn logical_unit_reset(&self, lun: [u8; 8]) -> Result<(), TmfRefusal> {
        let unit = self.logical_unit(lun).ok_or(TmfRefusal::LunDoesNotExist)?;
        unit.reset();
        Ok(())
    }

    /// TARGET WARM RESET and COLD RESET: a hard reset (SAM-5 6.3.2) of every logical unit this initiator sees.
    pub fn target_reset(&self) {
        for seen in self.luns.load().units() {
            seen.unit.hard_reset();
        }
    }

    /// I_T NEXUS RESET (SAM-5 7.6): an I_T nexus loss on every logical unit this initiator sees, after which the nexus
    /// goes on. The state effects only, the caller ends the tasks of this nexus.
    pub fn reset(&self) {
        for seen in self.luns.load().units() {
            seen.unit.nexus_loss(self.way.id);
        }
    }

    /// QUERY ASYNCHRONOUS EVENT (SAM-5 7.10): the additional response information about the next unit attention of this
    /// LUN; `None` when there is none.
    pub fn pending_event(&self, lun: [u8; 8]) -> Result<Option<[u8; 3]>, TmfRefusal> {
        let luns = self.luns.load();
        let seen = luns.get(lun).ok_or(TmfRefusal::LunDoesNotExist)?;
        Ok(seen.unit.event_information(seen.itl().id))
    }

    /// I_T nexus loss (SAM-5 6.3.4): the session ended. Its RESERVE(6) ends before this returns.
    pub fn close(&self) {
        let mut closed = self.way.closed();
        if std::mem::replace(&mut closed, true) {
            return;
        }
        for seen in self.luns.load().units() {
            seen.detach();
        }
    }

    /// All logical units that know this initiator want its attention.
    pub(crate) fn raise_everywhere(&self, attention: UnitAttention) {
        let closed = self.way.closed();
        if *closed {
            return;
        }
        for seen in self.luns.load().units().filter(|seen| seen.is_in_use()) {
            seen.unit.raise_for(self.way.id, attention);
        }
    }

    pub(crate) fn luns(&self) -> Arc<LunMap> {
        self.luns.load_full()
    }

    /// The initiator may do and see something else from now on.
    pub(crate) fn remap(&self, access: &Access) {
        let closed = self.way.closed();
        if *closed {
            return;
        }
        let before = self.luns.load_full();
        let after = LunMap::new(access, &before, &self.way);
        let changed = !after.same_units(&before);
        let after = Arc::new(after);
        // In force before anybody is told to look again.
        self.luns.store(after.clone());
        for gone in before.units().filter(|seen| !after.has(&seen.unit)) {
            gone.detach();
        }
        if changed {
            for seen in after.units().filter(|seen| seen.is_in_use()) {
                seen.unit
                    .raise_for(self.way.id, UnitAttention::ReportedLunsChanged);
            }
            if let Some(tell) = self.listener.get() {
                tell();
            }
        }
        // WP is in what MODE SENSE gives.
        for seen in after.protected_otherwise(&before).filter(|seen| seen.is_in_use()) {
            seen.unit
                .raise_for(self.way.id, UnitAttention::ModeParametersChanged);
        }
    }
}

impl Drop for Nexus {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Nexus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Nexus({} to {})", self.initiator.name, self.target.name())
    }
}
