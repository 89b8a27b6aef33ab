//! Units that two systems show as one: which of the two hosts are to use.
//!
//! A shared volume is to hosts the same unit as the far volume of one of its pairs: the same designators and serial number, through port
//! groups of its own on each system (SPC-4 5.15). Hosts choose between their paths by what each system says of itself, so the two must
//! never both say active. Here is what a system goes by:
//!
//! - In the pair it is active while it leads, and standby while it follows, whatever the pair's state: also when SPLIT, with other content.
//! - A system that leads and has just started does not know whether the other has taken over meanwhile. It is standby until it has heard that it has not, or a
//!   person says so (`swap --force` here). What it has heard counts until it stops. If it hears that the other did take over, it is standby.
//! - Without the pair it is what it was last in it, which is kept on disk (`shared.json`); at first it is standby. So an ESTABLISH makes the side that is given it
//!   active, and a CANCEL makes no side active that was not.
//!
//! Who stops being active says so before the other side begins: the parts of a pair change in that order, and the state of the unit follows what the registry
//! and the engine both say. What is left is a takeover by force of a system that is alive and cannot be heard: nobody but the person who gives the command can know.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Mutex, PoisonError, RwLock},
};

use replication_engine::ids::{PairId, VolumeId};
use target_core::{
    scsi_model::{
        control::{SystemId, VolumeNumber},
        unit::SharedAccess,
    },
    state_file::{self, StateFileError},
    volume::{Volume, VolumeChange},
};

use super::RemotePair;
use crate::{
    array::Array,
    events::{ArrayEvent, Level},
    lock,
};

/// How a volume is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The system that shows the same unit.
    pub peer: SystemId,
    /// The volume there.
    pub volume: VolumeNumber,
    /// TARGET PORT GROUP of this system's ports for it, 1 or more; the other's is another.
    pub target_port_group: u16,
}

impl Shared {
    fn is_with(&self, pair: &RemotePair) -> bool {
        pair.peer == self.peer && pair.far == self.volume
    }
}

/// What the other system said of who leads, since this one started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// Not it.
    Ours,
    /// It does.
    Theirs,
}

/// See the module's page.
pub(crate) struct Sharing {
    path: PathBuf,
    shared: RwLock<BTreeMap<VolumeNumber, Shared>>,
    /// The volumes that are active, as it is on disk.
    active: Mutex<BTreeSet<VolumeNumber>>,
    /// By foreign volume.
    heard: Mutex<BTreeMap<VolumeId, Heard>>,
    /// The foreign volumes of pairs that this system follows in, whose leader has said so over the link that is there now, in the epoch that
    /// is known here.
    leaders: Mutex<BTreeSet<VolumeId>>,
}

impl Sharing {
    /// What `shared.json` says.
    pub(crate) fn load(path: PathBuf) -> Result<Self, StateFileError> {
        let active: Option<BTreeSet<VolumeNumber>> = state_file::load(&path)?;
        Ok(Self {
            path,
            shared: RwLock::default(),
            active: Mutex::new(active.unwrap_or_default()),
            heard: Mutex::default(),
            leaders: Mutex::default(),
        })
    }

    fn shared(&self) -> BTreeMap<VolumeNumber, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Are the two volumes of this pair one unit to hosts?
    pub(crate) fn is_shared_in(&self, pair: &RemotePair) -> bool {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        shared.get(&pair.local).is_some_and(|shared| shared.is_with(pair))
    }

    /// Has the other system said that it leads this pair?
    pub(crate) fn is_theirs(&self, foreign: VolumeId) -> bool {
        lock(&self.heard).get(&foreign) == Some(&Heard::Theirs)
    }

    fn is_ours(&self, foreign: VolumeId) -> bool {
        lock(&self.heard).get(&foreign) == Some(&Heard::Ours)
    }

    /// `true` when that is news.
    fn hear(&self, foreign: VolumeId, heard: Heard) -> bool {
        let known = lock(&self.heard).insert(foreign, heard);
        self.forget_leader(foreign) || known != Some(heard)
    }

    /// Nothing counts any more of what was heard about this pair. `true` when there was something.
    fn forget(&self, foreign: VolumeId) -> bool {
        let known = lock(&self.heard).remove(&foreign);
        self.forget_leader(foreign) || known.is_some()
    }

    fn forget_leader(&self, foreign: VolumeId) -> bool {
        lock(&self.leaders).remove(&foreign)
    }
}

impl Array {
    /// These volumes, and no others, are shared from now on. To be called before hosts are served.
    pub fn set_shared(&self, shared: BTreeMap<VolumeNumber, Shared>) {
        let sharing = &self.remote.sharing;
        for number in sharing.shared().into_keys() {
            if let Some(volume) = self.volume(number).filter(|_| !shared.contains_key(&number)) {
                volume.set_shared(None);
            }
        }
        *sharing.shared.write().unwrap_or_else(PoisonError::into_inner) = shared;
        self.note_access();
    }

    /// The other system of the pair does not lead it: this one may be used.
    pub(crate) fn note_ours(&self, foreign: VolumeId) {
        let news = self.remote.sharing.hear(foreign, Heard::Ours);
        self.note_heard(news);
    }

    /// The other system has taken over: this one is not to be used.
    pub(crate) fn note_theirs(&self, foreign: VolumeId) {
        let news = self.remote.sharing.hear(foreign, Heard::Theirs);
        self.note_heard(news);
    }

    /// The pair is led there, or is no more.
    pub(crate) fn note_not_ours(&self, foreign: VolumeId) {
        let news = self.remote.sharing.forget(foreign);
        self.note_heard(news);
    }

    fn note_heard(&self, news: bool) {
        self.note_access();
        if news {
            self.note_change();
        }
    }

    /// The leader of a pair that this system follows in says that it leads it.
    pub(crate) fn note_leader(&self, foreign: VolumeId) {
        if lock(&self.remote.sharing.leaders).insert(foreign) {
            self.note_change();
        }
    }

    /// The link is not there any more over which the leader has said so.
    pub(crate) fn forget_leader(&self, foreign: VolumeId) {
        if self.remote.sharing.forget_leader(foreign) {
            self.note_change();
        }
    }

    /// Does this system know, of this moment, that hosts find this shared volume active at the other one? It has said so over the link that is there
    /// now. Never true on both systems: who begins to lead has forgotten before what the other has said, and is heard after.
    pub fn is_led_elsewhere(&self, number: VolumeNumber) -> bool {
        let sharing = &self.remote.sharing;
        let shared = sharing.shared();
        let Some(shared) = shared.get(&number) else {
            return false;
        };
        let pairs = self.remote.pairs();
        let Some(pair) = pairs
            .iter()
            .find(|pair| pair.local == number && shared.is_with(pair))
        else {
            return false;
        };
        let foreign = pair.foreign_id();
        let has_said = if pair.leads {
            sharing.is_theirs(foreign)
        } else {
            lock(&sharing.leaders).contains(&foreign)
        };
        has_said && self.remote.is_up(&pair.peer)
    }

    /// Does this system lead the pair of a shared volume, and wait to hear that the other does not?
    pub(crate) fn waits_to_hear(&self, pair: &RemotePair) -> bool {
        let sharing = &self.remote.sharing;
        pair.leads && sharing.is_shared_in(pair) && !sharing.is_ours(pair.foreign_id())
    }

    /// Is this shared volume, which is in no pair with its partner, the one that hosts use?
    pub(crate) fn is_used_alone(&self, pair: &RemotePair) -> bool {
        let sharing = &self.remote.sharing;
        sharing.is_shared_in(pair) && lock(&sharing.active).contains(&pair.local)
    }

    /// Sees to it that what hosts are told of the shared volumes is what is so.
    pub(crate) fn note_access(&self) {
        let sharing = &self.remote.sharing;
        let shared = sharing.shared();
        let mut changed = Vec::new();
        {
            let mut active = lock(&sharing.active);
            let mut now = active.clone();
            now.retain(|number| shared.contains_key(number));
            for (number, shared) in &shared {
                if self.is_active(*number, shared, active.contains(number)) {
                    now.insert(*number);
                } else {
                    now.remove(number);
                }
            }
            if now != *active
                && let Err(error) = state_file::store(&sharing.path, &now)
            {
                // Who was not active cannot begin to be.
                now.retain(|number| active.contains(number));
                self.say_access(
                    Level::Error,
                    format!("which shared volumes are active cannot be kept: {error}"),
                );
            }
            *active = now;
            for (number, shared) in shared {
                let access = SharedAccess {
                    target_port_group: shared.target_port_group,
                    active: active.contains(&number),
                    one_path: false,
                };
                let Some(volume) = self.volume(number) else {
                    continue;
                };
                if volume.set_shared(Some(access)) {
                    changed.push((volume, shared, access.active));
                }
            }
        }
        for (volume, shared, active) in changed {
            let info = volume.plain().info();
            let name = format!("{} ({})", info.number.0, info.name);
            let (peer, far) = (&shared.peer, shared.volume.0);
            let text = if active {
                format!("hosts are to use volume {name} here: active/optimized")
            } else {
                format!("hosts are not to use volume {name} here but {peer}:{far}: standby")
            };
            self.say_access(Level::Info, text);
            volume.tell(VolumeChange::Access);
        }
    }

    /// Is this the system through which hosts are to use the volume?
    fn is_active(&self, number: VolumeNumber, shared: &Shared, before: bool) -> bool {
        let pairs = self.remote.pairs();
        let mut partners = pairs
            .iter()
            .filter(|pair| pair.local == number && shared.is_with(pair));
        let Some(pair) = partners.next() else {
            return before;
        };
        let (primary, mirror) = pair.volumes();
        let engine = lock(&self.engine);
        let is_mirror_of = |mirror, primary| {
            let view = engine.pair(PairId(mirror));
            view.is_some_and(|view| view.primary == primary)
        };
        if is_mirror_of(mirror, primary) {
            pair.leads && self.remote.sharing.is_ours(pair.foreign_id())
        } else {
            // The parts are about to change, or the pair is not there yet, or no more.
            !is_mirror_of(primary, mirror) && before
        }
    }

    fn say_access(&self, level: Level, text: String) {
        self.events.push(ArrayEvent::Told {
            kind: "access",
            level,
            text,
        });
    }
}
