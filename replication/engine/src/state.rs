//! The states of a pair (docs/pairs.md): their codes on the wire and on disk, and their names.

use core::fmt;

/// The state of a pair. The discriminants are the STATE codes of docs/control-cdb.md, used in the journal as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum PairState {
    /// No pair.
    #[default]
    Simplex = 0,
    /// Primary to mirror, writes go to both.
    Copy = 1,
    /// Equal, writes go to both.
    Duplex = 2,
    /// The mirror is the image of an instant, but is still owed tracks of it.
    Splitting = 3,
    /// Apart; changes on both sides are tracked.
    Split = 4,
    /// Mirror to primary, writes go to both.
    Restoring = 5,
    /// Equal after a restore, writes go to both.
    Restored = 6,
    /// Mirror to primary, the mirror stays split and is never written to.
    ProtectedRestoring = 7,
    /// Apart because of a fault; changes on both sides are tracked.
    Suspended = 8,
}

impl PairState {
    /// Every state, in the order of the codes.
    pub const ALL: [Self; 9] = [
        Self::Simplex,
        Self::Copy,
        Self::Duplex,
        Self::Splitting,
        Self::Split,
        Self::Restoring,
        Self::Restored,
        Self::ProtectedRestoring,
        Self::Suspended,
    ];

    /// The STATE code.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The state with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The name users read, as in `query --json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Simplex => "simplex",
            Self::Copy => "copy",
            Self::Duplex => "duplex",
            Self::Splitting => "splitting",
            Self::Split => "split",
            Self::Restoring => "restoring",
            Self::Restored => "restored",
            Self::ProtectedRestoring => "protected-restoring",
            Self::Suspended => "suspended",
        }
    }

    /// A copy is under way; it ends by itself in a settled state.
    pub const fn is_copying(self) -> bool {
        matches!(
            self,
            Self::Copy | Self::Splitting | Self::Restoring | Self::ProtectedRestoring
        )
    }

    /// Host writes to the primary reach the mirror too, except on tracks that the copy has left.
    pub const fn keeps_two_legs(self) -> bool {
        matches!(self, Self::Copy | Self::Duplex | Self::Restoring | Self::Restored)
    }

    /// The two volumes go their own ways and the changes of each are tracked.
    pub const fn is_apart(self) -> bool {
        matches!(
            self,
            Self::Splitting | Self::Split | Self::ProtectedRestoring | Self::Suspended
        )
    }

    /// The copy under way, if any, runs from the mirror to the primary.
    pub const fn restores(self) -> bool {
        matches!(self, Self::Restoring | Self::ProtectedRestoring)
    }
}

impl fmt::Display for PairState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S55.
    #[test]
    fn codes_are_those_of_the_wire_format() {
        let names = [
            "simplex",
            "copy",
            "duplex",
            "splitting",
            "split",
            "restoring",
            "restored",
            "protected-restoring",
            "suspended",
        ];
        for (code, name) in (0u8..).zip(names) {
            let state = PairState::from_code(code).unwrap();
            assert_eq!((state.code(), state.to_string().as_str()), (code, name));
        }
        assert_eq!(PairState::from_code(9), None);
        assert_eq!(PairState::from_code(255), None);
    }

    #[test]
    fn a_state_with_a_pair_has_two_legs_or_is_apart() {
        for state in PairState::ALL {
            let ways = usize::from(state.keeps_two_legs()) + usize::from(state.is_apart());
            assert_eq!(ways, usize::from(state != PairState::Simplex), "{state}");
        }
    }
}
