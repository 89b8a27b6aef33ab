//! Arguments of the pair verbs.

use std::time::Duration;

use admin_api::PairState;
use clap::{Args, Subcommand, ValueEnum};
use scsi_model::control::{Condition, CopyMode, Flags, OnLinkLoss, PendingSide};

use super::names::{FarVolume, PairName, VolumeName};

/// Wait until the copy has ended?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct Wait {
    /// Wait until the copy has ended.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
    /// Wait this long at most.
    #[arg(long, value_name = "SECS", requires = "wait", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
}

/// Do it, or only ask?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct How {
    /// Change nothing: would it be accepted, and what would it copy?
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// P and M.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Reach {
    /// Primary volume (TimeFinder: standard; HORCM: PVOL).
    #[arg(value_name = "P")]
    pub(crate) primary: FarVolume,
    /// Mirror volume (TimeFinder: BCV; HORCM: SVOL).
    #[arg(value_name = "M")]
    pub(crate) mirror: FarVolume,
}

#[derive(Debug, Args)]
pub(crate) struct EstablishArgs {
    #[command(flatten)]
    pub(crate) pair: Reach,
    /// Copy every track, not only those that differ.
    #[arg(long)]
    pub(crate) full: bool,
    /// Compare digests first, and send only what is different.
    #[arg(long)]
    pub(crate) checksum: bool,
    /// Mode of a new remote pair.
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,
    /// What becomes of hosts' writes while the link of this sync pair is lost; see `on-link-loss`.
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) on_link_loss: Option<Policy>,
    #[command(flatten)]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    #[command(flatten)]
    pub(crate) pair: Reach,
    #[command(flatten)]
    pub(crate) options: SplitOptions,
    /// Split M, a local mirror at the paired system, from P's remote mirror.
    #[arg(long)]
    pub(crate) remote: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The primary of a remote pair. Several, each followed by its --to: images of one instant, of all or of none. One that is mirrored to no
    /// other system may be among them, with a local mirror.
    #[arg(value_name = "P", required = true)]
    pub(crate) primaries: Vec<VolumeName>,
    /// The mirror at the far site that gets the image of P: a number there, or SYSTEM:NUMBER.
    #[arg(long, value_name = "VOL", required = true)]
    pub(crate) to: Vec<FarVolume>,
    /// Give up when the image is not at the far site by then; 30 if not said.
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Run first, by `sh -c`: freezes the application or its file system. If it fails nothing is backed up.
    #[arg(long, value_name = "CMD")]
    pub(crate) before: Option<String>,
    /// Run as soon as the image is taken, or could not be, or Ctrl-C has cancelled it: thaws it again.
    #[arg(long, value_name = "CMD")]
    pub(crate) after: Option<String>,
    #[command(flatten)]
    pub(crate) how: How,
}

/// What a split may take besides.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct SplitOptions {
    /// The mirror is ready for hosts at once, although tracks are still owed to it (TimeFinder: -instant).
    #[arg(long)]
    pub(crate) instant: bool,
    /// Refuse every pair command on the mirror until `config release`.
    #[arg(long)]
    pub(crate) strict_hold: bool,
    /// Stop a protected restore; what it has not restored stays marked.
    #[arg(long)]
    pub(crate) force: bool,
}

impl SplitOptions {
    pub(crate) fn flags(self) -> Flags {
        Flags {
            instant: self.instant,
            strict_hold: self.strict_hold,
            force: self.force,
            ..Flags::default()
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) pair: Reach,
    #[command(flatten)]
    pub(crate) options: RestoreOptions,
    #[command(flatten)]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) how: How,
}

/// What a restore may take besides.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct RestoreOptions {
    /// Copy every track, not only those that differ.
    #[arg(long)]
    pub(crate) full: bool,
    /// Keep the mirror split and never write to it (TimeFinder: -protect).
    #[arg(long)]
    pub(crate) protected: bool,
    /// Compare digests first, and send only what is different.
    #[arg(long)]
    pub(crate) checksum: bool,
}

impl RestoreOptions {
    pub(crate) fn flags(self) -> Flags {
        Flags {
            full: self.full,
            protected: self.protected,
            checksum: self.checksum,
            ..Flags::default()
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// What to make of the volume.
    #[arg(value_enum)]
    pub(crate) condition: ConditionName,
    /// The volume.
    #[arg(value_name = "VOL")]
    pub(crate) volume: VolumeName,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(crate) pair: Reach,
    /// Although a copy runs or a host uses the mirror.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Args)]
pub(crate) struct ForceArgs {
    #[command(flatten)]
    pub(crate) pair: Reach,
    /// Without the peer.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Args)]
pub(crate) struct PairArgs {
    #[command(flatten)]
    pub(crate) pair: Reach,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Args)]
pub(crate) struct OnLinkLossArgs {
    /// What becomes of them.
    #[arg(value_enum)]
    pub(crate) policy: Policy,
    #[command(flatten)]
    pub(crate) pair: Reach,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// Only pairs of this primary.
    #[arg(value_name = "P")]
    pub(crate) primary: Option<FarVolume>,
    /// Only this pair.
    #[arg(value_name = "M")]
    pub(crate) mirror: Option<FarVolume>,
    /// Redraw with progress bars until interrupted.
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Only pairs of this primary.
    #[arg(value_name = "P")]
    pub(crate) primary: Option<FarVolume>,
    /// Only this pair.
    #[arg(value_name = "M")]
    pub(crate) mirror: Option<FarVolume>,
    /// The state, by any of its names; without it: is no copy running?
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<PairState>,
    /// Wait until all are.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Wait this long at most.
    #[arg(long, value_name = "SECS", requires = "wait", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Compare what both sides hold, while hosts go on, and mark what differs without a mark in pairs that are apart.
    #[arg(long, conflicts_with_all = ["state", "wait"])]
    pub(crate) deep: bool,
    /// Copy what differs in established pairs from the primary to the mirror.
    #[arg(long, requires = "deep")]
    pub(crate) repair: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PendingArgs {
    #[command(flatten)]
    pub(crate) pair: Reach,
    /// Whose changes.
    #[arg(long, value_enum, default_value = "union")]
    pub(crate) side: Side,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Establish every pair, or none.
    Establish {
        /// The pairs.
        #[arg(value_name = "P:M", required = true)]
        pairs: Vec<PairName>,
        /// Copy every track, not only those that differ.
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        wait: Wait,
        #[command(flatten)]
        how: How,
    },
    /// Split every pair at the same instant, or none.
    Split {
        /// The pairs.
        #[arg(value_name = "P:M", required = true)]
        pairs: Vec<PairName>,
        #[command(flatten)]
        options: SplitOptions,
        #[command(flatten)]
        wait: Wait,
        #[command(flatten)]
        how: How,
    },
    /// Restore every pair, or none.
    Restore {
        /// The pairs.
        #[arg(value_name = "P:M", required = true)]
        pairs: Vec<PairName>,
        #[command(flatten)]
        options: RestoreOptions,
        #[command(flatten)]
        wait: Wait,
        #[command(flatten)]
        how: How,
    },
}

/// CONDITION of CONFIG.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ConditionName {
    /// Refuse every pair command on the mirror.
    Hold,
    /// End a hold, also the one that a split left.
    Release,
    /// Refuse host I/O and pair commands.
    NotReady,
    /// Undo not-ready.
    Ready,
}

impl From<ConditionName> for Condition {
    fn from(name: ConditionName) -> Self {
        match name {
            ConditionName::Hold => Self::Hold,
            ConditionName::Release => Self::Release,
            ConditionName::NotReady => Self::NotReady,
            ConditionName::Ready => Self::Ready,
        }
    }
}

/// Mode of a remote pair.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Mode {
    /// A host write is acknowledged when both systems have it.
    Sync,
    /// Acknowledged here, shipped in order.
    Async,
}

impl From<Mode> for CopyMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Sync => Self::Sync,
            Mode::Async => Self::Async,
        }
    }
}

/// What becomes of hosts' writes without the far side.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Policy {
    /// They go on here, and are marked for the resync.
    Mark,
    /// They are refused (NOT READY, BECOMING READY: hosts try again) until the link is back, or the policy is another.
    Refuse,
}

impl From<Policy> for OnLinkLoss {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Mark => Self::Mark,
            Policy::Refuse => Self::Refuse,
        }
    }
}

/// SELECT of READ PENDING MAP.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Side {
    /// What either side changed.
    Union,
    /// What the primary changed.
    Primary,
    /// What the mirror changed.
    Mirror,
    /// What the running copy has left.
    Remaining,
}

impl From<Side> for PendingSide {
    fn from(side: Side) -> Self {
        match side {
            Side::Union => Self::Union,
            Side::Primary => Self::Primary,
            Side::Mirror => Self::Mirror,
            Side::Remaining => Self::Remaining,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "a number of seconds is accepted".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
