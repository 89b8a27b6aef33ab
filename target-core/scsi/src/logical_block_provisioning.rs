//! Logical block provisioning (SBC-3 4.7): what a thin unit tells of its space, and the thresholds it warns at.
//!
//! Amounts are counted in *threshold sets* of 1 MiB (2 to the THRESHOLD EXPONENT blocks). Two thresholds can be set in
//! mode page 1Ch-02h, on what is left in the store and on what the unit uses of it. When one is reached every nexus
//! hears 6h/38h/07h, once; it is armed again when the amount has come back, or by another MODE SELECT.

use serde::{Deserialize, Serialize};

use crate::unit::UnitIdentity;

/// Bytes in a threshold set.
const THRESHOLD_SET_BYTES: u32 = 1 << 20;

/// The space under a thin unit, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Left in the store, which other units may use too.
    pub available: u64,
    /// Allocated to this unit.
    pub used: u64,
}

/// A threshold of mode page 1Ch-02h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Threshold {
    /// ENABLED.
    pub enabled: bool,
    /// THRESHOLD COUNT, in threshold sets.
    pub count: u32,
}

/// Both thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Reached when no more than this is available.
    pub available: Threshold,
    /// Reached when at least this is used.
    pub used: Threshold,
}

impl Thresholds {
    /// Is one of them to be watched?
    pub const fn any(&self) -> bool {
        self.available.enabled || self.used.enabled
    }

    /// Which are reached: available, used.
    pub(crate) const fn reached(&self, space: Space) -> [bool; 2] {
        [
            self.available.enabled && threshold_sets(space.available) <= self.available.count,
            self.used.enabled && threshold_sets(space.used) >= self.used.count,
        ]
    }
}

/// An amount in threshold sets; one that does not fit its four bytes is the largest that does.
pub(crate) const fn threshold_sets(bytes: u64) -> u32 {
    let sets = bytes / THRESHOLD_SET_BYTES as u64;
    if sets > u32::MAX as u64 {
        u32::MAX
    } else {
        sets as u32
    }
}

/// THRESHOLD EXPONENT of VPD page B2h; zero says that there are no thresholds.
pub(crate) const fn threshold_exponent(identity: &UnitIdentity) -> u8 {
    if identity.thin {
        (THRESHOLD_SET_BYTES / identity.block_size).trailing_zeros() as u8
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_reached_from_their_own_side() {
        let threshold = Threshold {
            enabled: true,
            count: 10,
        };
        let thresholds = Thresholds {
            available: threshold,
            used: threshold,
        };
        let space = |available: u64, used: u64| Space {
            available: available << 20,
            used: used << 20,
        };
        assert_eq!(thresholds.reached(space(11, 9)), [false, false]);
        assert_eq!(thresholds.reached(space(10, 9)), [true, false]);
        assert_eq!(thresholds.reached(space(11, 10)), [false, true]);
        assert_eq!(Thresholds::default().reached(space(0, 100)), [false, false]);
        assert_eq!(threshold_sets(u64::MAX), u32::MAX);
    }
}
