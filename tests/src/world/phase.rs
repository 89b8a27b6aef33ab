//! What the world knows of a pair's state.

use crate::load::cut::Verb;

/// Where a pair was brought by commands; its copies may have ended since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// ESTABLISH was answered.
    Copy,
    /// It was seen in DUPLEX since.
    Duplex,
    /// SPLIT was answered; `true` for INSTANT.
    Splitting(bool),
    /// It was seen in SPLIT since.
    Split,
    /// RESTORE was answered.
    Restoring,
    /// It was seen in RESTORED since.
    Restored,
    /// RESTORE PROTECTED was answered.
    Protected,
    /// It was seen suspended since: its mirror is the primary's again, once there is room for it.
    Suspended,
}

impl Phase {
    /// Is the mirror kept equal to the primary, or becoming so?
    pub(super) fn is_equal(self) -> bool {
        matches!(
            self,
            Self::Copy | Self::Duplex | Self::Restoring | Self::Restored | Self::Suspended
        )
    }

    /// May hosts use the mirror?
    pub(super) fn mirror_is_ready(self) -> bool {
        matches!(self, Self::Splitting(true) | Self::Split | Self::Protected)
    }

    /// May a daemon show such a pair in this state after a kill (docs/engine.md, "After a crash")? `full`: a store may have been.
    pub(super) fn may_be_after_kill(self, state: &str, full: bool) -> bool {
        let states: &[&str] = match self {
            Self::Copy | Self::Duplex => &["copy", "duplex"],
            Self::Splitting(_) | Self::Split => &["splitting", "split"],
            Self::Restoring | Self::Restored => &["restoring", "restored", "copy", "duplex"],
            Self::Protected => &["protected-restoring", "split"],
            Self::Suspended => &["suspended", "copy", "duplex"],
        };
        states.contains(&state) || full && self.may_be_suspended() && state == "suspended"
    }

    /// Does it write to its mirror by itself?
    fn may_be_suspended(self) -> bool {
        self.is_equal() || matches!(self, Self::Splitting(_))
    }

    /// Has the mirror a content that is known when the pair is dissolved? Otherwise it may be half a copy.
    pub(super) fn leaves_a_whole_mirror(self) -> bool {
        match self {
            Self::Copy | Self::Splitting(_) | Self::Suspended => false,
            Self::Duplex | Self::Split | Self::Restoring | Self::Restored | Self::Protected => true,
        }
    }

    /// May its restore still be stopped?
    pub(super) fn restores(self) -> bool {
        matches!(self, Self::Restoring | Self::Protected)
    }

    /// After this command; `None`: there is no pair any more.
    pub(super) fn after(self, verb: Verb) -> Option<Self> {
        Some(match verb {
            Verb::Establish { .. } => Self::Copy,
            Verb::Split { instant } => Self::Splitting(instant),
            Verb::Restore { protected: true, .. } => Self::Protected,
            Verb::Restore { .. } if self == Self::Restored => self,
            Verb::Restore { .. } => Self::Restoring,
            Verb::Stop => Self::Split,
            Verb::Cancel { .. } => return None,
        })
    }

    /// The same pair, now that it was seen in this state. One that was SPLIT, or became so since it was looked at last, may be
    /// owed what was not stable; its mirror answers all the same.
    pub(super) fn seen(self, state: &str, mirror_ready: bool) -> Self {
        match (self, state) {
            (Self::Splitting(_) | Self::Split, "splitting") if mirror_ready => Self::Splitting(true),
            (_, "duplex") => Self::Duplex,
            (_, "copy") => Self::Copy,
            (_, "split") => Self::Split,
            (_, "restored") => Self::Restored,
            (_, "suspended") => Self::Suspended,
            (same, _) => same,
        }
    }
}
