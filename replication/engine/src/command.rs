//! Commands to the engine, their answers, and the views a caller may take of the engine's state.

use crate::{
    ids::{ByteRange, VolumeId},
    state::PairState,
    track::TrackRange,
};

/// A command. Members are (primary, mirror); all or nothing, one point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A pair verb.
    Pair {
        /// What to do.
        verb: Verb,
        /// To which pairs.
        members: Vec<(VolumeId, VolumeId)>,
        /// Validate, and count what would be copied, only.
        dry_run: bool,
    },
    /// What the system at the other end of a remote pair has a part in.
    Remote {
        /// The pair.
        pair: (VolumeId, VolumeId),
        /// What to do.
        act: RemoteAct,
        /// Validate only.
        dry_run: bool,
    },
    /// CONFIG.
    Config {
        /// Which condition.
        condition: Condition,
        /// Of which volume.
        volume: VolumeId,
        /// Validate only.
        dry_run: bool,
    },
}

/// The pair verbs of the transition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Make (or make again) a mirror.
    Establish {
        /// Every track.
        full: bool,
    },
    /// Take the mirror off as the image of this instant.
    Split {
        /// Ready at once.
        instant: bool,
        /// Refuse everything on the mirror until RELEASE.
        strict_hold: bool,
        /// Stop a protected restore.
        force: bool,
    },
    /// Bring the mirror's image back.
    Restore {
        /// Every track.
        full: bool,
        /// Keep the mirror split and never write to it.
        protected: bool,
    },
    /// Dissolve the pair.
    Cancel {
        /// Although a copy runs.
        force: bool,
    },
}

/// What only remote pairs know ([`crate::remote`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteAct {
    /// Leader, apart: these tracks were changed on the far side, which has kept the marks. They count as the mirror's changes from
    /// now on.
    Adopt(Vec<TrackRange>),
    /// Established, and not with a foreign primary: these tracks were found to differ. They are copied to the mirror, in COPY.
    Owe(Vec<TrackRange>),
    /// Follower, established: the leader begins to copy; the mirror holds no moment's image until it arrives.
    Depart,
    /// Follower, established: the leader says that the mirror is equal now.
    Arrive,
    /// Leader, COPY or DUPLEX: nothing is sent any more, changes are marked; it does not resume by itself.
    Suspend,
    /// Leader, SUSPENDED, with nothing marked: the other side has taken over, and this one follows it from now on.
    Yield,
    /// Primary and mirror, which are equal, change their parts.
    Swap {
        /// The other system has no part in it; the new leader is SUSPENDED and marks its writes.
        alone: bool,
    },
    /// Follower, DUPLEX or COPY, that led until now: the other side has not begun, and this one leads again, SUSPENDED, with all marks.
    Regain,
}

/// CONFIG's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Hold strictly.
    Hold,
    /// End either hold.
    Release,
    /// Refuse host I/O and pair commands.
    NotReady,
    /// Undo that.
    Ready,
}

/// What an accepted command does (or, dry, would do).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Tracks that are to be copied because of it, all members together.
    pub tracks: u64,
}

/// A refusal: nothing was changed (but see [`Why::Unstable`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Index of the first refused member.
    pub member: usize,
    /// Why.
    pub why: Why,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Not in this state.
    #[error("{verb} is not accepted while the pair is {state}; accepted now: {accepted}")]
    State {
        /// The verb as users type it.
        verb: &'static str,
        /// The pair's state.
        state: PairState,
        /// The verbs that this state accepts, comma separated.
        accepted: String,
    },
    /// There is no such pair.
    #[error("volume {} is not a mirror of volume {}", mirror.0, primary.0)]
    NoSuchPair {
        /// As asked.
        primary: VolumeId,
        /// As asked.
        mirror: VolumeId,
    },
    /// The mirror is in a pair with another standard that has not let it go (or is held for it).
    #[error("volume {} is a mirror of volume {}: release or cancel that pair first", mirror.0, standard.0)]
    OtherStandard {
        /// The mirror.
        mirror: VolumeId,
        /// Its standard.
        standard: VolumeId,
    },
    /// The mirror is held.
    #[error("volume {} is held: `config release` ends that", volume.0)]
    Held {
        /// Which.
        volume: VolumeId,
    },
    /// CONFIG NOT READY is in force.
    #[error("volume {} was made not ready: `config ready` ends that", volume.0)]
    NotReady {
        /// Which.
        volume: VolumeId,
    },
    /// Unknown volume.
    #[error("there is no volume {}", volume.0)]
    NoSuchVolume {
        /// Which.
        volume: VolumeId,
    },
    /// Different capacity or block size.
    #[error("volumes {} and {} differ in {what}", a.0, b.0)]
    Geometry {
        /// One.
        a: VolumeId,
        /// The other.
        b: VolumeId,
        /// "capacity" or "block size".
        what: &'static str,
    },
    /// The pair cannot be made or run because of another pair of one of its volumes.
    #[error("{reason}")]
    Conflict {
        /// A sentence that names the other pair.
        reason: String,
    },
    /// More pairs than one volume can have.
    #[error("volume {} has {limit} pairs already", volume.0)]
    TooManyPairs {
        /// Which.
        volume: VolumeId,
        /// The limit.
        limit: u32,
    },
    /// The change is in force, but an image it promises may be lost with a cache: a flush of this volume failed. Pairs that
    /// keep two legs with it are suspended.
    #[error("the command is in force, but volume {} could not be flushed: its content is not safe from a power failure", volume.0)]
    Unstable {
        /// Which.
        volume: VolumeId,
    },
    /// The journal could not be written.
    #[error("the metadata journal could not be written: nothing was changed")]
    Journal,
}

/// What the engine knows of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Capacity in bytes.
    pub bytes: u64,
    /// Bytes a logical block.
    pub block_size: u32,
}

/// A pair as QUERY sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairView {
    /// Primary.
    pub primary: VolumeId,
    /// Mirror.
    pub mirror: VolumeId,
    /// State.
    pub state: PairState,
    /// Held for its standard.
    pub held: bool,
    /// Held strictly.
    pub strictly_held: bool,
    /// The mirror answers hosts.
    pub mirror_ready: bool,
    /// An incremental copy is possible.
    pub history: bool,
    /// The copy now running covers every track.
    pub full: bool,
    /// The mirror is inconsistent until the copy ends.
    pub mirror_inconsistent: bool,
    /// Tracks in the volume.
    pub tracks: u64,
    /// Tracks owed to the mirror.
    pub mirror_invalid: u64,
    /// Tracks owed to the primary.
    pub primary_invalid: u64,
    /// Tracks the copy has left.
    pub remaining: u64,
    /// Unix milliseconds of the last split, 0 never.
    pub split_at_ms: u64,
    /// Bytes per second of the running copy.
    pub rate: u64,
    /// Seconds left.
    pub eta_seconds: Option<u32>,
    /// Last unasked-for change: the codes of docs/control-cdb.md.
    pub reason: u8,
    /// SUSPENDED by a fault out of COPY or DUPLEX: the primary is right for certain.
    pub resumes: bool,
}

/// Whose changes a pending map shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Both.
    Union,
    /// The primary's.
    Primary,
    /// The mirror's.
    Mirror,
    /// What the running copy has left.
    Remaining,
}

/// A run of tracks as bytes, clipped to the capacity.
pub type Extent = ByteRange;
