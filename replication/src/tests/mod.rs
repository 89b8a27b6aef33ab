//! The array end to end, on media in memory: what a host sees, and what is there after a kill.
//!
//! Memory stands for the page cache: it survives [`Array::abandon`] as the page cache survives `kill -9`.

mod chaos;
mod commands;
mod copies;
mod hosts;
mod pairs;
mod race;
mod remote;
mod report_bytes;
mod restart;
mod scsi;
mod tokens;
mod writes;

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use replication_engine::{Limits, state::PairState};
use target_core::{
    buffer::Buffer,
    control::ArrayControl,
    identities::IdentityStore,
    media::{Faults, MemoryMedia},
    plain::{Backing, PlainVolume, VolumeConfig},
    scsi_model::control::{
        Flags, OutVerb, PairDescriptor, PairSelector, Refusal, Reply, Request, SystemId, VolumeNumber,
        VolumePair,
    },
    volume::{Fast, IoError, Volume},
};
use tempfile::TempDir;

use crate::{
    array::{Array, Tuning},
    paired_volume::PairedVolume,
};

pub(crate) const TRACK: u32 = 8192;
pub(crate) const SIZE: u64 = 4 << 20;
const SOON: Duration = Duration::from_secs(8);

/// An array with volumes 1.. on memory.
pub(crate) struct Rig {
    pub(crate) state: TempDir,
    pub(crate) plain: Vec<Arc<PlainVolume>>,
    pub(crate) faults: Vec<Arc<Faults>>,
    pub(crate) array: Arc<Array>,
}

impl Rig {
    pub(crate) fn new(volumes: u32) -> Self {
        Self::with_limits(volumes, Limits::default())
    }

    pub(crate) fn with_limits(volumes: u32, limits: Limits) -> Self {
        let tuning = Tuning {
            limits,
            ..Tuning::default()
        };
        Self::tuned(volumes, tuning)
    }

    pub(crate) fn tuned(volumes: u32, tuning: Tuning) -> Self {
        let identities = IdentityStore::ephemeral();
        let (plain, faults): (Vec<_>, Vec<_>) = (1..=volumes)
            .map(|number| memory(number, SIZE, &identities))
            .unzip();
        let state = TempDir::new().unwrap();
        let system = SystemId::new("HF-A").unwrap();
        let fresh = BTreeSet::new();
        let array = Array::open_with(state.path(), system, TRACK, tuning, plain.clone(), &fresh).unwrap();
        Self {
            state,
            plain,
            faults,
            array,
        }
    }

    /// Kills the array and opens it again.
    pub(crate) async fn restart(&mut self) {
        self.array.abandon().await;
        self.array = open(self.state.path(), &self.plain);
    }

    pub(crate) fn volume(&self, number: u32) -> Arc<PairedVolume> {
        self.array.volume(VolumeNumber(number)).unwrap()
    }

    pub(crate) async fn write(
        &self,
        number: u32,
        offset: u64,
        data: impl Into<Bytes>,
    ) -> Result<(), IoError> {
        self.volume(number).write(offset, data.into(), false).await
    }

    pub(crate) async fn read(&self, number: u32, offset: u64, length: usize) -> Result<Vec<u8>, IoError> {
        self.volume(number)
            .read(offset, Buffer::new(length))
            .await
            .map(|buffer| buffer.to_vec())
    }

    /// Until all that was written to a volume is at its mirrors on other systems.
    pub(crate) async fn arrived(&self, number: u32) {
        self.array.has_arrived(VolumeNumber(number)).await.unwrap();
    }

    /// What the media holds, whoever may read it.
    pub(crate) async fn media(&self, number: u32) -> Vec<u8> {
        let disk = self.plain[number as usize - 1].disk();
        disk.read(0, Buffer::new(SIZE as usize)).await.unwrap().to_vec()
    }

    pub(crate) async fn out(
        &self,
        verb: OutVerb,
        flags: Flags,
        pairs: &[(u32, u32)],
    ) -> Result<Reply, Refusal> {
        self.array.execute(order(verb, flags, pairs)).await
    }

    pub(crate) async fn establish(&self, pair: (u32, u32)) {
        self.out(OutVerb::Establish { remote: None }, Flags::default(), &[pair])
            .await
            .unwrap();
    }

    pub(crate) async fn split(&self, pair: (u32, u32)) {
        self.out(OutVerb::Split, Flags::default(), &[pair]).await.unwrap();
    }

    pub(crate) async fn await_state(&self, pair: (u32, u32), state: PairState) {
        let one = PairSelector::One(VolumeNumber(pair.0), VolumeNumber(pair.1));
        let (summary, timed_out) = self
            .array
            .wait_until(one, Some(state.code()), SOON)
            .await
            .unwrap();
        assert!(
            !timed_out,
            "{pair:?} is not {state} but {:?}: {summary:?}",
            self.array.pairs()
        );
    }

    pub(crate) async fn pair(&self, pair: (u32, u32)) -> PairDescriptor {
        let one = PairSelector::One(VolumeNumber(pair.0), VolumeNumber(pair.1));
        match self.array.execute(Request::Query(one)).await.unwrap() {
            Reply::Pairs(pairs) => pairs[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    /// A pair that is DUPLEX, with something on it.
    pub(crate) async fn duplex(volumes: u32) -> Self {
        let rig = Self::new(volumes);
        rig.write(1, 0, pattern(1, 1 << 20)).await.unwrap();
        rig.establish((1, 2)).await;
        rig.await_state((1, 2), PairState::Duplex).await;
        rig
    }
}

pub(crate) fn open(state: &Path, volumes: &[Arc<PlainVolume>]) -> Arc<Array> {
    Array::open(state, SystemId::new("HF-A").unwrap(), TRACK, volumes.to_vec()).unwrap()
}

/// The command for these pairs.
pub(crate) fn order(verb: OutVerb, flags: Flags, pairs: &[(u32, u32)]) -> Request {
    let pair = |(primary, mirror): &(u32, u32)| VolumePair {
        primary: VolumeNumber(*primary),
        mirror: Some(VolumeNumber(*mirror)),
    };
    Request::Out {
        verb,
        flags,
        members: pairs.iter().map(pair).collect(),
        dry_run: false,
    }
}

/// A volume in memory.
pub(crate) fn in_memory(number: u32, mirror_class: bool) -> VolumeConfig {
    VolumeConfig {
        number: VolumeNumber(number),
        name: format!("vol{number}"),
        mirror_class,
        size: None,
        backing: Backing::Memory,
        block_size: 512,
        physical_block_size: 512,
        removable: false,
        thin: true,
        quota: None,
    }
}

pub(crate) fn memory(number: u32, size: u64, identities: &IdentityStore) -> (Arc<PlainVolume>, Arc<Faults>) {
    let (media, faults) = MemoryMedia::with_faults(size);
    (
        PlainVolume::on_media(in_memory(number, number > 1), Arc::new(media), identities).unwrap(),
        faults,
    )
}

/// Bytes that tell where they belong and which version they are.
pub(crate) fn pattern(version: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at / 512) as u8 ^ version.wrapping_mul(37) ^ 1)
        .collect()
}

/// A `try_read` that must not have to wait.
pub(crate) fn read_at_once(volume: &PairedVolume, offset: u64, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; length];
    match volume.try_read(offset, &mut buffer) {
        Fast::Done(result) => result.unwrap(),
        Fast::Later => panic!("the fast path was not taken"),
    }
    buffer
}
