//! Arguments of `restore-files` and `restore-volume`.

use std::path::PathBuf;

use clap::Args;

use super::{names::FarVolume, names::VolumeName, pairs::How};

/// What both of them take.
#[derive(Debug, Args)]
pub(crate) struct FarRestoreArgs {
    /// The mirror that holds the image: split, of the volume given by --to.
    #[arg(long, value_name = "SVOL")]
    pub(crate) from: VolumeName,
    /// The volume of this system that follows the primary.
    #[arg(long, value_name = "SPVOL")]
    pub(crate) to: VolumeName,
    /// The primary, SYSTEM:NUMBER; refused if SPVOL follows another one.
    #[arg(long, value_name = "SYSTEM:PVOL")]
    pub(crate) primary: Option<FarVolume>,
    /// Run first, by `sh -c`: stops the application and unmounts the primary. If it fails nothing is restored.
    #[arg(long, value_name = "CMD")]
    pub(crate) before: Option<String>,
    /// Run when the primary is restored, or is as it was: mounts it and starts the application.
    #[arg(long, value_name = "CMD")]
    pub(crate) after: Option<String>,
    /// Although the primary's file system was not unmounted (its host has crashed).
    #[arg(long)]
    pub(crate) force: bool,
    /// Where SPVOL is on this host, if it is not found by its identifier: a partition, a logical volume.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) to_device: Option<PathBuf>,
    /// Give an interrupted restore up: what it wrote to SPVOL is undone from the primary.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) abandon: bool,
    /// Where it is kept how far the restore is [default: /var/lib/holdfast/restore-SYSTEM-SPVOL.json].
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreFilesArgs {
    #[command(flatten)]
    pub(crate) restore: FarRestoreArgs,
    /// Where SVOL is on this host, if it is not found by its identifier.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) from_device: Option<PathBuf>,
    /// Refuse an image whose log has to be replayed, instead of replaying it on SVOL.
    #[arg(long)]
    pub(crate) no_replay: bool,
    /// The files, from the root of the volume's file system. A directory is all that is in it.
    #[arg(value_name = "FILE", required_unless_present = "abandon")]
    pub(crate) files: Vec<String>,
}
