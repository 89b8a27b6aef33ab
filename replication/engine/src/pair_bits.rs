//! The three bitmaps of a pair, and the only function that moves them as a whole.
//!
//! The live engine and the replay of its journal both call [`PairBits::apply`]: the journal carries the *name* of the
//! change, not the bits, so a command costs the same for any volume, and replay cannot come to another result.
//! For that the two must start from the same bits. Two things are only in memory, and each is taken care of:
//!
//! - Marks that writes set in a hot region. The record of a change carries the words of every hot region of the
//!   volumes concerned, and replay sets them first (`StateChange::marks`).
//! - Copies that are done but whose end is not durable. They left `todo`, but they are in `unsettled`; for the journal
//!   a track of either is owed. So what the journal knows as `todo` is always `todo | unsettled` here, and every
//!   change that reads `todo` reads both ([`PairBits::owed`]).
//!
//! A replayed bit too many would do no harm in a mirror copy, but in a protected restore or a split it would copy
//! over acknowledged writes. So the rule is equality, and the simulator checks it.

use crate::{
    bitmap::Bitmap,
    ids::Region,
    state::PairState,
    track::{Geometry, TrackRange},
};

/// One of the bitmaps that the journal knows. The codes are the journal's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Which {
    /// [`PairBits::primary_changed`].
    PrimaryChanged = 0,
    /// [`PairBits::mirror_changed`].
    MirrorChanged = 1,
    /// [`PairBits::todo`] and [`PairBits::unsettled`] together.
    Owed = 2,
}

impl Which {
    /// All of them, in the order of the codes.
    pub const ALL: [Self; 3] = [Self::PrimaryChanged, Self::MirrorChanged, Self::Owed];
}

/// A change of whole bitmaps. The codes are the journal's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Change {
    /// Nothing moves: the end of a split or of a protected restore, SPLIT of a suspended pair.
    Keep = 0,
    /// Every track is to be copied: FULL, or a new pair.
    OweAll = 1,
    /// What changed on either side is to be copied: ESTABLISH and RESTORE of a pair with history.
    OweUnion = 2,
    /// What is still owed goes on being owed, both sides' changes begin anew: SPLIT.
    Part = 3,
    /// A copy towards the mirror stops, or a protected restore is cut short: what it had left counts as changed on the
    /// primary.
    StopIntoPrimary = 4,
    /// A copy towards the primary stops: what it had left counts as changed on the mirror.
    StopIntoMirror = 5,
    /// The two are equal: the end of a copy or of a restore.
    Equal = 6,
    /// A restore ended, but a crash left tracks that only the primary has: they are owed to the mirror.
    OwePrimaryChanged = 7,
}

impl Change {
    /// All of them, in the order of the codes.
    pub const ALL: [Self; 8] = [
        Self::Keep,
        Self::OweAll,
        Self::OweUnion,
        Self::Part,
        Self::StopIntoPrimary,
        Self::StopIntoMirror,
        Self::Equal,
        Self::OwePrimaryChanged,
    ];
}

/// What is kept, track by track, for a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairBits {
    /// Tracks the primary changed since the two were apart.
    pub primary_changed: Bitmap,
    /// Tracks the mirror changed since.
    pub mirror_changed: Bitmap,
    /// Tracks the copy now running has left.
    pub todo: Bitmap,
    /// Tracks it has copied, but whose clearing is not durable yet. Never in `todo` as well. Not in the journal: after
    /// a crash they are in `todo` again.
    pub unsettled: Bitmap,
}

impl PairBits {
    /// Nothing changed, nothing owed.
    pub fn new(tracks: u64) -> Self {
        let none = Bitmap::new(tracks);
        Self {
            primary_changed: none.clone(),
            mirror_changed: none.clone(),
            todo: none.clone(),
            unsettled: none,
        }
    }

    /// Tracks of the volumes.
    pub fn tracks(&self) -> u64 {
        self.todo.tracks()
    }

    /// Moves the bitmaps. The caller has seen to it that no copy of this pair is half done on a track whose meaning
    /// changes, and drops settles that were under way when `unsettled` becomes empty by this.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Keep => {}
            Change::OweAll => {
                self.forget_changes();
                self.unsettled.reset();
                self.todo.fill();
            }
            Change::OweUnion => {
                self.todo.absorb(self.unsettled.take());
                self.todo.absorb(self.primary_changed.take());
                self.todo.absorb(self.mirror_changed.take());
            }
            Change::Part => self.forget_changes(),
            Change::StopIntoPrimary => {
                self.primary_changed.absorb(self.todo.take());
                self.primary_changed.absorb(self.unsettled.take());
            }
            Change::StopIntoMirror => {
                self.mirror_changed.absorb(self.todo.take());
                self.mirror_changed.absorb(self.unsettled.take());
            }
            Change::Equal => {
                self.forget_changes();
                self.owe_nothing();
            }
            Change::OwePrimaryChanged => {
                self.unsettled.reset();
                self.todo = self.primary_changed.take();
                self.mirror_changed.reset();
            }
        }
    }

    /// How many tracks `todo` has after a change before which the primary changes these tracks too. The maps stay as they are, and
    /// none is made: they may be large.
    #[must_use]
    pub fn todo_after(&self, change: Change, primary_changes: &Bitmap) -> u64 {
        let primary = [&self.primary_changed, primary_changes];
        match change {
            Change::Keep | Change::Part => self.todo.count(),
            Change::OweAll => self.tracks(),
            Change::OweUnion => {
                let [changed, changes] = primary;
                Bitmap::union_count(&[
                    &self.todo,
                    &self.unsettled,
                    &self.mirror_changed,
                    changed,
                    changes,
                ])
            }
            Change::StopIntoPrimary | Change::StopIntoMirror | Change::Equal => 0,
            Change::OwePrimaryChanged => Bitmap::union_count(&primary),
        }
    }

    /// What the journal knows as owed: `todo` and `unsettled`.
    #[must_use]
    pub fn owed(&self) -> Bitmap {
        let mut owed = self.todo.clone();
        owed.union(&self.unsettled);
        owed
    }

    /// The copy of these tracks ended (or a host's write took their place): `todo` loses them, `unsettled` gains those
    /// that were in `todo`.
    pub fn copied(&mut self, range: TrackRange) {
        let runs: Vec<TrackRange> = self.todo.runs_in(range).collect();
        for run in runs {
            self.todo.clear(run);
            self.unsettled.set(run);
        }
    }

    /// These tracks are on the destination, but perhaps not durably: `unsettled` gains those that are not in `todo`.
    pub fn unsettle(&mut self, range: TrackRange) {
        self.unsettled.set(range);
        for owed in self.todo.runs_in(range) {
            self.unsettled.clear(owed);
        }
    }

    /// `Cleared` for these tracks is durable (live), or was found (replay): nothing of them is owed.
    ///
    /// Live, the caller passes only runs that are still unsettled, from the batch that was journaled.
    pub fn settled(&mut self, range: TrackRange) {
        self.unsettled.clear(range);
    }

    /// Replay of `Cleared`.
    pub fn replay_cleared(&mut self, range: TrackRange) {
        self.todo.clear(range);
    }

    /// The word of a bitmap, as the journal is to know it.
    pub fn word(&self, which: Which, region: Region) -> u64 {
        match which {
            Which::PrimaryChanged => self.primary_changed.word(region),
            Which::MirrorChanged => self.mirror_changed.word(region),
            Which::Owed => self.todo.word(region) | self.unsettled.word(region),
        }
    }

    /// Replay of a word.
    pub fn replay_word(&mut self, which: Which, region: Region, value: u64) {
        match which {
            Which::PrimaryChanged => self.primary_changed.set_word(region, value),
            Which::MirrorChanged => self.mirror_changed.set_word(region, value),
            Which::Owed => self.todo.set_word(region, value),
        }
    }

    /// What the crash may have left different (docs/engine.md, "After a crash"): writes to the hot regions may have
    /// reached one side and not the other, or been lost. Returns the state the pair goes on in; it differs from
    /// `state` only when two equal volumes, or a split image and its original, may not be equal now (reason 4).
    pub fn after_crash(
        &mut self,
        state: PairState,
        geometry: Geometry,
        primary_hot: impl IntoIterator<Item = Region>,
        mirror_hot: impl IntoIterator<Item = Region>,
    ) -> PairState {
        let (of_primary, of_mirror) = match state {
            PairState::Simplex => return state,
            // Writes go to both: either volume's hot regions may differ, and the primary has what hosts were told.
            PairState::Copy | PairState::Duplex | PairState::Restored => (Side::Todo, Side::Todo),
            // Never `todo`: that would copy the mirror over writes that were acknowledged.
            PairState::Restoring => (Side::Primary, Side::Primary),
            PairState::Splitting
            | PairState::Split
            | PairState::ProtectedRestoring
            | PairState::Suspended => (Side::Primary, Side::Mirror),
        };
        for region in primary_hot {
            self.side(of_primary).set(geometry.tracks_of(region));
        }
        for region in mirror_hot {
            self.side(of_mirror).set(geometry.tracks_of(region));
        }
        match state {
            PairState::Duplex | PairState::Restored if !self.todo.is_empty() => PairState::Copy,
            // What the power failure may have taken from the image is brought again.
            PairState::Split if !self.todo.is_empty() => PairState::Splitting,
            _ => state,
        }
    }

    fn side(&mut self, side: Side) -> &mut Bitmap {
        match side {
            Side::Primary => &mut self.primary_changed,
            Side::Mirror => &mut self.mirror_changed,
            Side::Todo => &mut self.todo,
        }
    }

    fn forget_changes(&mut self) {
        self.primary_changed.reset();
        self.mirror_changed.reset();
    }

    fn owe_nothing(&mut self) {
        self.todo.reset();
        self.unsettled.reset();
    }
}

#[derive(Clone, Copy)]
enum Side {
    Primary,
    Mirror,
    Todo,
}

#[cfg(test)]
mod tests;
