//! Why the array cannot be opened, or its volumes cannot be changed.

use std::{io, path::PathBuf};

use replication_engine::recovery::RecoverError;
use target_core::{plain::ResizeError, scsi_model::control::VolumeNumber};

use crate::journal_file::JournalFileError;

/// See the module's page.
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    /// It was not opened inside a tokio runtime.
    #[error("the array must be opened inside a tokio runtime")]
    NoRuntime,
    /// What is kept of remote pairs cannot be read or written.
    #[error(transparent)]
    Remote(#[from] target_core::state_file::StateFileError),
    /// The journal cannot be opened or read.
    #[error(transparent)]
    Journal(#[from] JournalFileError),
    /// The journal is another system's.
    #[error("{path} is the journal of system {found:?}, not of {expected:?}: `id` or `state_dir` is wrong")]
    OtherSystem {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The track size was changed.
    #[error(
        "{path} was written with a track size of {found} bytes, {expected} are configured: it cannot be changed"
    )]
    TrackSize {
        /// The file.
        path: PathBuf,
        /// Bytes it was written with.
        found: u32,
        /// Bytes asked for.
        expected: u32,
    },
    /// The new journal file cannot be written.
    #[error("cannot start the journal: {0}")]
    StartJournal(io::Error),
    /// A volume is in a pair and not configured.
    #[error("volume {} is in the pair {} -> {}, but is not configured: configure it again", number.0, primary.0, mirror.0)]
    PairedVolumeMissing {
        /// Which.
        number: VolumeNumber,
        /// The pair's primary.
        primary: VolumeNumber,
        /// The pair's mirror.
        mirror: VolumeNumber,
    },
    /// A volume in a pair has another size than it had.
    #[error(
        "volume {} is in a pair and had {had} bytes in blocks of {had_block}; now it has {bytes} in blocks of {block_size}",
        number.0
    )]
    PairedVolumeResized {
        /// Which.
        number: VolumeNumber,
        /// Bytes it had.
        had: u64,
        /// Bytes a block it had.
        had_block: u32,
        /// Bytes it has.
        bytes: u64,
        /// Bytes a block it has.
        block_size: u32,
    },
    /// Two volumes with one number.
    #[error("there is a volume {} already", number.0)]
    VolumeExists {
        /// Which.
        number: VolumeNumber,
    },
    /// No such volume.
    #[error("there is no volume {}", number.0)]
    NoSuchVolume {
        /// Which.
        number: VolumeNumber,
    },
    /// The volume is in a pair.
    #[error("volume {} is in the pair {} -> {}: `cancel {} {}` first", number.0, primary.0, mirror.0, primary.0, mirror.0)]
    InPair {
        /// Which.
        number: VolumeNumber,
        /// The pair's primary.
        primary: VolumeNumber,
        /// The pair's mirror.
        mirror: VolumeNumber,
    },
    /// A command about the volume has not ended.
    #[error("volume {} is busy with a command: try again", number.0)]
    VolumeBusy {
        /// Which.
        number: VolumeNumber,
    },
    /// What the journal says cannot be followed.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The volume kept its size.
    #[error(transparent)]
    Resize(#[from] ResizeError),
}
