//! Which remote pairs this system has a part in: `remote.json` in the state directory.
//!
//! What the journal keeps of a remote pair is what it keeps of any pair, with a foreign volume in it. What the foreign volume is, which
//! pair the other system means, and who leads it in which epoch, is kept here. The order makes a crash harmless: a pair is
//! written here before the engine hears of it and taken out after the engine has forgotten it, so an entry without a pair
//! is one that never came to be, and is dropped at the start. An epoch is written before what it stands for is done.

use std::path::PathBuf;

use replication_engine::ids::VolumeId;
use serde::{Deserialize, Serialize};
use target_core::{
    scsi_model::control::{CopyMode, OnLinkLoss, SystemId, VolumeNumber},
    state_file::{self, StateFileError},
};

/// A remote pair, as this system knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemotePair {
    /// What both systems call it: 32 hexadecimal digits.
    pub pair: String,
    /// Goes up by one whenever the parts change, or one side takes over: the side with the higher one knows more.
    pub epoch: u64,
    /// The other system.
    pub peer: SystemId,
    /// The volume here.
    pub local: VolumeNumber,
    /// The volume there.
    pub far: VolumeNumber,
    /// The foreign volume that stands for it in the engine.
    pub foreign: u32,
    /// When a write is acknowledged.
    pub mode: CopyMode,
    /// Is the volume here the primary?
    pub leads: bool,
    /// Bytes of either volume.
    pub bytes: u64,
    /// Bytes a block.
    pub block_size: u32,
    /// A backup takes its image: the pair is apart for as long as that needs, and goes on by itself.
    #[serde(default)]
    pub in_backup: bool,
    /// It was made the primary without the other system.
    #[serde(default)]
    pub taken_over: bool,
    /// What becomes of hosts' writes while the other system is away.
    #[serde(default)]
    pub on_link_loss: OnLinkLoss,
}

impl RemotePair {
    /// The pair's number on the wire. 0 is nobody's.
    pub fn wire_id(&self) -> u128 {
        u128::from_str_radix(&self.pair, 16).unwrap_or(0)
    }

    /// The foreign volume.
    pub fn foreign_id(&self) -> VolumeId {
        VolumeId(self.foreign)
    }

    /// Primary and mirror, in the engine's terms.
    pub fn volumes(&self) -> (VolumeId, VolumeId) {
        let (local, foreign) = (VolumeId(self.local.0), self.foreign_id());
        if self.leads {
            (local, foreign)
        } else {
            (foreign, local)
        }
    }
}

/// The file.
#[derive(Debug)]
pub(crate) struct Registry {
    path: PathBuf,
    pub(crate) pairs: Vec<RemotePair>,
}

impl Registry {
    /// What the file says; none is an empty one.
    pub(crate) fn load(path: PathBuf) -> Result<Self, StateFileError> {
        let pairs = state_file::load(&path)?.unwrap_or_default();
        Ok(Self { path, pairs })
    }

    /// Changes it, on disk first.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Vec<RemotePair>)) -> Result<(), StateFileError> {
        let mut pairs = self.pairs.clone();
        change(&mut pairs);
        state_file::store(&self.path, &pairs)?;
        self.pairs = pairs;
        Ok(())
    }

    /// A number for one more foreign volume.
    pub(crate) fn free_foreign(&self) -> u32 {
        (VolumeId::FIRST_FOREIGN..=u32::MAX)
            .find(|number| self.pairs.iter().all(|pair| pair.foreign != *number))
            .unwrap_or(VolumeId::FIRST_FOREIGN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(foreign: u32) -> RemotePair {
        RemotePair {
            pair: format!("{:032x}", 7),
            epoch: 1,
            peer: SystemId::new("HF-B").unwrap(),
            local: VolumeNumber(1),
            far: VolumeNumber(4),
            foreign,
            mode: CopyMode::Sync,
            leads: true,
            bytes: 1 << 20,
            block_size: 512,
            in_backup: false,
            taken_over: false,
            on_link_loss: OnLinkLoss::Refuse,
        }
    }

    #[test]
    fn what_is_changed_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("remote.json");
        let mut registry = Registry::load(path.clone()).unwrap();
        assert!(registry.pairs.is_empty());
        let first = registry.free_foreign();
        registry.change(|pairs| pairs.push(pair(first))).unwrap();
        assert_eq!(registry.free_foreign(), first + 1);
        let again = Registry::load(path).unwrap();
        assert_eq!(again.pairs, registry.pairs);
        assert_eq!(again.pairs[0].wire_id(), 7);
        assert_eq!(again.pairs[0].volumes(), (VolumeId(1), VolumeId(first)));
    }
}
