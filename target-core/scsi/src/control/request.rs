//! What a replication command asks for, free of any wire format.

use serde::{Deserialize, Serialize};

/// A volume number as hosts and administrators use it. `0xFFFF_FFFE` and `0xFFFF_FFFF` are never volumes: on the
/// wire they are selectors (docs/control-cdb.md, "CDB").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VolumeNumber(pub u32);

/// A system's name: 1 to 16 characters out of `A-Z a-z 0-9 - . _`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SystemId(String);

impl SystemId {
    /// Checks length and alphabet.
    pub fn new(id: impl Into<String>) -> Result<Self, BadSystemId> {
        let id = id.into();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if id.is_empty() || id.len() > 16 || !id.chars().all(legal) {
            return Err(BadSystemId { id });
        }
        Ok(Self(id))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as it goes on the wire: ASCII, padded with spaces to 16 bytes.
    pub fn to_wire(&self) -> [u8; 16] {
        let mut wire = [b' '; 16];
        wire[..self.0.len()].copy_from_slice(self.0.as_bytes());
        wire
    }
}

impl std::fmt::Display for SystemId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SystemId {
    type Error = BadSystemId;
    fn try_from(id: String) -> Result<Self, BadSystemId> {
        Self::new(id)
    }
}

impl From<SystemId> for String {
    fn from(id: SystemId) -> Self {
        id.0
    }
}

/// A text that is no system id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{id:?} is no system id: 1 to 16 characters A-Z a-z 0-9 - . _ are accepted")]
pub struct BadSystemId {
    /// The text refused.
    pub id: String,
}

/// A primary and its mirror, as a command names them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VolumePair {
    /// The primary (standard) volume.
    pub primary: VolumeNumber,
    /// The mirror; `None` is "the only pair of that primary" (wire: `FFFFFFFFh`).
    pub mirror: Option<VolumeNumber>,
}

/// The verbs of REPLICATION OUT (C1h).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutVerb {
    /// Service action 00h. `remote` holds the peer and the mode when REMOTE is set.
    Establish {
        /// The peer system and mode of a remote pair to be made.
        remote: Option<(SystemId, CopyMode)>,
    },
    /// Service action 01h.
    Split,
    /// Service action 02h.
    Restore,
    /// Service action 03h; acts on the mirror volume of the (only) member, the primary is ignored.
    Config(Condition),
    /// Service action 04h.
    Cancel,
    /// Service action 05h.
    Swap,
    /// Service action 06h.
    Suspend,
    /// Service action 03h, conditions 5 and 6; the pair's primary counts.
    OnLinkLoss(OnLinkLoss),
}

impl OutVerb {
    /// The verb as users type it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Establish { .. } => "establish",
            Self::Split => "split",
            Self::Restore => "restore",
            Self::Config(_) => "config",
            Self::Cancel => "cancel",
            Self::Swap => "swap",
            Self::Suspend => "suspend",
            Self::OnLinkLoss(_) => "on-link-loss",
        }
    }
}

/// CONDITION of CONFIG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// 1: reserve the volume against every pair command.
    Hold,
    /// 2: end the hold.
    Release,
    /// 3: refuse host I/O and pair commands.
    NotReady,
    /// 4: undo NOT READY.
    Ready,
}

/// What becomes of hosts' writes while the far side of a remote pair is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLinkLoss {
    /// They go on, and are marked.
    #[default]
    Mark,
    /// They are refused.
    Refuse,
}

/// Mode of a remote pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyMode {
    /// 0: acknowledged locally, shipped in order.
    Async,
    /// 1: acknowledged when both systems have it.
    Sync,
}

/// FLAGS of a REPLICATION OUT command, without DRY-RUN and LIST, which [`Request`] says by its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flags {
    /// Bit 0: copy every track.
    pub full: bool,
    /// Bit 1: the mirror is ready at once.
    pub instant: bool,
    /// Bit 2: keep the mirror split and never write to it.
    pub protected: bool,
    /// Bit 3: refuse every pair command on the mirror until RELEASE.
    pub strict_hold: bool,
    /// Bit 4: the mirror is at the paired system.
    pub remote: bool,
    /// Bit 5: do it although a host may be hurt.
    pub force: bool,
    /// Byte 3, bit 4: of what is to be copied, send only what digests say is different.
    #[serde(skip_serializing_if = "is_not")]
    pub checksum: bool,
}

/// A flag that came later is not written where it is not set.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_not(flag: &bool) -> bool {
    !flag
}

/// Which pairs an IN command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairSelector {
    /// Everything on this system (wire: both `FFFFFFFEh`).
    All,
    /// Every pair of that primary (wire: mirror `FFFFFFFFh`).
    OfPrimary(VolumeNumber),
    /// One pair.
    One(VolumeNumber, VolumeNumber),
}

/// SELECT of READ PENDING MAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PendingSide {
    /// 0: what either side changed.
    Union,
    /// 1: what the primary changed.
    Primary,
    /// 2: what the mirror changed.
    Mirror,
    /// 3: tracks not yet restored or copied.
    Remaining,
}

/// One replication command, from wherever it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// C1h. More than one member is LIST: all or nothing, one point in time.
    Out {
        /// What to do.
        verb: OutVerb,
        /// How.
        flags: Flags,
        /// To which pairs; one, or 1 to 1024 with LIST.
        members: Vec<VolumePair>,
        /// Validate only.
        dry_run: bool,
    },
    /// C0h 00h.
    Query(PairSelector),
    /// C0h 01h; `state` is a state code, `None` is "any settled state".
    Verify {
        /// Which pairs.
        pairs: PairSelector,
        /// The state asked for, as its code.
        state: Option<u8>,
    },
    /// C0h 02h.
    Setup,
    /// C0h 03h.
    ReportCapabilities,
    /// C0h 04h. The executor answers the whole map; the CDB layer cuts it and keeps the continuation.
    ReadPendingMap {
        /// The pair.
        pair: VolumePair,
        /// Whose changes.
        side: PendingSide,
    },
    /// C0h 05h.
    CopyManagementTable(VolumeNumber),
    /// C0h 06h: what would this OUT command do?
    Preview {
        /// The verb asked about.
        verb: OutVerb,
        /// Its flags.
        flags: Flags,
        /// The pair.
        pair: VolumePair,
    },
}
