//! Arguments of what only the admin socket does.

use std::path::PathBuf;

use admin_api::Size;
use clap::{Args, Subcommand, ValueEnum};

use super::names::VolumeName;

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a volume. It is kept over restarts.
    Create(VolumeCreateArgs),
    /// Stop serving a volume that was made here. Its image file stays.
    Delete {
        /// The volume.
        #[arg(value_name = "VOL")]
        volume: VolumeName,
    },
    /// Enlarge a volume.
    Resize {
        /// The volume.
        #[arg(value_name = "VOL")]
        volume: VolumeName,
        /// The new size, like 20GiB.
        size: Size,
    },
    /// List the volumes with their files and LUNs.
    List,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeCreateArgs {
    /// Name.
    pub(crate) name: String,
    /// Size, like 10GiB; needed when the file does not exist.
    #[arg(long)]
    pub(crate) size: Option<Size>,
    /// What it is meant for.
    #[arg(long, value_enum, default_value = "standard")]
    pub(crate) class: Class,
    /// Number; the lowest free one if not given.
    #[arg(long)]
    pub(crate) number: Option<u32>,
    /// Image file or block device, as the daemon sees it; NAME.img in the state directory if not given.
    #[arg(long, conflicts_with = "memory")]
    pub(crate) file: Option<PathBuf>,
    /// Keep it in memory: lost when the daemon ends.
    #[arg(long, requires = "size")]
    pub(crate) memory: bool,
    /// Past the page cache of the daemon's machine (O_DIRECT).
    #[arg(long, conflicts_with = "memory")]
    pub(crate) direct: bool,
    /// Bytes per logical block: 512 or 4096.
    #[arg(long, default_value_t = 512)]
    pub(crate) block_size: u32,
    /// Bytes per physical block: 4096 over 512 is 512e.
    #[arg(long)]
    pub(crate) physical_block_size: Option<u32>,
    /// A removable medium.
    #[arg(long)]
    pub(crate) removable: bool,
    /// Not thin provisioned.
    #[arg(long)]
    pub(crate) thick: bool,
}

/// What a volume is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Class {
    /// For hosts.
    Standard,
    /// For pairs.
    Mirror,
}

#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    /// The volume.
    #[arg(value_name = "VOL")]
    pub(crate) volume: VolumeName,
    /// Target name; needed when there are several.
    #[arg(long, value_name = "IQN")]
    pub(crate) target: Option<String>,
    /// LUN; the lowest free one if not given.
    #[arg(long)]
    pub(crate) lun: Option<u16>,
    /// Write protect it.
    #[arg(long)]
    pub(crate) read_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Only say what would change, and what cannot while serving (exit code 1).
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UnmapArgs {
    /// The volume.
    #[arg(value_name = "VOL")]
    pub(crate) volume: VolumeName,
    /// Target name; needed when there are several.
    #[arg(long, value_name = "IQN")]
    pub(crate) target: Option<String>,
    /// LUN; needed when the volume has several.
    #[arg(long)]
    pub(crate) lun: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on until interrupted.
    #[arg(long)]
    pub(crate) follow: bool,
    /// Only those after this number.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) after: u64,
}
