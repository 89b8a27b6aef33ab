//! Remote pairs: a pair of which one volume is another system's. docs/remote.md tells how they work.
//!
//! To the engine a remote pair is a pair with a foreign volume (`replication_engine::remote`). Here is what that stands for:
//!
//! | part | module |
//! |---|---|
//! | which pairs there are, and who leads | [`registry`] |
//! | the way to another system | [`path`] |
//! | the foreign volume's I/O | [`far`] |
//! | who waits for it | [`room`] |
//! | what is written to disk instead | [`backlog`], [`queues`] |
//! | what the leader tells its follower, and when | [`lead`] |
//! | when it tries again what a fault has ended | [`again`] |
//! | which system hosts are to use, when both show one unit | [`sharing`] |
//! | what a follower does for its leader | [`serve`] |
//! | how a pair comes to be on both | [`making`] |
//!
//! The leader's engine is the one truth about a pair. The follower is told what becomes of it, again and again until it has said
//! that it knows; every order can be given twice.

mod again;
mod backlog;
mod backup;
mod far;
mod lead;
mod making;
mod path;
mod queues;
mod registry;
mod room;
mod serve;
mod sharing;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use replication_engine::{
    Engine,
    command::VolumeSpec,
    effects::Input,
    ids::{PairId, VolumeId},
};
use target_core::{
    scsi_model::control::{CopyMode, OnLinkLoss, SystemId, VolumeNumber},
    state_file::StateFileError,
    throttle::Throttle,
};
use tokio::sync::Notify;

use again::Again;
use backlog::Backlog;
pub use backlog::{LEAST_QUEUE, Queue};
pub(crate) use far::FarVolume;
pub(crate) use lead::OrderError;
pub use path::{NoPath, PathFuture, Paths};
use registry::Registry;
pub use registry::{Image, Parts, RemotePair};
pub(crate) use room::Turn;
pub use serve::ServeFuture;
pub use sharing::Shared;
use sharing::Sharing;

use crate::{
    array::Array,
    events::{ArrayEvent, Level},
    lock,
};

/// What the array knows of other systems.
pub(crate) struct Remote {
    registry: Mutex<Registry>,
    /// Pairs that other systems were told of and that have perhaps not come to be.
    proposals: Mutex<Registry>,
    /// Pairs that were withdrawn from this system.
    withdrawn: Mutex<VecDeque<u128>>,
    far: ArcSwap<BTreeMap<VolumeId, Arc<FarVolume>>>,
    /// How many of them there were.
    lives: AtomicU64,
    /// Bytes of an async pair on their way from which on its writes wait, or go to disk.
    enough: u64,
    /// The queues on disk.
    backlogs: Mutex<BTreeMap<SystemId, Arc<Backlog>>>,
    paths: OnceLock<Arc<dyn Paths>>,
    /// Foreign mirrors whose follower has compared notes with us over the link that is there now.
    linked: Mutex<BTreeSet<VolumeId>>,
    /// What each follower was told over that link.
    told: Mutex<BTreeMap<VolumeId, Told>>,
    /// What was said of a pair last, so that it is said once.
    said: Mutex<BTreeMap<VolumeId, String>>,
    again: Again,
    /// Pairs whose parts are changing: the registry knows, and the engine not for certain.
    changing: Changing,
    /// One order at a time.
    orders: tokio::sync::Mutex<()>,
    /// One order of a leader is carried out at a time: also one that it has given up waiting for.
    obeying: tokio::sync::Mutex<()>,
    wake: Notify,
    held: Held,
    pub(crate) sharing: Sharing,
}

/// The foreign volumes of pairs in the middle of a change.
#[derive(Default)]
struct Changing(Mutex<BTreeSet<VolumeId>>);

/// Until it is dropped, the pair is in the middle of one.
struct Change<'a>(&'a Changing, VolumeId);

impl Changing {
    fn begin(&self, foreign: VolumeId) -> Change<'_> {
        lock(&self.0).insert(foreign);
        Change(self, foreign)
    }

    fn concerns(&self, foreign: VolumeId) -> bool {
        lock(&self.0).contains(&foreign)
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).remove(&self.1);
    }
}

/// Hosts' writes to async pairs that waited until there was room on the way.
struct Held {
    /// How long one may; zero: none waits.
    longest: Mutex<Duration>,
    writes: AtomicU64,
    microseconds: AtomicU64,
    said: Throttle,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            longest: Mutex::new(DEFAULT_HOLD),
            writes: AtomicU64::new(0),
            microseconds: AtomicU64::new(0),
            said: Throttle::new(1, Duration::from_secs(60)),
        }
    }
}

/// How long a host's write to an async pair may wait for room on the way, if nothing else is said.
pub const DEFAULT_HOLD: Duration = Duration::from_secs(5);

/// What a follower knows of the leader's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It follows; it is being copied to, or from.
    Following,
    /// It is equal.
    Equal,
    /// It is its hosts'.
    Apart,
}

impl Remote {
    /// What `remote.json` and `proposals.json` in the state directory say.
    pub(crate) fn load(state_directory: &Path, enough: u64) -> Result<Self, StateFileError> {
        Ok(Self {
            registry: Mutex::new(Registry::load(state_directory.join("remote.json"))?),
            proposals: Mutex::new(Registry::load(state_directory.join("proposals.json"))?),
            withdrawn: Mutex::default(),
            far: ArcSwap::default(),
            lives: AtomicU64::new(0),
            enough,
            backlogs: Mutex::default(),
            paths: OnceLock::new(),
            linked: Mutex::default(),
            told: Mutex::default(),
            said: Mutex::default(),
            again: Again::default(),
            changing: Changing::default(),
            orders: tokio::sync::Mutex::default(),
            obeying: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            held: Held::default(),
            sharing: Sharing::load(state_directory.join("shared.json"))?,
        })
    }

    /// The foreign volumes.
    pub(crate) fn specs(&self) -> Vec<(VolumeId, VolumeSpec)> {
        let spec = |pair: &RemotePair| {
            let (bytes, block_size) = (pair.bytes, pair.block_size);
            (pair.foreign_id(), VolumeSpec { bytes, block_size })
        };
        lock(&self.registry).pairs.iter().map(spec).collect()
    }

    /// Primary and mirror of the pairs, as the journal has them, whose leader died before all had arrived that it had sent: it leads again.
    pub(crate) fn undrained(
        &self,
        primary_of: impl Fn(VolumeId) -> Option<VolumeId>,
    ) -> Vec<(VolumeId, VolumeId)> {
        let agreed = lock(&self.registry).agreed(primary_of).into_iter();
        agreed
            .filter(|pair| pair.draining)
            .map(|pair| pair.volumes())
            .collect()
    }

    /// What the engine, which was recovered, did not come to do is undone here.
    pub(crate) fn agree(&self, engine: &Engine) -> Result<(), StateFileError> {
        lock(&self.registry).agree(|mirror| engine.pair(PairId(mirror)).map(|pair| pair.primary))
    }

    /// All remote pairs of this system.
    pub(crate) fn pairs(&self) -> Vec<RemotePair> {
        lock(&self.registry).pairs.clone()
    }

    /// The pair of these volumes, here and there, that this system leads with this peer.
    pub(crate) fn led(&self, peer: &SystemId, local: VolumeNumber, far: VolumeNumber) -> Option<RemotePair> {
        let mut pairs = self.pairs().into_iter();
        pairs.find(|pair| pair.leads && pair.peer == *peer && pair.local == local && pair.far == far)
    }

    /// The pair that a foreign volume belongs to.
    pub(crate) fn pair_of(&self, foreign: VolumeId) -> Option<RemotePair> {
        let registry = lock(&self.registry);
        registry
            .pairs
            .iter()
            .find(|pair| pair.foreign == foreign.0)
            .cloned()
    }

    /// A number for one more foreign volume.
    pub(crate) fn free_foreign(&self) -> u32 {
        lock(&self.registry).free_foreign()
    }

    /// The pair that both systems call so.
    fn pair_called(&self, wire_id: u128) -> Option<RemotePair> {
        let registry = lock(&self.registry);
        registry
            .pairs
            .iter()
            .find(|pair| pair.wire_id() == wire_id)
            .cloned()
    }

    /// The volume here that follows this system in this pair and epoch.
    fn follower(&self, peer: &SystemId, (pair, epoch, volume): (u128, u64, u32)) -> Option<VolumeNumber> {
        let registry = lock(&self.registry);
        let mut following = registry.pairs.iter().filter(|known| !known.leads);
        let known = following.find(|known| known.local.0 == volume && known.wire_id() == pair)?;
        (known.peer == *peer && known.epoch == epoch).then_some(known.local)
    }

    /// The backups that these pairs have a part in are complete.
    pub(crate) fn keep_images(&self, foreign: &[u32]) -> Result<(), StateFileError> {
        lock(&self.registry).change(|pairs| {
            for pair in pairs.iter_mut().filter(|pair| foreign.contains(&pair.foreign)) {
                pair.undo = None;
            }
        })
    }

    /// Are the parts of this pair changing now?
    pub(crate) fn is_changing(&self, foreign: VolumeId) -> bool {
        self.changing.concerns(foreign)
    }

    /// A foreign volume as people know it.
    pub(crate) fn name(&self, foreign: VolumeId) -> Option<String> {
        self.pair_of(foreign).map(|pair| pair.far_name())
    }

    pub(crate) fn paths(&self) -> Option<&Arc<dyn Paths>> {
        self.paths.get()
    }

    pub(crate) fn far(&self, foreign: VolumeId) -> Option<Arc<FarVolume>> {
        self.far.load().get(&foreign).cloned()
    }

    /// All foreign volumes that I/O goes to.
    fn all_far(&self) -> Vec<Arc<FarVolume>> {
        self.far.load().values().cloned().collect()
    }

    /// Is the link of this pair there?
    pub(crate) fn is_up(&self, peer: &SystemId) -> bool {
        self.paths().is_some_and(|paths| paths.is_up(peer))
    }

    /// Makes the I/O of a foreign volume possible.
    fn add_far(&self, array: &Arc<Array>, pair: &RemotePair) {
        let Some(paths) = self.paths() else { return };
        let far = FarVolume::new(pair, array, Arc::clone(paths));
        let mut all = BTreeMap::clone(&self.far.load());
        let before = all.insert(pair.foreign_id(), Arc::clone(&far));
        self.far.store(Arc::new(all));
        // It may have changed before this one was found there.
        far.set_backlog(self.backlog(&pair.peer));
        self.forget_queued(before);
        self.note_waits(array, pair.local);
        self.share_the_way();
    }

    /// Whether the volume has, or after a swap will have, a sync mirror elsewhere; and the async ones that writes to it go on to. (One that follows waits for
    /// no way back to its leader, which may wait for the way here.)
    fn note_waits(&self, array: &Array, local: VolumeNumber) {
        if let Some(volume) = array.volume(local) {
            let pairs = self.pairs();
            let is_sync = |pair: &RemotePair| pair.local == local && pair.mode == CopyMode::Sync;
            let goes_on =
                |pair: &&RemotePair| pair.local == local && pair.mode == CopyMode::Async && pair.leads;
            let behind = pairs.iter().filter(goes_on);
            let behind = behind.filter_map(|pair| self.far(pair.foreign_id())).collect();
            volume.set_waits(pairs.iter().any(is_sync), behind);
        }
    }

    /// What may be on its way to a system is shared by the async pairs with it.
    fn share_the_way(&self) {
        let mut all = self.all_far();
        all.retain(|far| far.is_async());
        for far in &all {
            let beside = all.iter().filter(|other| other.peer() == far.peer());
            far.share(self.enough, beside.count() as u64);
        }
    }

    /// How long a host's write may wait for room on the way.
    fn longest_hold(&self) -> Duration {
        *lock(&self.held.longest)
    }

    /// A host's write has waited for room.
    fn note_held(&self, array: &Array, far: &FarVolume, waited: Duration) {
        self.held.writes.fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.held.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        if self.held.said.admit(Instant::now()).is_some() {
            let text = format!(
                "writes to volume {} wait for the link to {}, which carries less than hosts write",
                far.local().0,
                far.peer()
            );
            array.events.push(ArrayEvent::Told {
                kind: "link",
                level: Level::Info,
                text,
            });
        }
    }

    fn remove_far(&self, array: &Array, (foreign, local): (VolumeId, VolumeNumber)) {
        let mut all = BTreeMap::clone(&self.far.load());
        let before = all.remove(&foreign);
        self.far.store(Arc::new(all));
        self.forget_queued(before);
        self.note_waits(array, local);
        self.share_the_way();
        lock(&self.linked).remove(&foreign);
        lock(&self.told).remove(&foreign);
        lock(&self.said).remove(&foreign);
        self.again.forget(foreign);
    }

    pub(crate) fn is_linked(&self, foreign: VolumeId) -> bool {
        lock(&self.linked).contains(&foreign)
    }

    pub(crate) fn told(&self, foreign: VolumeId) -> Option<Told> {
        lock(&self.told).get(&foreign).copied()
    }

    fn tell(&self, foreign: VolumeId, told: Told) {
        lock(&self.told).insert(foreign, told);
    }

    /// The follower is told its state anew.
    pub(crate) fn forget_told(&self, foreign: VolumeId) {
        lock(&self.told).remove(&foreign);
    }

    /// The link does not serve this pair any more, or not as before: the engine hears of it, and both sides compare notes anew.
    ///
    /// They may be about to have done so already, by another task, which tells the engine that the link is there. Whoever of the two
    /// tells it last, notes are compared once more then: so what the engine believes never stays behind what is known here.
    pub(crate) fn lost(&self, array: &Arc<Array>, foreign: VolumeId, reason: &str) {
        if let Some(far) = self.far(foreign) {
            far.outdate();
        }
        self.unlink(array, foreign, reason);
        array.feed([Input::Link {
            volume: foreign,
            up: false,
        }]);
        if lock(&self.linked).remove(&foreign) {
            lock(&self.told).remove(&foreign);
            self.wake.notify_one();
        }
    }

    /// What both sides know of each other is out of date.
    fn unlink(&self, array: &Array, foreign: VolumeId, reason: &str) {
        if lock(&self.linked).remove(&foreign) {
            lock(&self.told).remove(&foreign);
            let name = self.name(foreign).unwrap_or_default();
            let text = format!("the link to {name} does not serve: {reason}");
            array.events.push(ArrayEvent::Told {
                kind: "link",
                level: Level::Warning,
                text,
            });
        }
        self.wake.notify_one();
    }

    /// Somebody else should look at the pairs.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Says a thing about a pair, once.
    fn say(&self, array: &Array, foreign: VolumeId, text: String) {
        let known = lock(&self.said).insert(foreign, text.clone());
        if known.as_ref() != Some(&text) {
            array.events.push(ArrayEvent::Told {
                kind: "pair",
                level: Level::Warning,
                text,
            });
        }
    }

    fn said_nothing(&self, foreign: VolumeId) {
        lock(&self.said).remove(&foreign);
    }
}

impl Array {
    /// Connects the array with other systems. Once; from then on remote pairs are looked after.
    pub fn connect(&self, paths: Arc<dyn Paths>) {
        let Some(array) = self.strong() else { return };
        if array.remote.paths.set(paths).is_err() {
            return;
        }
        for pair in array.remote.pairs() {
            array.remote.add_far(&array, &pair);
        }
        array.runtime.spawn(lead::look_after(Arc::downgrade(&array)));
    }

    /// A link is there: the pairs over it are looked at.
    pub fn link_found(&self) {
        self.remote.wake();
        self.note_change();
    }

    /// A link is lost, perhaps only for a moment: the peer may have been started anew meanwhile, so both sides compare notes before it is
    /// used again. To be called before the link is there again.
    pub fn link_lost(&self, peer: &SystemId, reason: &str) {
        let Some(array) = self.strong() else { return };
        array.remote.give_up_queue(&array, peer, reason);
        for pair in array.remote.pairs().into_iter().filter(|pair| pair.peer == *peer) {
            let volume = pair.foreign_id();
            array.forget_leader(volume);
            array.remote.lost(&array, volume, reason);
            array.remote.again.forget(volume);
        }
        // The link that was there may have served nothing but that others were sent over to it.
        array.note_change();
    }

    /// The engine hears which mirrors hosts must not write without, and which trail behind.
    pub(crate) fn tell_modes(&self) {
        let pairs = self.remote.pairs();
        let chosen = |which: fn(&RemotePair) -> bool| {
            let led = pairs.iter().filter(|pair| pair.leads && which(pair));
            led.map(RemotePair::foreign_id).collect()
        };
        let mut engine = lock(&self.engine);
        engine.set_needed(chosen(|pair| pair.on_link_loss == OnLinkLoss::Refuse));
        engine.set_trailing(chosen(|pair| pair.mode == CopyMode::Async));
    }

    /// Until what was written to this volume before has arrived at its async mirrors; an error if something of it has not.
    pub async fn has_arrived(&self, volume: VolumeNumber) -> Result<(), String> {
        let behind = self.remote.all_far().into_iter();
        for far in behind.filter(|far| far.is_async() && far.local() == volume) {
            far.drained().await?;
        }
        Ok(())
    }

    /// The remote pairs that this system has a part in.
    pub fn remote_pairs(&self) -> Vec<RemotePair> {
        self.remote.pairs()
    }

    /// How long a host's write to an async pair may wait from now on until there is room on the way; the pair is suspended
    /// instead of a longer wait. Zero: none waits.
    pub fn set_longest_hold(&self, longest: Duration) {
        *lock(&self.remote.held.longest) = longest;
    }

    /// Hosts' writes that have waited for room on the way to an async mirror, and the microseconds that they waited together.
    pub fn held_writes(&self) -> (u64, u64) {
        let held = &self.remote.held;
        (
            held.writes.load(Ordering::Relaxed),
            held.microseconds.load(Ordering::Relaxed),
        )
    }

    /// Bytes of async writes to a foreign volume that are not answered yet.
    pub fn bytes_on_the_way(&self, foreign: VolumeNumber) -> u64 {
        let far = self.remote.far(VolumeId(foreign.0));
        far.map_or(0, |far| far.on_the_way())
    }
}
