//! What one system asks of the other.

use crate::{
    frame::FrameError,
    header::{DIGEST_BYTES, Kind, MAX_DATA, MAX_DIGESTED, MAX_DIGESTS},
};
use bytes::Bytes;
use scsi_model::control::CopyMode;

/// The most bytes of a forwarded command.
pub const MAX_FORWARD: usize = 64 << 10;
/// The most bytes of a volume's name.
pub const NAME_BYTES: usize = 64;

/// A request. Data requests name the pair on whose behalf they are made and its epoch, so that one of a pair that
/// has moved on is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What is this volume?
    Describe(VolumeName),
    /// Write these bytes.
    Write {
        /// The pair.
        pair: u128,
        /// Its epoch.
        epoch: u64,
        /// The volume of the system asked.
        volume: u32,
        /// First byte.
        offset: u64,
        /// In the order of arrival, after what came before with `ordered` and before what comes later.
        ordered: bool,
        /// 1 byte to [`MAX_DATA`].
        data: Bytes,
    },
    /// Write zeros.
    Zero {
        /// The pair.
        pair: u128,
        /// Its epoch.
        epoch: u64,
        /// The volume of the system asked.
        volume: u32,
        /// First byte.
        offset: u64,
        /// Bytes, above 0.
        length: u64,
        /// The range may become a hole.
        unmap: bool,
        /// As for [`Request::Write`].
        ordered: bool,
    },
    /// Read bytes.
    Read {
        /// The pair.
        pair: u128,
        /// Its epoch.
        epoch: u64,
        /// The volume of the system asked.
        volume: u32,
        /// First byte.
        offset: u64,
        /// Bytes: 1 to [`MAX_DATA`].
        length: u32,
    },
    /// Make durable everything of the volume that was answered before.
    Flush {
        /// The pair.
        pair: u128,
        /// Its epoch.
        epoch: u64,
        /// The volume of the system asked.
        volume: u32,
    },
    /// What begins at this byte, data or a hole, and how long is it?
    Extents {
        /// The pair.
        pair: u128,
        /// Its epoch.
        epoch: u64,
        /// The volume of the system asked.
        volume: u32,
        /// The byte.
        offset: u64,
    },
    /// About a pair.
    Pair(PairOrder),
    /// A replication command to be executed there; the bytes are the two executors' business. 1 byte to [`MAX_FORWARD`].
    Forward(Bytes),
    /// The digest of each piece of a range.
    Digest {
        /// The pair.
        pair: u128,
        /// Its epoch.
        epoch: u64,
        /// The volume of the system asked.
        volume: u32,
        /// First byte.
        offset: u64,
        /// Bytes: 1 to [`MAX_DIGESTED`].
        length: u32,
        /// Bytes a piece; the last one may be shorter. At most [`MAX_DIGESTS`] pieces.
        piece: u32,
        /// As for [`Request::Write`].
        ordered: bool,
    },
}

/// How a request names a volume of the system asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeName {
    /// By number.
    Number(u32),
    /// By name: 1 to [`NAME_BYTES`] bytes.
    Name(String),
}

/// What is to happen to a pair, with what it is, so that both sides see whether they mean the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairOrder {
    /// The pair.
    pub pair: u128,
    /// Its epoch.
    pub epoch: u64,
    /// What is to happen.
    pub action: Action,
    /// The actions' own; carried as they are.
    pub flags: u16,
    /// The primary's number on its system.
    pub primary: u32,
    /// The mirror's number on its system.
    pub mirror: u32,
    /// When writes are acknowledged.
    pub mode: CopyMode,
    /// Bytes of both volumes.
    pub bytes: u64,
    /// Bytes a track.
    pub track_size: u32,
    /// The first track that the answer is to tell of.
    pub from: u64,
}

impl PairOrder {
    /// Flag: the leader's hosts do not write while the follower is away.
    pub const REFUSES: u16 = 1;
    /// Flag of a cancel: the leader proposed the pair, and it did not come to be. Refused of a pair that was equal once.
    pub const NEVER_MADE: u16 = 2;
    /// Flag: both volumes are one unit to hosts.
    pub const SHARED: u16 = 4;
}

/// What is to happen to a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// Nothing: tell how it is.
    Status = 0,
    /// It comes to be.
    Create = 1,
    /// The mirror is made equal to the primary.
    Establish = 2,
    /// A copy has ended.
    Finished = 3,
    /// The mirror keeps the image of this moment.
    Split = 4,
    /// The primary is made equal to the mirror.
    Restore = 5,
    /// Likewise, and the mirror is never written.
    RestoreProtected = 6,
    /// It ends.
    Cancel = 7,
    /// Primary and mirror change roles.
    Swap = 8,
}

impl Action {
    pub(crate) const ALL: [Self; 9] = [
        Self::Status,
        Self::Create,
        Self::Establish,
        Self::Finished,
        Self::Split,
        Self::Restore,
        Self::RestoreProtected,
        Self::Cancel,
        Self::Swap,
    ];
}

impl Request {
    /// Its kind on the wire.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Describe(_) => Kind::Describe,
            Self::Write { .. } => Kind::Write,
            Self::Zero { .. } => Kind::Zero,
            Self::Read { .. } => Kind::Read,
            Self::Flush { .. } => Kind::Flush,
            Self::Extents { .. } => Kind::Extents,
            Self::Pair(_) => Kind::Pair,
            Self::Forward(_) => Kind::Forward,
            Self::Digest { .. } => Kind::Digest,
        }
    }

    /// It must be carried out in the order of arrival.
    pub fn ordered(&self) -> bool {
        matches!(
            self,
            Self::Write { ordered: true, .. }
                | Self::Zero { ordered: true, .. }
                | Self::Digest { ordered: true, .. }
        )
    }

    /// What it takes of the other side's window until it is answered: its variable bytes and the most that its answer
    /// may have, and a little for itself.
    pub fn cost(&self) -> u64 {
        const ITSELF: u64 = 128;
        ITSELF
            + match self {
                Self::Write { data, .. } => data.len() as u64,
                Self::Read { length, .. } => u64::from(*length),
                Self::Pair(_) => 64 << 10,
                Self::Forward(command) => (command.len() + MAX_DATA) as u64,
                // The bytes are in memory there while they are digested.
                Self::Digest { length, piece, .. } => {
                    u64::from(*length) + u64::from(digests(*length, *piece)) * DIGEST_BYTES as u64
                }
                Self::Describe(_) | Self::Zero { .. } | Self::Flush { .. } | Self::Extents { .. } => 0,
            }
    }

    /// What may answer it.
    pub(crate) fn expects(&self) -> Expects {
        match self {
            Self::Read { length, .. } => Expects::Bytes(*length),
            Self::Describe(_) => Expects::Only(Kind::Described),
            Self::Extents { .. } => Expects::Only(Kind::Extent),
            Self::Pair(_) => Expects::Only(Kind::PairState),
            Self::Forward(_) => Expects::Only(Kind::Forwarded),
            Self::Digest { length, piece, .. } => Expects::Digests(digests(*length, *piece)),
            Self::Write { .. } | Self::Zero { .. } | Self::Flush { .. } => Expects::Only(Kind::Done),
        }
    }

    /// Fields that lengths alone do not check.
    pub(crate) fn check(&self) -> Result<(), FrameError> {
        let kind = self.kind();
        let range = |offset: u64, length: u64| {
            if length == 0 || offset.checked_add(length).is_none() {
                return Err(FrameError::Range { kind, offset, length });
            }
            Ok(())
        };
        match self {
            Self::Write { offset, data, .. } => range(*offset, data.len() as u64),
            Self::Zero { offset, length, .. } => range(*offset, *length),
            Self::Digest { length, .. } if *length as usize > MAX_DIGESTED => Err(FrameError::Field {
                kind,
                field: "length",
            }),
            Self::Digest { length, piece, .. }
                if *piece == 0 || digests(*length, *piece) as usize > MAX_DIGESTS =>
            {
                Err(FrameError::Field { kind, field: "piece" })
            }
            Self::Read { length, .. } if *length as usize > MAX_DATA => Err(FrameError::Field {
                kind,
                field: "length",
            }),
            Self::Read { offset, length, .. } | Self::Digest { offset, length, .. } => {
                range(*offset, u64::from(*length))
            }
            Self::Describe(VolumeName::Name(name)) if name.is_empty() || name.len() > NAME_BYTES => {
                Err(FrameError::Field { kind, field: "name" })
            }
            Self::Describe(_)
            | Self::Flush { .. }
            | Self::Extents { .. }
            | Self::Pair(_)
            | Self::Forward(_) => Ok(()),
        }
    }
}

/// Pieces of a range; a piece of 0 bytes, which is refused, is taken for 1.
fn digests(length: u32, piece: u32) -> u32 {
    length.div_ceil(piece.max(1))
}

/// What may answer a request, beside Failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expects {
    /// Data of this many bytes, or a hole.
    Bytes(u32),
    /// So many digests.
    Digests(u32),
    /// This kind.
    Only(Kind),
}

impl Expects {
    /// An answer of this kind, with this much data, does.
    pub(crate) fn fits(self, kind: Kind, data: usize) -> bool {
        match (self, kind) {
            (_, Kind::Failed) | (Self::Bytes(_), Kind::Hole) => true,
            (Self::Bytes(length), Kind::Data) => data == length as usize,
            (Self::Digests(count), Kind::Digests) => data == count as usize * DIGEST_BYTES,
            (Self::Only(expected), _) => kind == expected,
            _ => false,
        }
    }
}
