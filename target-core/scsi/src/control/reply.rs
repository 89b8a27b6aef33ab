//! What a replication command answers, free of any wire format.

use serde::{Deserialize, Serialize};

use super::request::{SystemId, VolumeNumber};

/// The answer to a [`super::Request`] that was not refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// An OUT command was done (or, with DRY-RUN, would be).
    Done,
    /// QUERY.
    Pairs(Vec<PairDescriptor>),
    /// VERIFY.
    Verify(VerifySummary),
    /// SETUP.
    Volumes(Vec<VolumeDescriptor>),
    /// REPORT CAPABILITIES.
    Capabilities(Capabilities),
    /// READ PENDING MAP: ascending, merged, clipped to the capacity.
    Pending(Vec<PendingExtent>),
    /// COPY MANAGEMENT TABLE.
    Table(Vec<CopyTableEntry>),
    /// PREVIEW.
    Preview(Preview),
}

/// One pair as QUERY shows it (96 bytes on the wire).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairDescriptor {
    /// Primary volume.
    pub primary: VolumeNumber,
    /// Mirror volume.
    pub mirror: VolumeNumber,
    /// The peer system of a remote pair; `None` is a local pair.
    pub peer: Option<SystemId>,
    /// 0 this system holds both, 1 the primary, 2 the mirror.
    pub role: u8,
    /// State code: 0 SIMPLEX ... 8 SUSPENDED.
    pub state: u8,
    /// Held for its own standard by SPLIT.
    pub held: bool,
    /// Held against every command.
    pub strictly_held: bool,
    /// The mirror answers hosts.
    pub mirror_ready: bool,
    /// An incremental copy is possible.
    pub history: bool,
    /// The copy now running covers every track.
    pub full: bool,
    /// The link of a remote pair is up; `None` for a local pair.
    pub link_up: Option<bool>,
    /// Mode of a remote pair; `None` for a local pair.
    pub mode: Option<super::CopyMode>,
    /// The mirror is inconsistent until the copy ends.
    pub mirror_inconsistent: bool,
    /// Bytes.
    pub track_size: u32,
    /// Tracks in the volume.
    pub tracks: u64,
    /// Tracks changed on the primary, owed to the mirror.
    pub mirror_invalid: u64,
    /// Tracks changed on the mirror or not yet restored.
    pub primary_invalid: u64,
    /// Tracks that the copy now running has left.
    pub remaining: u64,
    /// Unix milliseconds of the last split; 0 never.
    pub split_at_ms: u64,
    /// Bytes per second of the running copy; 0 not copying.
    pub rate: u64,
    /// Seconds left; `None` unknown.
    pub eta_seconds: Option<u32>,
    /// Why the state last changed unasked.
    pub reason: Reason,
    /// What becomes of hosts' writes without the far side; `None` for a local pair.
    #[serde(default)]
    pub on_link_loss: Option<super::OnLinkLoss>,
    /// A number that names the peer's volume on this system, and no other; `None` for a local pair.
    #[serde(default)]
    pub handle: Option<VolumeNumber>,
}

/// Reason code of the last unasked-for state change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Reason {
    /// 0.
    #[default]
    None = 0,
    /// 1: the link went down.
    LinkDown = 1,
    /// 2: an I/O error on the mirror.
    MirrorIo = 2,
    /// 3: an I/O error on the primary.
    PrimaryIo = 3,
    /// 4: recovery after a crash.
    CrashRecovery = 4,
    /// 5: the peer refused.
    PeerRefused = 5,
}

/// VERIFY (32 bytes on the wire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VerifySummary {
    /// Pairs selected.
    pub selected: u32,
    /// Pairs in the asked state.
    pub in_state: u32,
    /// Pairs in which no copy runs.
    pub settled: u32,
    /// Invalid tracks of all of them.
    pub invalid_tracks: u64,
    /// Lowest synchronized share, in 1/10000.
    pub lowest_share: u32,
}

/// One volume as SETUP shows it (96 bytes on the wire).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDescriptor {
    /// Number.
    pub number: VolumeNumber,
    /// Class is mirror (else standard).
    pub mirror_class: bool,
    /// Answers hosts.
    pub ready: bool,
    /// Read-only for hosts.
    pub read_only: bool,
    /// Thin provisioned.
    pub thin: bool,
    /// Pairs it is in.
    pub pairs: u16,
    /// Logical blocks.
    pub blocks: u64,
    /// Bytes per logical block.
    pub block_size: u32,
    /// Bytes per track.
    pub track_size: u32,
    /// NAA designator of VPD 83h.
    pub naa: [u8; 16],
    /// Unit serial number, ASCII.
    pub serial: String,
    /// LUN through which the receiving target exports it; filled in by the CDB layer, `None` on the admin socket.
    pub lun: Option<u16>,
    /// Name.
    pub name: String,
}

/// REPORT CAPABILITIES (64 bytes on the wire).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// This system.
    pub system: SystemId,
    /// Most pairs of one volume.
    pub pairs_per_volume: u32,
    /// Most descriptors in a LIST.
    pub list_descriptors: u32,
    /// Default track size in bytes.
    pub track_size: u32,
    /// Software version, ASCII, at most 16 characters.
    pub version: String,
}

/// An extent that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingExtent {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks.
    pub blocks: u64,
}

/// One row of a volume's copy management table (64 bytes on the wire).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyTableEntry {
    /// The pair is remote (else local).
    pub remote: bool,
    /// This volume is the primary of the pair.
    pub primary: bool,
    /// State code.
    pub status: u8,
    /// The other volume.
    pub other: VolumeNumber,
    /// The system that holds the other volume.
    pub system: SystemId,
    /// Bits set in this volume's pending bitmap.
    pub pending: u64,
    /// Bytes that a bit stands for.
    pub bytes_per_bit: u32,
}

/// PREVIEW.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Tracks the command would copy.
    pub tracks: u64,
    /// Bytes the command would copy.
    pub bytes: u64,
}

/// A refusal. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What the sense data says.
    pub kind: RefusalKind,
    /// What, why, and what would be accepted, as one sentence for people.
    pub message: String,
    /// Index of the first refused member of a LIST.
    pub member: Option<u16>,
}

/// Why a command was refused: each kind has its own sense code (docs/control-cdb.md, "Sense data").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// 5h/24h/00h: a flag or a value that the verb does not take. The byte and bit go to the field pointer.
    InvalidField {
        /// Byte of the CDB.
        byte: u16,
        /// Bit of that byte, if one is to blame.
        bit: Option<u8>,
    },
    /// 5h/26h/00h: the same in the parameter list.
    InvalidParameter {
        /// Byte of the parameter list.
        byte: u16,
    },
    /// 5h/2Ch/80h.
    State,
    /// 5h/2Ch/81h.
    Held,
    /// 5h/2Ch/82h.
    OtherStandard,
    /// 5h/2Ch/83h.
    Geometry,
    /// 5h/2Ch/84h.
    NoSuchPair,
    /// 5h/2Ch/85h.
    NoSuchVolume,
    /// 5h/2Ch/86h.
    InUse,
    /// 5h/2Ch/87h.
    NoPath,
    /// 5h/2Ch/88h.
    PeerRefused,
    /// 5h/2Ch/89h.
    NoHistory,
    /// 2h/04h/03h.
    NotReady,
    /// 4h/44h/00h INTERNAL TARGET FAILURE: the journal could not be written.
    Internal,
}
