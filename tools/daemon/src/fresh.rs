//! Volumes that come up without the content they had: those in memory, and those whose file has to be made anew.
//!
//! Their pairs must end before a copy takes their zeros for an image, also when the daemon dies after it has made a file and
//! before the journal says that the pairs are gone. So the numbers are kept in `fresh.json` in the state directory from
//! before the first file is made until the array is open.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use target_core::{
    scsi_model::control::VolumeNumber,
    state_file::{self, StateFileError},
};

use crate::config::{Config, Media};

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Fresh {
    path: PathBuf,
    numbers: BTreeSet<VolumeNumber>,
}

impl Fresh {
    /// Looks, before anything is made.
    pub(crate) fn find(config: &Config) -> Result<Self, StateFileError> {
        let path = config.system.state_dir.join("fresh.json");
        let before: BTreeSet<VolumeNumber> = state_file::load(&path)?.unwrap_or_default();
        let mut kept = before.clone();
        let mut numbers = before.clone();
        for volume in config.volumes.values() {
            let number = VolumeNumber(volume.number);
            match &volume.media {
                Media::Memory => drop(numbers.insert(number)),
                Media::File(file) if is_to_be_made(file) => {
                    numbers.insert(number);
                    kept.insert(number);
                }
                Media::File(_) => {}
            }
        }
        if kept != before {
            state_file::store(&path, &kept)?;
        }
        Ok(Self { path, numbers })
    }

    /// Which volumes.
    pub(crate) fn numbers(&self) -> &BTreeSet<VolumeNumber> {
        &self.numbers
    }

    /// The array has heard of it, and its journal is durable.
    pub(crate) fn settled(&self) -> Result<(), StateFileError> {
        state_file::remove(&self.path)
    }
}

/// Missing or empty, which is what opening it makes sparse.
fn is_to_be_made(file: &Path) -> bool {
    match std::fs::metadata(file) {
        Ok(metadata) => metadata.is_file() && metadata.len() == 0,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_made_before_a_crash_is_still_fresh_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::load(None, []).unwrap();
        config.system.state_dir = directory.path().to_owned();
        for volume in config.volumes.values_mut() {
            volume.media = Media::File(directory.path().join(format!("{}.img", volume.number)));
        }
        config.volumes.get_mut(&3).unwrap().media = Media::Memory;
        std::fs::write(directory.path().join("2.img"), "content").unwrap();
        let numbers = |fresh: &Fresh| fresh.numbers().iter().map(|number| number.0).collect::<Vec<_>>();
        assert_eq!(numbers(&Fresh::find(&config).unwrap()), [1, 3]);
        std::fs::write(directory.path().join("1.img"), "made, and then the daemon died").unwrap();
        let again = Fresh::find(&config).unwrap();
        assert_eq!(numbers(&again), [1, 3]);
        again.settled().unwrap();
        assert_eq!(numbers(&Fresh::find(&config).unwrap()), [3]);
    }
}
