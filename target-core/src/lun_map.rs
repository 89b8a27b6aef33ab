//! Which logical units an initiator sees under which numbers: LUN masking, and the 8-byte LUN format of SAM-5 4.7.

use std::{collections::BTreeMap, sync::Arc};

use crate::logical_unit::LogicalUnit;

/// The REPORT LUNS well-known logical unit (SPC-4 8.2).
pub const REPORT_LUNS_WELL_KNOWN: [u8; 8] = [0xc1, 0x01, 0, 0, 0, 0, 0, 0];

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

/// [`Access`], made for look-up.
#[derive(Debug, Default)]
pub(crate) struct LunMap {
    pub(crate) control: bool,
    by_lun: BTreeMap<u16, LunEntry>,
}

impl LunMap {
    /// Of several entries with one number the last one counts.
    pub(crate) fn new(access: &Access) -> Self {
        let by_lun = access
            .luns
            .iter()
            .map(|entry| (entry.lun, entry.clone()))
            .collect();
        Self {
            control: access.control,
            by_lun,
        }
    }

    pub(crate) fn get(&self, lun: [u8; 8]) -> Option<&LunEntry> {
        self.by_lun.get(&decode(lun)?)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &LunEntry> {
        self.by_lun.values()
    }

    /// The numbers in ascending order, as REPORT LUNS gives them.
    pub(crate) fn numbers(&self) -> Vec<u16> {
        self.by_lun.keys().copied().collect()
    }

    /// The number under which this unit is seen.
    pub(crate) fn number_of(&self, unit: &Arc<LogicalUnit>) -> Option<u16> {
        self.entries()
            .find(|entry| Arc::ptr_eq(&entry.unit, unit))
            .map(|entry| entry.lun)
    }

    /// The same numbers lead to the same units with the same protection.
    pub(crate) fn same_units(&self, other: &Self) -> bool {
        self.by_lun.len() == other.by_lun.len()
            && self
                .entries()
                .zip(other.entries())
                .all(|(a, b)| a.lun == b.lun && Arc::ptr_eq(&a.unit, &b.unit))
    }
}

/// The number in a single-level LUN: peripheral device addressing with bus 0, or flat space addressing.
pub fn decode(lun: [u8; 8]) -> Option<u16> {
    if lun[2..] != [0; 6] {
        return None;
    }
    let first = u16::from_be_bytes([lun[0], lun[1]]);
    match lun[0] >> 6 {
        0b00 if lun[0] == 0 => Some(first),
        0b01 => Some(first & LARGEST_LUN),
        _ => None,
    }
}

/// A number as a single-level LUN: peripheral device addressing below 256, else flat space addressing.
pub fn encode(lun: u16) -> [u8; 8] {
    let [high, low] = if lun < 256 {
        lun
    } else {
        0x4000 | (lun & LARGEST_LUN)
    }
    .to_be_bytes();
    [high, low, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lun_survives_the_wire() {
        for lun in 0..=LARGEST_LUN {
            assert_eq!(decode(encode(lun)), Some(lun));
        }
    }

    #[test]
    fn foreign_formats_name_no_unit() {
        assert_eq!(decode(REPORT_LUNS_WELL_KNOWN), None);
        assert_eq!(decode([0x00, 0x01, 0, 1, 0, 0, 0, 0]), None, "second level");
        assert_eq!(decode([0x01, 0x00, 0, 0, 0, 0, 0, 0]), None, "bus 1");
        assert_eq!(
            decode([0x80, 0x00, 0, 0, 0, 0, 0, 0]),
            None,
            "logical unit addressing"
        );
        assert_eq!(
            decode([0x40, 0x05, 0, 0, 0, 0, 0, 0]),
            Some(5),
            "flat space reaches small numbers too"
        );
    }
}
