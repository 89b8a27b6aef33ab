//! The command line as it is typed. Each verb's help says what TimeFinder and HORCM call it.

mod administration;
mod generations;
mod link;
mod names;
mod pairs;
mod restore;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use self::{
    administration::{Class, EventsArgs, MapArgs, ReloadArgs, UnmapArgs, VolumeCommand, VolumeCreateArgs},
    generations::{CreateArgs, GenerationCommand, GenerationRestoreArgs, RuleCommand, RuleSetArgs},
    link::PkiCommand,
    names::{FarVolume, PairName, VolumeName},
    pairs::{
        BackupArgs, CancelArgs, ConfigArgs, EstablishArgs, ForceArgs, GroupCommand, How, OnLinkLossArgs,
        PairArgs, PendingArgs, QueryArgs, Reach, RestoreArgs, RestoreOptions, SplitArgs, VerifyArgs, Wait,
    },
    restore::{FarRestoreArgs, RestoreFilesArgs},
};

const NAMES: &str = "\
States, and what other arrays call them:

  here                 TimeFinder     HORCM
  simplex              NeverEstab     SMPL
  copy                 SyncInProg     COPY
  duplex               Synchronized   PAIR
  splitting            SplitInProg    COPY(SP)
  split                Split          PSUS
  restoring            RestInProg     RCPY
  restored             Restored       PAIR
  protected-restoring  RestInProg     RCPY
  suspended            Suspended      PSUE

Verbs:

  establish            symmir establish          paircreate, pairresync
  split                symmir split              pairsplit
  restore              symmir restore            pairresync -restore
  restore --protected  symmir restore -protect
  cancel               symmir cancel             pairsplit -S
  query                symmir query              pairdisplay
  verify               symmir verify             pairvolchk, pairevtwait
  swap                 symrdf swap               pairresync -swaps
  suspend              symrdf suspend            pairsplit -r

VOL, P and M are the number or the name of a volume; the far side of a remote pair is SYSTEM:VOL.

Exit codes: 0 done; 1 refused or failed, the reason is on stderr; 2 usage; 3 verify: no pair is in the asked state;
4 verify: some are; 5 --wait timed out; 6 the daemon or device cannot be reached.";

/// Pairs of volumes: establish, split, restore.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, about, after_help = NAMES, max_term_width = 110)]
pub(crate) struct Args {
    /// How to reach the system.
    #[command(flatten)]
    pub(crate) way: Way,
    /// Print one JSON document and no prose.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Three ways to the same commands.
#[derive(Debug, clap::Args)]
pub(crate) struct Way {
    /// The daemon's admin socket [env: HOLDFAST_ADMIN] [default: ./holdfast-data/admin.sock].
    #[arg(long, global = true, value_name = "SOCKET", conflicts_with_all = ["iscsi", "device"])]
    pub(crate) admin: Option<PathBuf>,
    /// In band, through a session of our own: `iscsi://[USER%SECRET@]HOST[:PORT]/IQN/LUN`; $HOLDFAST_INITIATOR is our name.
    #[arg(long, global = true, value_name = "URL", conflicts_with = "device")]
    pub(crate) iscsi: Option<String>,
    /// In band, through a SCSI device of the kernel: /dev/sgN or /dev/sdX.
    #[arg(long, global = true, value_name = "DEVICE")]
    pub(crate) device: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the volumes.
    Setup,
    /// Make M a mirror of P, or make it one again: copies what differs (TimeFinder: symmir establish; HORCM: paircreate,
    /// pairresync).
    Establish(EstablishArgs),
    /// Take M off as the image of P at this instant (TimeFinder: symmir split; HORCM: pairsplit).
    Split(SplitArgs),
    /// Take an image of P at the far site, on a mirror of its remote mirror, without breaking the remote pair; of several volumes at one
    /// instant: `backup P --to VOL P --to VOL`.
    Backup(BackupArgs),
    /// Copy M back to P: what differs (TimeFinder: symmir restore; HORCM: pairresync -restore).
    Restore(RestoreArgs),
    /// Run at the secondary's host: bring files back to the primary from an image at this site (Fig. 5; docs/restore.md).
    RestoreFiles(RestoreFilesArgs),
    /// Run at the secondary's system: make the primary what an image at this site is (Fig. 6; docs/restore.md).
    RestoreVolume(FarRestoreArgs),
    /// Hold a mirror against pair commands, or take a volume away from hosts.
    Config(ConfigArgs),
    /// Dissolve the pair and forget its history (TimeFinder: symmir cancel; HORCM: pairsplit -S).
    Cancel(CancelArgs),
    /// Exchange primary and mirror of a remote pair (TimeFinder: symrdf swap; HORCM: pairresync -swaps).
    Swap(ForceArgs),
    /// Stop sending to the mirror of a remote pair, keep marking (TimeFinder: symrdf suspend; HORCM: pairsplit -r).
    Suspend(PairArgs),
    /// What becomes of hosts' writes while the link of a sync pair is lost (HORCM: paircreate -f never|data).
    OnLinkLoss(OnLinkLossArgs),
    /// Show the pairs (TimeFinder: symmir query; HORCM: pairdisplay).
    Query(QueryArgs),
    /// Are the pairs in a state? Exits 0 all, 3 none, 4 some (TimeFinder: symmir verify; HORCM: pairvolchk, pairevtwait).
    Verify(VerifyArgs),
    /// Show the extents that differ (changed-block tracking).
    Pending(PendingArgs),
    /// Show the copy management table of a volume.
    Table {
        /// The volume.
        #[arg(value_name = "VOL")]
        volume: VolumeName,
    },
    /// One verb over several pairs: all or nothing, one point in time (TimeFinder: -g GROUP; HORCM: consistency group).
    #[command(subcommand)]
    Group(GroupCommand),
    /// Images of standards at an instant, kept by hand or by a rule (admin socket only; see docs/generations.md).
    #[command(subcommand)]
    Generation(GenerationCommand),
    /// Make, remove, enlarge and list volumes (admin socket only).
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Give a volume a LUN (admin socket only).
    Map(MapArgs),
    /// Take a volume's LUN away (admin socket only).
    Unmap(UnmapArgs),
    /// List the iSCSI sessions (admin socket only).
    Sessions,
    /// Show what happened (admin socket only).
    Events(EventsArgs),
    /// Show the link to other systems: who is connected, latency, throughput, what waits (admin socket only).
    Link,
    /// Make the certificates by which systems know each other; needs no daemon.
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Apply the changed configuration file (admin socket only).
    Reload(ReloadArgs),
    /// Print the completion script of a shell.
    Completion {
        /// bash, elvish, fish, powershell or zsh.
        shell: clap_complete::Shell,
    },
}
