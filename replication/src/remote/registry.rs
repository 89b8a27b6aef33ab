//! Which remote pairs this system has a part in: `remote.json` in the state directory.
//!
//! What the journal keeps of a remote pair is what it keeps of any pair, with a foreign volume in it. What the foreign volume is, which
//! pair the other system means, and who leads it in which epoch, is kept here. The order makes a crash harmless: a pair is
//! written here before the engine hears of it and taken out after the engine has forgotten it, so an entry without a pair
//! is one that never came to be, and is dropped at the start. An epoch is written before what it stands for is done, together with what was there before: if the
//! engine did not come to do it, that is in force again after the start. So nobody was ever told an epoch that is taken back.

use std::path::PathBuf;

use replication_engine::{ids::VolumeId, state::PairState};
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
    /// The primary was here, and the other system has perhaps not heard yet that it leads.
    #[serde(default)]
    pub handing_over: bool,
    /// Likewise, and it is not known that all that hosts were answered for has arrived there: it was not told to lead yet. A restart leads
    /// again.
    #[serde(default)]
    pub draining: bool,
    /// Bytes of either volume.
    pub bytes: u64,
    /// Bytes a block.
    pub block_size: u32,
    /// A backup takes its image: the pair is apart for as long as that needs, and goes on by itself.
    #[serde(default)]
    pub in_backup: bool,
    /// Where it is led: a mirror there that is split, or about to be, for a backup at several systems which is not complete. It follows again
    /// unless the backup comes to be.
    #[serde(default)]
    pub undo: Option<VolumeNumber>,
    /// Where it is followed: the mirror that was split last by a backup of the leader.
    #[serde(default)]
    pub image: Option<Image>,
    /// It was made the primary without the other system.
    #[serde(default)]
    pub taken_over: bool,
    /// What becomes of hosts' writes while the other system is away.
    #[serde(default)]
    pub on_link_loss: OnLinkLoss,
    /// The parts before they changed last.
    #[serde(default)]
    pub before: Option<Parts>,
}

/// A split of a local mirror, told from all later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The mirror.
    pub mirror: VolumeNumber,
    /// Unix milliseconds.
    pub split_at_ms: u64,
}

/// Who leads, and how that came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// [`RemotePair::epoch`].
    pub epoch: u64,
    /// [`RemotePair::leads`].
    pub leads: bool,
    /// [`RemotePair::taken_over`].
    pub taken_over: bool,
    /// [`RemotePair::handing_over`].
    pub handing_over: bool,
    /// [`RemotePair::draining`].
    #[serde(default)]
    pub draining: bool,
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

    /// The volume there, for people.
    pub(crate) fn far_name(&self) -> String {
        format!("{}:{}", self.peer, self.far.0)
    }

    /// The state that people see. S67: a backup never breaks the pair, though the image is taken apart from what is written meanwhile.
    pub(crate) fn shown(&self, state: PairState) -> PairState {
        match state {
            PairState::Split | PairState::Splitting if self.in_backup => PairState::Copy,
            state => state,
        }
    }

    /// Who leads.
    pub fn parts(&self) -> Parts {
        Parts {
            epoch: self.epoch,
            leads: self.leads,
            taken_over: self.taken_over,
            handing_over: self.handing_over,
            draining: self.draining,
        }
    }

    /// The parts after a swap in which both systems take part: who led until now hands over, when all has arrived and is stable.
    pub(crate) fn swapped(&self) -> Parts {
        Parts {
            epoch: self.epoch + 1,
            leads: !self.leads,
            taken_over: false,
            handing_over: self.leads,
            draining: self.leads,
        }
    }

    /// These are the parts from now on.
    pub(crate) fn set_parts(&mut self, parts: Parts) {
        self.before = Some(self.parts());
        (self.epoch, self.leads) = (parts.epoch, parts.leads);
        (self.taken_over, self.handing_over) = (parts.taken_over, parts.handing_over);
        self.draining = parts.draining;
    }

    /// The pair as the engine has it, which gives the primary of a mirror: with the parts as they are, or as they were before. `None`:
    /// it has no such pair.
    fn in_the_engine(mut self, primary_of: impl Fn(VolumeId) -> Option<VolumeId>) -> Option<Self> {
        let (primary, mirror) = self.volumes();
        if primary_of(mirror) == Some(primary) {
            return Some(self);
        }
        let before = self.before.filter(|before| before.leads != self.leads)?;
        self.set_parts(before);
        (primary_of(primary) == Some(mirror)).then_some(self)
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

    /// After the start: what the engine did not come to do was not done, and pairs that it does not have are dropped.
    pub(crate) fn agree(
        &mut self,
        primary_of: impl Fn(VolumeId) -> Option<VolumeId>,
    ) -> Result<(), StateFileError> {
        let agreed = self.agreed(primary_of);
        if agreed == self.pairs {
            return Ok(());
        }
        self.change(|pairs| *pairs = agreed)
    }

    /// The pairs as the engine has them.
    pub(crate) fn agreed(&self, primary_of: impl Fn(VolumeId) -> Option<VolumeId>) -> Vec<RemotePair> {
        let known = self.pairs.iter().cloned();
        known.filter_map(|pair| pair.in_the_engine(&primary_of)).collect()
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
            handing_over: false,
            draining: false,
            bytes: 1 << 20,
            block_size: 512,
            in_backup: false,
            undo: None,
            image: None,
            taken_over: false,
            on_link_loss: OnLinkLoss::Refuse,
            before: None,
        }
    }

    /// A start after a crash between the two: the engine is right.
    #[test]
    fn parts_that_did_not_come_to_change_are_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("remote.json");
        let mut registry = Registry::load(path.clone()).unwrap();
        let (first, foreign) = (pair(VolumeId::FIRST_FOREIGN), VolumeId(VolumeId::FIRST_FOREIGN));
        let handed = Parts {
            epoch: 2,
            leads: false,
            taken_over: false,
            handing_over: true,
            draining: true,
        };
        let mut second = first.clone();
        second.set_parts(handed);
        registry.change(|pairs| pairs.push(second.clone())).unwrap();
        let follows = |mirror| (mirror == VolumeId(1)).then_some(foreign);
        registry.agree(follows).unwrap();
        assert_eq!(registry.pairs, std::slice::from_ref(&second));
        let leads = |mirror| (mirror == foreign).then_some(VolumeId(1));
        registry.agree(leads).unwrap();
        assert_eq!(registry.pairs[0].parts(), first.parts());
        let again = Registry::load(path).unwrap();
        assert_eq!(again.pairs, registry.pairs);
        registry.agree(|_| None).unwrap();
        assert!(registry.pairs.is_empty());
    }

    /// As systems wrote it that did not know whether all had arrived.
    #[test]
    fn an_old_document_is_drained() {
        let mut old = pair(VolumeId::FIRST_FOREIGN);
        old.set_parts(old.swapped());
        let mut json = serde_json::to_value([&old]).unwrap();
        json[0].as_object_mut().unwrap().remove("draining");
        json[0]["before"].as_object_mut().unwrap().remove("draining");
        let read: Vec<RemotePair> = serde_json::from_value(json).unwrap();
        assert!(read[0].handing_over && !read[0].draining);
        old.draining = false;
        assert_eq!(read, [old]);
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
