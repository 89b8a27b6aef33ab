//! The states of a pair, with the names that users of other arrays know them by.

/// State of a pair. The discriminant is the state code of docs/control-cdb.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PairState {
    /// 00h: no pair.
    Simplex = 0,
    /// 01h: synchronizing.
    Copy = 1,
    /// 02h: synchronized.
    Duplex = 2,
    /// 03h: split, with tracks still owed to the mirror.
    Splitting = 3,
    /// 04h: split.
    Split = 4,
    /// 05h: mirror to primary, both legs written.
    Restoring = 5,
    /// 06h: restored, both legs written.
    Restored = 6,
    /// 07h: mirror to primary, the mirror is never written.
    ProtectedRestoring = 7,
    /// 08h: stopped by a fault or by SUSPEND, marking.
    Suspended = 8,
}

impl PairState {
    /// All of them, by code.
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

    /// The state with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The state code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Our name: what `query --json` says and `--state` takes.
    pub fn name(self) -> &'static str {
        self.names().0
    }

    /// What `symmir query` calls it.
    pub fn timefinder(self) -> &'static str {
        self.names().1
    }

    /// What `pairdisplay` calls it.
    pub fn horcm(self) -> &'static str {
        self.names().2
    }

    /// A copy runs by itself and will end in another state.
    pub fn copying(self) -> bool {
        matches!(
            self,
            Self::Copy | Self::Splitting | Self::Restoring | Self::ProtectedRestoring
        )
    }

    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Simplex => ("simplex", "NeverEstab", "SMPL"),
            Self::Copy => ("copy", "SyncInProg", "COPY"),
            Self::Duplex => ("duplex", "Synchronized", "PAIR"),
            Self::Splitting => ("splitting", "SplitInProg", "COPY(SP)"),
            Self::Split => ("split", "Split", "PSUS"),
            Self::Restoring => ("restoring", "RestInProg", "RCPY"),
            Self::Restored => ("restored", "Restored", "PAIR"),
            Self::ProtectedRestoring => ("protected-restoring", "RestInProg", "RCPY"),
            Self::Suspended => ("suspended", "Suspended", "PSUE"),
        }
    }
}

impl std::fmt::Display for PairState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no state: accepted are simplex, copy, duplex, splitting, split, restoring, restored, protected-restoring, \
     suspended, and their TimeFinder and HORCM names"
)]
pub struct NoSuchState(pub String);

impl std::str::FromStr for PairState {
    type Err = NoSuchState;

    /// Our name, else the TimeFinder one, else the HORCM one; letters of any case. Of names that mean several of our
    /// states the first counts (`PAIR` is duplex, `RCPY` restoring).
    fn from_str(word: &str) -> Result<Self, NoSuchState> {
        let by = |name: fn(Self) -> &'static str| {
            Self::ALL
                .into_iter()
                .find(|state| name(*state).eq_ignore_ascii_case(word))
        };
        by(Self::name)
            .or_else(|| by(Self::timefinder))
            .or_else(|| by(Self::horcm))
            .ok_or_else(|| NoSuchState(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_wire_format() {
        for (code, state) in (0u8..).zip(PairState::ALL) {
            assert_eq!(state.code(), code);
            assert_eq!(PairState::from_code(code), Some(state));
        }
        assert_eq!(PairState::from_code(9), None);
    }

    #[test]
    fn names_of_three_worlds_are_understood() {
        assert_eq!("protected-restoring".parse(), Ok(PairState::ProtectedRestoring));
        assert_eq!("Synchronized".parse(), Ok(PairState::Duplex));
        assert_eq!("pair".parse(), Ok(PairState::Duplex));
        assert_eq!("PSUE".parse(), Ok(PairState::Suspended));
        assert!("mirrored".parse::<PairState>().is_err());
    }
}
