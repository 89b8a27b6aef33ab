//! Which logical units an initiator sees under which numbers: LUN masking.

use std::{collections::BTreeMap, sync::Arc};

use scsi_model::{control::VolumeNumber, lun};

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
    pub(crate) itl: Arc<ItlNexus>,
    pub(crate) read_only: bool,
}

impl LunMap {
    /// The map of `access`. A unit that `before` has keeps its I_T_L nexus, for others `attach` makes one. Of
    /// several entries with one number the last one counts.
    pub(crate) fn new(
        access: &Access,
        before: &Self,
        mut attach: impl FnMut(&LogicalUnit) -> Arc<ItlNexus>,
    ) -> Self {
        let entries: BTreeMap<u16, &LunEntry> = access.luns.iter().map(|entry| (entry.lun, entry)).collect();
        let mut by_lun: BTreeMap<u16, MappedUnit> = BTreeMap::new();
        for (lun, entry) in entries {
            let same = |known: &&MappedUnit| Arc::ptr_eq(&known.unit, &entry.unit);
            // Under two numbers it is still one unit, with one nexus.
            let known = before.units().find(same).or_else(|| by_lun.values().find(same));
            let itl = known.map_or_else(|| attach(&entry.unit), |known| known.itl.clone());
            by_lun.insert(
                lun,
                MappedUnit {
                    unit: entry.unit.clone(),
                    itl,
                    read_only: entry.read_only,
                },
            );
        }
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

    /// The same numbers lead to the same units.
    pub(crate) fn same_units(&self, other: &Self) -> bool {
        self.numbers == other.numbers
            && self
                .units()
                .zip(other.units())
                .all(|(a, b)| Arc::ptr_eq(&a.unit, &b.unit))
    }
}
