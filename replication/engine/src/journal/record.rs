//! What a journal record says. The bytes are in `codec.rs` and docs/journal.md.

use crate::{
    command::VolumeSpec,
    ids::{PairId, Region, VolumeId},
    pair_bits::{Change, PairBits, Which},
    state::PairState,
    track::TrackRange,
};

/// One step of the metadata's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A fresh file's snapshot begins.
    SnapshotBegin {
        /// Wall clock, Unix milliseconds.
        at_ms: u64,
    },
    /// It is complete; a file without this was never finished.
    SnapshotEnd,
    /// A volume that takes part in pairs, or has a configuration.
    Volume {
        /// Which.
        volume: VolumeId,
        /// Its size.
        spec: VolumeSpec,
    },
    /// CONFIG, or what a pair command does to a volume's configuration.
    Config(VolumeConfig),
    /// A pair in a snapshot, with its bitmaps.
    Pair {
        /// Which.
        pair: PairId,
        /// Everything but the bitmaps.
        meta: PairMeta,
        /// The bitmaps; `unsettled` is written as part of `todo`.
        bits: Box<PairBits>,
    },
    /// Pairs change state: all members of a command, or one pair by itself.
    StateChange(StateChange),
    /// Writes to these regions may begin.
    Hot(Vec<(VolumeId, Region)>),
    /// Nothing is in flight in these regions and everything in them is stable. `marks` are the words, of these regions, of
    /// every bitmap of every pair that these volumes have a part in, as [`PairBits::word`] gives them.
    Cold {
        /// What cooled.
        regions: Vec<(VolumeId, Region)>,
        /// The words.
        marks: Vec<MarkWord>,
    },
    /// These tracks are copied, and stable at the destination.
    Cleared {
        /// Whose copy.
        pair: PairId,
        /// Which tracks.
        runs: Vec<TrackRange>,
    },
}

/// One atomic change of state of any number of pairs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateChange {
    /// Wall clock, Unix milliseconds.
    pub at_ms: u64,
    /// The words of all hot regions of the members' volumes before the change, as [`PairBits::word`] gives them: what replay cannot
    /// know otherwise. They are set first.
    pub marks: Vec<MarkWord>,
    /// The pairs, in the order they change.
    pub members: Vec<Member>,
    /// What it does to the volumes' configuration (SPLIT holds the mirror).
    pub configs: Vec<VolumeConfig>,
}

/// What a change of state does to one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Which. Unknown before: it begins, with empty bitmaps. Known with another primary: the old pair is gone.
    pub pair: PairId,
    /// The pair after the change. SIMPLEX: it is gone.
    pub meta: PairMeta,
    /// What happens to its bitmaps.
    pub change: Change,
}

/// Everything about a pair but its bitmaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairMeta {
    /// The primary.
    pub primary: VolumeId,
    /// The state.
    pub state: PairState,
    /// The mirror answers hosts, as far as the pair is concerned (SPLITTING: INSTANT).
    pub mirror_ready: bool,
    /// The copy now running covers every track.
    pub full: bool,
    /// The mirror is inconsistent until the copy ends.
    pub inconsistent: bool,
    /// Why the state changed without being asked for: the codes of docs/control-cdb.md, 0 when it was asked for.
    pub reason: u8,
    /// SUSPENDED out of COPY or DUPLEX: the primary is right for certain, and the pair may resume by itself.
    pub resumes: bool,
    /// Unix milliseconds of the last split, 0 never.
    pub split_at_ms: u64,
}

/// What CONFIG, HOLD and CANCEL leave on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeConfig {
    /// Which.
    pub volume: VolumeId,
    /// Is it held?
    pub hold: Hold,
    /// CONFIG NOT READY is in force.
    pub not_ready: bool,
    /// A copy to it was cancelled: it holds no image of anything.
    pub inconsistent: bool,
}

/// For whom a volume is held. The codes are the journal's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Hold {
    /// For nobody.
    #[default]
    None = 0,
    /// For its own standard.
    Own = 1,
    /// From everybody.
    Strict = 2,
}

impl Hold {
    /// All of them, in the order of the codes.
    pub const ALL: [Self; 3] = [Self::None, Self::Own, Self::Strict];
}

/// The 64 bits of one region of one bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkWord {
    /// Whose.
    pub pair: PairId,
    /// Which bitmap.
    pub which: Which,
    /// Which region.
    pub region: Region,
    /// Lowest track in the lowest bit.
    pub bits: u64,
}
