//! One system: what outlives it, and its life.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use replication::{
    Array, Opening, PairedVolume, Tuning,
    link::{Action, LinkConfig, LinkService, Links, PeerConfig, Request, Response, Timing, service::Serving},
    machine::{Machine, Mutation},
    remote::Queue,
};
use replication_engine::{Limits, state::PairState};
use replication_sim::rng::Rng;
use target_core::{
    control::ArrayControl,
    disk::Disk,
    identities::IdentityStore,
    plain::{Backing, PlainVolume, VolumeConfig},
    scsi_model::control::{
        Flags, OutVerb, Refusal, Reply, Request as ControlRequest, SystemId, VolumeNumber, VolumePair,
    },
};
use tempfile::TempDir;

use crate::{
    disk::{BLOCK, Platter, Power, SimulatedDisk},
    machine::{SimulatedMachine, Skewed},
    network::Cables,
    trace::Trace,
};

/// Bytes of a track.
pub const TRACK: u32 = 2 * BLOCK as u32;
/// Tracks of a volume: more than three regions.
pub const TRACKS: usize = 200;
/// Volumes of a system: two, and a mirror of each.
pub const VOLUMES: usize = 4;

/// The name of the system with this index.
pub fn name(index: usize) -> SystemId {
    SystemId::new(["HF-A", "HF-B", "HF-C"][index]).expect("a valid id")
}

/// What all systems of a run have in common.
#[derive(Debug, Clone)]
pub struct Kind {
    /// How many there are.
    pub systems: usize,
    /// Longest time of a journal write, in milliseconds.
    pub journal_ms: u64,
    /// The engine's limits.
    pub limits: Limits,
    /// Bytes of an async pair on their way from which on its writes wait, or go to the queue on disk.
    pub on_the_way: u64,
    /// Bytes of the queue on disk for each peer, if they have one.
    pub queue: Option<usize>,
    /// What is planted.
    pub mutation: Option<Mutation>,
}

/// A system.
#[derive(Debug)]
pub struct Site {
    /// Which.
    pub index: usize,
    kind: Kind,
    cables: Arc<Cables>,
    rng: Rng,
    state: TempDir,
    lives: u32,
    /// Its wall clock.
    pub clock: Arc<Skewed>,
    /// Its disks.
    pub platters: Vec<Arc<Platter>>,
    power: Arc<Power>,
    array: Arc<Array>,
    links: Option<Arc<Links>>,
}

impl Site {
    /// A system that lives.
    pub fn new(index: usize, kind: Kind, cables: &Arc<Cables>, mut rng: Rng) -> io::Result<Self> {
        let state = match Path::new("/dev/shm") {
            memory if memory.is_dir() => TempDir::new_in(memory)?,
            _ => TempDir::new()?,
        };
        fs::create_dir(state.path().join("0"))?;
        let size = TRACKS * TRACK as usize;
        let platters: Vec<_> = (0..VOLUMES)
            .map(|_| Platter::new(size, Rng::new(rng.bits())))
            .collect();
        let clock = Arc::new(Skewed::new(&mut rng));
        let power = Power::new();
        let birth = Birth {
            index,
            kind: &kind,
            clock: &clock,
            platters: &platters,
            power: &power,
            seed: rng.bits(),
        };
        let array = birth.array(&state.path().join("0"));
        let mut site = Self {
            index,
            kind,
            cables: Arc::clone(cables),
            rng,
            state,
            lives: 0,
            clock,
            platters,
            power,
            array,
            links: None,
        };
        site.connect();
        Ok(site)
    }

    /// The array of its present life.
    pub fn array(&self) -> Arc<Array> {
        Arc::clone(&self.array)
    }

    /// A volume of it.
    pub fn volume(&self, number: u32) -> Arc<PairedVolume> {
        self.array
            .volume(VolumeNumber(number))
            .expect("it has been there all along")
    }

    /// It dies, here and now: what it has begun and not done is never done. `told`: the others' ends of its connections are closed.
    /// `power`: what its disks have not made stable may be lost.
    pub fn kill(&mut self, told: bool, power: bool) -> io::Result<()> {
        self.power.fail();
        self.cables.kill(self.index, told);
        // What the old life still does to its files is done to nobody's.
        let next = self.lives + 1;
        copy(&self.life(self.lives), &self.life(next))?;
        self.lives = next;
        if power {
            self.platters.iter().for_each(|platter| platter.lose_power());
        }
        let (array, links) = (self.array(), self.links.take());
        let mut end = Box::pin(async move {
            array.abandon().await;
            if let Some(links) = links {
                links.stop().await;
            }
        });
        // It stops now; what is under way ends when it does.
        let _ = end.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        tokio::spawn(end);
        Ok(())
    }

    /// The next life.
    pub fn start(&mut self) {
        self.power = Power::new();
        let birth = Birth {
            index: self.index,
            kind: &self.kind,
            clock: &self.clock,
            platters: &self.platters,
            power: &self.power,
            seed: self.rng.bits(),
        };
        self.array = birth.array(&self.life(self.lives));
        self.connect();
    }

    /// It is killed and does not live again yet.
    pub fn is_dead(&self) -> bool {
        !self.power.is_on()
    }

    fn life(&self, life: u32) -> PathBuf {
        self.state.path().join(life.to_string())
    }

    fn connect(&mut self) {
        let peers = (0..self.kind.systems).filter(|peer| *peer != self.index);
        let boot = u128::from(self.rng.bits());
        let config = LinkConfig {
            system: name(self.index),
            boot,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            cert: PathBuf::new(),
            key: PathBuf::new(),
            ca: PathBuf::new(),
            peers: peers
                .map(|peer| PeerConfig {
                    id: name(peer),
                    address: peer.to_string(),
                    compression: None,
                })
                .collect(),
            timing: Timing::default(),
        };
        let service = ForPeers {
            array: Arc::clone(&self.array),
            boot,
            trace: Arc::clone(self.cables.trace()),
        };
        let plug = self.cables.plug(self.index);
        let links = Links::start_over(plug, config, Arc::new(service)).expect("a valid configuration");
        self.array.connect(links.clone());
        self.links = Some(links);
    }
}

/// What a life begins with.
struct Birth<'a> {
    index: usize,
    kind: &'a Kind,
    clock: &'a Arc<Skewed>,
    platters: &'a [Arc<Platter>],
    power: &'a Arc<Power>,
    seed: u64,
}

impl Birth<'_> {
    fn array(&self, state: &Path) -> Arc<Array> {
        let machine = SimulatedMachine {
            clock: Arc::clone(self.clock),
            rng: Mutex::new(Rng::new(self.seed)),
            power: Arc::clone(self.power),
            journal_ms: self.kind.journal_ms,
            mutation: self.kind.mutation,
        };
        let tuning = Tuning {
            limits: self.kind.limits,
            journal_limit: 32 << 10,
            on_the_way: self.kind.on_the_way,
        };
        let identities = IdentityStore::ephemeral();
        let volumes = self.platters.iter().enumerate();
        let volumes = volumes.map(|(at, platter)| self.volume(at, platter, &identities));
        let volumes = volumes.collect();
        let opening = Opening {
            state_directory: state,
            system: name(self.index),
            track_size: TRACK,
            tuning,
            volumes,
            fresh: &BTreeSet::new(),
        };
        let machine: Arc<dyn Machine> = Arc::new(machine);
        let array = Array::open_on(&machine, opening)
            .unwrap_or_else(|error| panic!("{} does not start: {error}", name(self.index)));
        let peers = (0..self.kind.systems).filter(|peer| *peer != self.index);
        for peer in peers {
            let queue = self.kind.queue.map(|bytes| self.queue(peer, bytes));
            array.set_queue(&name(peer), queue).expect("a new array");
        }
        array
    }

    /// A file that begins with each life, on a disk as slow as the others.
    fn queue(&self, peer: usize, bytes: usize) -> Queue {
        let disk = SimulatedDisk {
            platter: self.platters[0].beside(bytes, self.seed ^ peer as u64),
            power: Arc::clone(self.power),
        };
        let name = format!("queue for {}", name(peer));
        Queue {
            disk: Disk::new(&name, Arc::new(disk)),
            name,
        }
    }

    fn volume(&self, at: usize, platter: &Arc<Platter>, identities: &IdentityStore) -> Arc<PlainVolume> {
        let config = VolumeConfig {
            number: VolumeNumber(at as u32 + 1),
            name: format!("vol{}", at + 1),
            mirror_class: at > 1,
            size: None,
            backing: Backing::Memory,
            block_size: BLOCK as u32,
            physical_block_size: BLOCK as u32,
            removable: false,
            thin: true,
            quota: None,
        };
        let disk = SimulatedDisk {
            platter: Arc::clone(platter),
            power: Arc::clone(self.power),
        };
        PlainVolume::on_media(config, Arc::new(disk), identities).expect("a valid volume")
    }
}

/// Gives a system a command.
pub async fn out(
    array: &Arc<Array>,
    verb: OutVerb,
    flags: Flags,
    pairs: &[(u32, u32)],
) -> Result<Reply, Refusal> {
    let pair = |(primary, mirror): &(u32, u32)| VolumePair {
        primary: VolumeNumber(*primary),
        mirror: Some(VolumeNumber(*mirror)),
    };
    let request = ControlRequest::Out {
        verb,
        flags,
        members: pairs.iter().map(pair).collect(),
        dry_run: false,
    };
    array.execute(request).await
}

/// A volume's remote pair with that peer: whether it is led here, in which epoch, and its state.
pub fn part(array: &Array, volume: u32, peer: usize) -> Option<(bool, u64, PairState)> {
    let remote = array.remote_pairs();
    let pair = remote
        .iter()
        .find(|pair| pair.local.0 == volume && pair.peer == name(peer))?;
    let views = array.pairs();
    let view = views
        .iter()
        .find(|view| (view.primary, view.mirror) == pair.volumes())?;
    Some((pair.leads, pair.epoch, view.state))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// What a system does for its peers: as the daemon does.
struct ForPeers {
    array: Arc<Array>,
    boot: u128,
    trace: Arc<Trace>,
}

impl ForPeers {
    fn say(&self, what: impl AsRef<str>) {
        self.trace
            .say(format!("{}: {}", self.array.system(), what.as_ref()));
    }
}

impl LinkService for ForPeers {
    fn serve(&self, peer: &SystemId, request: Request) -> Serving {
        match &request {
            Request::Pair(order) if order.action != Action::Status => self.say(format!(
                "{peer} orders {:?} of volume {} in epoch {}",
                order.action, order.mirror, order.epoch
            )),
            Request::Write { .. } => {}
            other => self.trace.note(0, format!("{:?}", other.kind()).as_bytes()),
        }
        self.array.serve(peer, self.boot, request)
    }

    fn write_at_once(&self, peer: &SystemId, request: &Request) -> Option<Response> {
        self.array.serve_at_once(peer, request)
    }

    fn up(&self, peer: &SystemId, _: u128) {
        self.say(format!("the link to {peer} is up"));
        self.array.link_found();
    }

    fn down(&self, peer: &SystemId, reason: &str) {
        self.say(format!("the link to {peer} is down: {reason}"));
        self.array.link_lost(peer, reason);
    }
}
