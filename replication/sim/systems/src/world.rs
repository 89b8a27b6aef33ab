//! The systems of a run, and the pairs between them.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use replication::{Array, PairedVolume};
use replication_engine::state::PairState;
use replication_sim::rng::Rng;
use target_core::{
    buffer::Buffer,
    scsi_model::control::{CopyMode, VolumeNumber},
    volume::{IoError, Volume},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    disk::BLOCK,
    ledger::{BLOCKS, Found, Ledger, place, stamp},
    lock,
    network::Cables,
    site::{Kind, Site, name, part},
    trace::Trace,
};

/// Whatever takes longer, in virtual time, hangs.
pub const LONG: Duration = Duration::from_secs(90);

/// A volume and the systems that it is mirrored along; it has the same number on each.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its number.
    pub volume: u32,
    /// Where hosts write to it first, and where it goes from there.
    pub sites: Vec<usize>,
}

impl Route {
    /// The two ends of each of its pairs.
    pub fn legs(&self) -> impl Iterator<Item = (usize, usize)> {
        self.sites.windows(2).map(|ends| (ends[0], ends[1]))
    }

    /// Between the first two.
    pub fn first_leg(&self) -> (usize, usize) {
        (self.sites[0], self.sites[1])
    }
}

/// See [`World::mode`].
pub type Modes = BTreeMap<(usize, usize), CopyMode>;

/// See the module's page.
#[derive(Debug)]
pub struct World {
    /// All systems.
    pub sites: Vec<Mutex<Site>>,
    /// What is between them.
    pub cables: Arc<Cables>,
    /// All routes, by volume.
    pub routes: Vec<Route>,
    /// Of the remote pairs, by the ends of their legs, the lower first.
    modes: Modes,
    /// All writes.
    pub ledger: Ledger,
    /// What happened.
    pub trace: Arc<Trace>,
    /// Of two systems that lead, hosts write to this one.
    preferred: Vec<AtomicUsize>,
    paused: AtomicBool,
    writing: AtomicUsize,
    idle: Notify,
    resumed: Notify,
}

impl World {
    /// Systems that know each other, without a pair.
    pub fn new(
        kind: &Kind,
        routes: Vec<Route>,
        modes: Modes,
        rng: &mut Rng,
        trace: Arc<Trace>,
    ) -> io::Result<Arc<Self>> {
        let ids: Vec<_> = (0..kind.systems).map(name).collect();
        let cables = Cables::new(&ids, Rng::new(rng.bits()), Arc::clone(&trace));
        let site = |index| Site::new(index, kind.clone(), &cables, Rng::new(rng.bits())).map(Mutex::new);
        let sites = (0..kind.systems).map(site).collect::<io::Result<_>>()?;
        let preferred = routes
            .iter()
            .map(|route| AtomicUsize::new(route.sites[0]))
            .collect();
        Ok(Arc::new(Self {
            sites,
            cables,
            routes,
            modes,
            ledger: Ledger::default(),
            trace,
            preferred,
            paused: AtomicBool::new(true),
            writing: AtomicUsize::new(0),
            idle: Notify::new(),
            resumed: Notify::new(),
        }))
    }

    /// Of the pairs between two systems.
    pub fn mode(&self, (one, other): (usize, usize)) -> CopyMode {
        self.modes[&(one.min(other), one.max(other))]
    }

    /// The array of a system now.
    pub fn array(&self, site: usize) -> Arc<Array> {
        lock(&self.sites[site]).array()
    }

    /// A volume of a system now.
    pub fn volume(&self, site: usize, volume: u32) -> Arc<PairedVolume> {
        lock(&self.sites[site]).volume(volume)
    }

    /// What a system knows of the pair of a volume with that peer; nothing if it is dead.
    pub fn part(&self, site: usize, volume: u32, peer: usize) -> Option<(bool, u64, PairState)> {
        let site = lock(&self.sites[site]);
        (!site.is_dead())
            .then(|| part(&site.array(), volume, peer))
            .flatten()
    }

    /// The state of a pair where it is led.
    pub fn state(&self, leader: usize, volume: u32, peer: usize) -> Option<PairState> {
        let (leads, _, state) = self.part(leader, volume, peer)?;
        leads.then_some(state)
    }

    /// The numbers of a pair, as commands to that system name it.
    pub fn members(&self, site: usize, volume: u32, peer: usize) -> Option<(u32, u32)> {
        let pairs = self.array(site).remote_pairs();
        let pair = pairs
            .iter()
            .find(|pair| pair.local.0 == volume && pair.peer == name(peer))?;
        let (primary, mirror) = pair.volumes();
        Some((primary.0, mirror.0))
    }

    /// Where hosts write to a volume now, and the system that follows. Nobody leads in the same epoch as another.
    pub fn leader(&self, volume: u32) -> Option<(usize, usize)> {
        let at = volume as usize - 1;
        let ends = self.routes[at].first_leg();
        let leading = |site: usize, peer: usize| {
            let (leads, epoch, _) = self.part(site, volume, peer)?;
            (leads && self.volume(site, volume).ready()).then_some(epoch)
        };
        match (leading(ends.0, ends.1), leading(ends.1, ends.0)) {
            (Some(one), Some(other)) => {
                assert!(one != other, "two lead volume {volume} in epoch {one}");
                let preferred = self.preferred[at].load(Ordering::Relaxed);
                Some(if preferred == ends.0 {
                    ends
                } else {
                    (ends.1, ends.0)
                })
            }
            (Some(_), None) => Some(ends),
            (None, Some(_)) => Some((ends.1, ends.0)),
            (None, None) => None,
        }
    }

    /// Hosts write there, should two lead.
    pub fn prefer(&self, volume: u32, site: usize) {
        self.preferred[volume as usize - 1].store(site, Ordering::Relaxed);
    }

    /// Hosts do not write any more, and none is writing.
    pub async fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
        let all = async {
            loop {
                let mut idle = std::pin::pin!(self.idle.notified());
                idle.as_mut().enable();
                if self.writing.load(Ordering::Relaxed) == 0 {
                    break;
                }
                idle.await;
            }
        };
        timeout(LONG, all).await.expect("hosts' writes hang");
    }

    /// They do again.
    pub fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
        self.resumed.notify_waiters();
    }

    /// A host is about to write: it waits until it may.
    pub async fn begin(&self) {
        loop {
            let mut resumed = std::pin::pin!(self.resumed.notified());
            resumed.as_mut().enable();
            if !self.paused.load(Ordering::Relaxed) {
                break;
            }
            resumed.await;
        }
        self.writing.fetch_add(1, Ordering::Relaxed);
    }

    /// It has written.
    pub fn end(&self) {
        if self.writing.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.idle.notify_waiters();
        }
    }

    /// Which write each block of a volume holds, for its hosts. `None`: it answers none.
    pub async fn found(&self, site: usize, volume: u32) -> Option<Found> {
        let mut found = Found::new();
        for block in 0..BLOCKS {
            let read = self.read(site, volume, block).await;
            match read {
                Ok(held) => found.insert((volume, block), held),
                Err(IoError::NotReady) => return None,
                Err(error) => panic!("block {block} of volume {volume} of {}: {error}", name(site)),
            };
        }
        Some(found)
    }

    /// Which write a block holds. What lives elsewhere cannot be read without a link, and is tried again.
    async fn read(&self, site: usize, volume: u32, block: u64) -> Result<u64, IoError> {
        let mut left = 200;
        loop {
            let read = self.volume(site, volume).read(place(block), Buffer::new(BLOCK));
            match timeout(LONG, read).await.expect("a host's read hangs") {
                Ok(data) => return Ok(stamp(&data)),
                Err(IoError::Read { .. }) if left > 0 => {
                    left -= 1;
                    sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Which write each block of a volume's disk holds, whoever may read it.
    pub fn on_disk(&self, site: usize, volume: u32) -> Found {
        let platter = Arc::clone(&lock(&self.sites[site]).platters[volume as usize - 1]);
        let held = |block| ((volume, block), stamp(&platter.block(place(block))));
        (0..BLOCKS).map(held).collect()
    }

    /// The bytes of a volume.
    pub fn content(&self, site: usize, volume: u32) -> Vec<u8> {
        lock(&self.sites[site]).platters[volume as usize - 1].content()
    }

    /// What is known of every pair, for people.
    pub fn picture(&self) -> String {
        let mut lines = Vec::new();
        for site in &self.sites {
            let site = lock(site);
            let (array, dead) = (site.array(), site.is_dead());
            lines.push(format!("{} (dead: {dead})", name(site.index)));
            for pair in array.remote_pairs() {
                let ready = array
                    .volume(VolumeNumber(pair.local.0))
                    .is_some_and(|volume| volume.ready());
                let peer = (0..self.sites.len()).find(|peer| name(*peer) == pair.peer);
                let seen = peer.and_then(|peer| part(&array, pair.local.0, peer));
                lines.push(format!(
                    "    volume {} with {}: {seen:?} (leads, epoch, state), ready {ready}, handing over {}",
                    pair.local.0, pair.peer, pair.handing_over
                ));
            }
            for event in array.events().since(0).iter().rev().take(12).rev() {
                lines.push(format!("        {}", event.event));
            }
        }
        lines.join("\n")
    }
}
