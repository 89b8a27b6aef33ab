//! What a logical unit keeps through a restart of the daemon: its persistent reservations and saved mode pages,
//! and that a SANITIZE has not come to its end.
//!
//! They are stored whatever APTPL says. APTPL is about loss of power, and to a host whose session is back within
//! seconds a restart of the daemon is none: a cluster whose fence has silently gone would write from two nodes.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use scsi_model::{
    control::VolumeNumber, mode_pages::ModeParameters, reservations::Reservations, sanitize::Unfinished,
};
use serde::{Deserialize, Serialize};

use crate::{
    media::threads::Threads,
    redo::Redo,
    state_file::{self, StateFileError},
    volume::IoError,
};

/// The document in `units/<volume number>.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitState {
    /// Persistent reservations.
    pub reservations: Reservations,
    /// Saved mode parameters.
    pub modes: ModeParameters,
    /// A SANITIZE or FORMAT UNIT that has not succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Unfinished>,
}

/// Where a unit's state is stored.
#[derive(Debug, Clone)]
pub struct UnitStateStore {
    path: Option<PathBuf>,
}

impl UnitStateStore {
    /// The state of the unit of this volume, in `units/` of the state directory, which is made if it is not there.
    pub fn open(state_directory: &Path, volume: VolumeNumber) -> Result<Self, StateFileError> {
        let directory = state_directory.join("units");
        std::fs::create_dir_all(&directory).map_err(|source| StateFileError::System {
            path: directory.clone(),
            action: "make",
            source,
        })?;
        Ok(Self {
            path: Some(directory.join(format!("{}.json", volume.0))),
        })
    }

    /// State that ends with the process, for tests and volumes in memory.
    pub fn ephemeral() -> Self {
        Self { path: None }
    }

    /// Where the redo record of the unit is; a unit in memory has none.
    pub(crate) fn redo(&self) -> Option<Redo> {
        self.path
            .as_ref()
            .map(|path| Redo::at(path.with_extension("redo")))
    }

    /// What is stored; a unit that never stored anything has the defaults. What is damaged is lost: the reservations say so, until they
    /// are replaced, and only then is the file, of which a copy is kept.
    pub fn load(&self) -> Result<UnitState, StateFileError> {
        let Some(path) = self.path.as_deref() else {
            return Ok(UnitState::default());
        };
        match state_file::load(path) {
            Ok(stored) => Ok(stored.unwrap_or_default()),
            Err(error @ StateFileError::Corrupt { .. }) => {
                tracing::error!(%error, "the unit's reservations are lost: until an initiator replaces them it does nothing");
                let copy = path.with_extension("damaged");
                std::fs::copy(path, &copy).map_err(|source| StateFileError::System {
                    path: copy,
                    action: "keep the damaged file as",
                    source,
                })?;
                Ok(UnitState {
                    reservations: Reservations {
                        lost: true,
                        ..Reservations::default()
                    },
                    ..UnitState::default()
                })
            }
            Err(error) => Err(error),
        }
    }

    /// The volume is deleted: the unit of one with its number starts with the defaults.
    pub fn forget(&self) -> Result<(), StateFileError> {
        self.path.as_deref().map_or(Ok(()), state_file::remove)
    }

    /// Stores a state; it is on stable storage at the end.
    pub(crate) async fn save(&self, state: UnitState) -> Result<(), IoError> {
        // State changes are rare and small: two threads serve all units.
        static WRITERS: OnceLock<Threads> = OnceLock::new();
        let Some(path) = self.path.clone() else {
            return Ok(());
        };
        let writers = WRITERS.get_or_init(|| Threads::new("unit state", 2));
        let store =
            move || state_file::store(&path, &state).map_err(|error| IoError::Internal(error.to_string()));
        writers.run(store).await
    }
}
