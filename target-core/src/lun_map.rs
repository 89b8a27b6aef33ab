//! Which logical units an initiator sees under which numbers: LUN masking.
//!
//! A unit hears of an initiator with the first command that comes for it: a thousand sessions to a thousand units would else be a million
//! nexuses, of which most are never used. What happened before, POWER ON OCCURRED (6h/29h/00h) stands for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use scsi_model::{
    control::VolumeNumber,
    lun,
    unit::{NexusId, NexusPorts},
};

use crate::logical_unit::{ItlNexus, LogicalUnit};

/// Largest LUN of the flat space addressing format.
pub const LARGEST_LUN: u16 = 0x3fff;

/// One logical unit as one initiator sees it.
#[derive(Debug, Clone)]
pub struct LunEntry {
    /// Its number, at most [`LARGEST_LUN`].
    pub lun: u16,
    /// The unit.
    pub unit: Arc<LogicalUnit>,
    /// Write protected for this initiator (7h/27h/00h).
    pub read_only: bool,
}

/// What an initiator may do and see.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// May send replication control commands (C0h, C1h).
    pub control: bool,
    /// The logical units it sees.
    pub luns: Vec<LunEntry>,
}

/// One I_T nexus as its units know it.
pub(crate) struct Way {
    pub(crate) id: NexusId,
    ports: NexusPorts,
    /// It has ended. Locked while a unit hears of it, or forgets it.
    closed: Mutex<bool>,
}

impl Way {
    pub(crate) fn new(id: NexusId, ports: NexusPorts) -> Arc<Self> {
        Arc::new(Self {
            id,
            ports,
            closed: Mutex::new(false),
        })
    }

    pub(crate) fn closed(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One initiator's view of the units, each with its I_T_L nexus.
#[derive(Default)]
pub(crate) struct LunMap {
    pub(crate) control: bool,
    by_lun: BTreeMap<u16, MappedUnit>,
    numbers: Vec<u16>,
}

/// A unit under a number.
#[derive(Clone)]
pub(crate) struct MappedUnit {
    pub(crate) unit: Arc<LogicalUnit>,
    way: Arc<Way>,
    /// Under two numbers it is still one unit, with one nexus.
    itl: Arc<OnceLock<Arc<ItlNexus>>>,
    pub(crate) read_only: bool,
}

impl MappedUnit {
    /// The I_T_L nexus, which begins with the first look.
    pub(crate) fn itl(&self) -> &Arc<ItlNexus> {
        match self.itl.get() {
            Some(itl) => itl,
            None => self.first_look(),
        }
    }

    #[cold]
    fn first_look(&self) -> &Arc<ItlNexus> {
        let closed = self.way.closed();
        self.itl.get_or_init(|| {
            if *closed {
                ItlNexus::ended(self.way.id)
            } else {
                self.unit.attach(self.way.id, self.way.ports.clone())
            }
        })
    }

    /// Has it begun?
    pub(crate) fn is_in_use(&self) -> bool {
        self.itl.get().is_some()
    }

    /// The unit forgets the nexus, for good. The caller has [`Way::closed`] locked.
    pub(crate) fn detach(&self) {
        if self.is_in_use() {
            self.unit.detach(self.way.id);
        } else {
            // A command that still has the old map finds a nexus that has ended.
            let _ = self.itl.set(ItlNexus::ended(self.way.id));
        }
    }
}

impl LunMap {
    /// The map of `access` for this nexus. A unit that `before` has keeps its I_T_L nexus. Of several entries with one number the
    /// last one counts.
    pub(crate) fn new(access: &Access, before: &Self, way: &Arc<Way>) -> Self {
        let mut known: HashMap<*const LogicalUnit, Arc<OnceLock<Arc<ItlNexus>>>> = before
            .units()
            .map(|seen| (Arc::as_ptr(&seen.unit), seen.itl.clone()))
            .collect();
        let by_lun: BTreeMap<u16, MappedUnit> = access
            .luns
            .iter()
            .map(|entry| {
                let itl = known.entry(Arc::as_ptr(&entry.unit)).or_default();
                let seen = MappedUnit {
                    unit: entry.unit.clone(),
                    way: way.clone(),
                    itl: itl.clone(),
                    read_only: entry.read_only,
                };
                (entry.lun, seen)
            })
            .collect();
        let numbers = by_lun.keys().copied().collect();
        Self {
            control: access.control,
            by_lun,
            numbers,
        }
    }

    pub(crate) fn get(&self, lun: [u8; 8]) -> Option<&MappedUnit> {
        self.by_lun.get(&lun::parse(lun)?)
    }

    pub(crate) fn units(&self) -> impl Iterator<Item = &MappedUnit> {
        self.by_lun.values()
    }

    /// The numbers in ascending order, as REPORT LUNS gives them.
    pub(crate) fn numbers(&self) -> &[u16] {
        &self.numbers
    }

    /// The number under which this volume is seen.
    pub(crate) fn number_of(&self, volume: VolumeNumber) -> Option<u16> {
        let is_it = |seen: &MappedUnit| seen.unit.with_identity(|identity| identity.number == volume);
        self.by_lun
            .iter()
            .find(|(_, seen)| is_it(seen))
            .map(|(lun, _)| *lun)
    }

    pub(crate) fn has(&self, unit: &Arc<LogicalUnit>) -> bool {
        self.units().any(|seen| Arc::ptr_eq(&seen.unit, unit))
    }

    /// The units that have the number they had, and may be written now but not before, or the other way round.
    pub(crate) fn protected_otherwise<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = &'a MappedUnit> {
        let other = |known: &&MappedUnit, seen: &MappedUnit| {
            Arc::ptr_eq(&known.unit, &seen.unit) && known.read_only != seen.read_only
        };
        self.by_lun
            .iter()
            .filter(move |(lun, seen)| before.by_lun.get(lun).is_some_and(|known| other(&known, seen)))
            .map(|(_, seen)| seen)
    }

    /// The same numbers lead to the same units.
    pub(crate) fn same_units(&self, other: &Self) -> bool {
        self.numbers == other.numbers
            && self
                .units()
                .zip(other.units())
                .all(|(a, b)| Arc::ptr_eq(&a.unit, &b.unit))
    }
}
