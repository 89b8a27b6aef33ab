//! What hosts must see: the content of every volume, the pairs and their states, as the commands promised.
//!
//! The oracle hears of each host I/O, and of each change of state at the moment the engine makes it. A SPLIT makes the
//! mirror's content the primary's of that moment; a RESTORE makes the primary's content the mirror's. It knows nothing
//! of tracks, marks, copies or locks.
//!
//! A change counts for hosts at once, but a crash may undo it until its record is durable. So what was before is kept
//! beside, and hears of the same I/O, until then ([`Pending`]).

use crate::content::{Content, Time};
use replication_engine::{
    command::Command,
    ids::{CommandId, PairId, VolumeId},
    journal::{PairMeta, StateChange, VolumeConfig},
    pair_bits::Change,
    state::PairState,
};
use std::collections::BTreeMap;

/// The oracle's knowledge.
#[derive(Debug, Clone)]
pub struct Oracle {
    /// What each volume that answers hosts holds. (Of one that does not, see `content_of`.)
    pub contents: BTreeMap<VolumeId, Content>,
    /// The pairs.
    pub pairs: BTreeMap<PairId, PairMeta>,
    /// Configurations that are not the default.
    pub configs: BTreeMap<VolumeId, VolumeConfig>,
    /// Changes that a crash may undo, oldest first.
    pub pending: Vec<Pending>,
    /// Primaries of restores that were not answered, and what they held before: not all of what was equal on both sides is
    /// stable on the primary until then.
    unanswered: Vec<(Option<CommandId>, VolumeId, Content)>,
    /// Mirrors of splits that were not answered, and when they became images.
    images: Vec<(Option<CommandId>, VolumeId, Time)>,
}

/// A change that is not durable, and what was before it.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The number of its record.
    pub seq: u64,
    /// The command that made it, when that is known.
    pub command: Option<CommandId>,
    /// The pairs it changed.
    members: Vec<PairId>,
    contents: BTreeMap<VolumeId, Content>,
    pairs: BTreeMap<PairId, PairMeta>,
    configs: BTreeMap<VolumeId, VolumeConfig>,
}

impl Pending {
    /// Does it change a pair that the command names?
    pub fn concerns(&self, command: &Command) -> bool {
        let Command::Pair { members, .. } = command else {
            return false;
        };
        members
            .iter()
            .any(|(_, mirror)| self.members.contains(&PairId(*mirror)))
    }
}

/// What the bytes of a volume allow at this moment: all versions on its disk, and what effects under way may write.
pub trait Bytes {
    /// Its content.
    fn content(&self, volume: VolumeId, now: Time) -> Content;
}

impl Oracle {
    /// Volumes in no pair.
    pub fn new(contents: BTreeMap<VolumeId, Content>) -> Self {
        Self {
            contents,
            pairs: BTreeMap::new(),
            configs: BTreeMap::new(),
            pending: Vec::new(),
            unanswered: Vec::new(),
            images: Vec::new(),
        }
    }

    /// The state of a pair.
    pub fn state(&self, primary: VolumeId, mirror: VolumeId) -> PairState {
        self.pairs
            .get(&PairId(mirror))
            .filter(|meta| meta.primary == primary)
            .map_or(PairState::Simplex, |meta| meta.state)
    }

    /// Does the volume answer hosts?
    pub fn ready(&self, volume: VolumeId) -> bool {
        !self.configs.get(&volume).is_some_and(|config| config.not_ready)
            && self.pairs.get(&PairId(volume)).is_none_or(shows_mirror)
    }

    /// Nobody promised anything about what it holds.
    pub fn inconsistent(&self, volume: VolumeId) -> bool {
        self.configs
            .get(&volume)
            .is_some_and(|config| config.inconsistent)
    }

    /// Tells the content of a volume, in every world that may turn out to be the real one.
    pub fn tell(&mut self, volume: VolumeId, mut what: impl FnMut(&mut Content)) {
        for (_, primary, content) in &mut self.unanswered {
            if *primary == volume {
                what(content);
            }
        }
        let before = self.pending.iter_mut().map(|pending| &mut pending.contents);
        for contents in before.chain([&mut self.contents]) {
            if let Some(content) = contents.get_mut(&volume) {
                what(content);
            }
        }
    }

    /// A command was answered. The images of a SPLIT that was done are safe from then on.
    pub fn answered(&mut self, command: CommandId, done: bool) {
        self.unanswered
            .retain(|(waiting, _, _)| *waiting != Some(command));
        let images = self
            .images
            .extract_if(.., |(waiting, _, _)| *waiting == Some(command))
            .collect::<Vec<_>>();
        for (_, mirror, at) in images.into_iter().filter(|_| done) {
            self.tell(mirror, |content| content.flush(at));
        }
    }

    /// Records up to this number are durable: nothing undoes them.
    pub fn durable(&mut self, seq: u64) {
        self.pending.retain(|pending| pending.seq > seq);
    }

    /// The engine changes states. Returns a time behind all that was used.
    pub fn change(
        &mut self,
        seq: u64,
        command: Option<CommandId>,
        change: &StateChange,
        bytes: &impl Bytes,
        now: Time,
    ) -> Time {
        self.pending.push(Pending {
            seq,
            command,
            members: change.members.iter().map(|member| member.pair).collect(),
            contents: self.contents.clone(),
            pairs: self.pairs.clone(),
            configs: self.configs.clone(),
        });
        // One point in time: every member's image is taken before any member changes.
        let before = self.clone_without_history();
        for member in &change.members {
            if member.meta.state == PairState::Simplex {
                self.pairs.remove(&member.pair);
            } else {
                self.pairs.insert(member.pair, member.meta);
            }
        }
        let mut last = now;
        self.images
            .retain(|(_, mirror, _)| change.members.iter().all(|member| member.pair.0 != *mirror));
        for member in &change.members {
            let old = before
                .pairs
                .get(&member.pair)
                .filter(|meta| meta.primary == member.meta.primary);
            let (mirror, primary) = (member.pair.0, member.meta.primary);
            let from = old.map_or(PairState::Simplex, |meta| meta.state);
            let to = member.meta.state;
            match (from, to) {
                (
                    PairState::Copy | PairState::Duplex | PairState::Restored,
                    PairState::Splitting | PairState::Split,
                ) => {
                    let image = before.content_of(primary, bytes, now).image(now);
                    last = last.max(self.own(mirror).restore(&image, now));
                    self.images.push((command, mirror, last));
                }
                (PairState::Suspended, PairState::Split) if old.is_some_and(|meta| !meta.mirror_ready) => {
                    self.only_bytes(mirror, bytes, now);
                }
                (
                    PairState::Split | PairState::Suspended,
                    PairState::Restoring | PairState::ProtectedRestoring,
                ) => {
                    let image = before.content_of(mirror, bytes, now).image(now);
                    self.unanswered
                        .push((command, primary, before.contents[&primary].clone()));
                    last = last.max(self.own(primary).restore(&image, now));
                    if to == PairState::ProtectedRestoring && old.is_some_and(|meta| !meta.mirror_ready) {
                        self.only_bytes(mirror, bytes, now);
                    }
                }
                (PairState::ProtectedRestoring, PairState::Split)
                    if member.change == Change::StopIntoPrimary =>
                {
                    self.only_bytes(primary, bytes, now);
                }
                (PairState::Restoring | PairState::ProtectedRestoring, PairState::Suspended) => {
                    self.only_bytes(primary, bytes, now);
                }
                (PairState::Splitting | PairState::Split, PairState::Suspended) => {
                    self.only_bytes(mirror, bytes, now);
                }
                (from, PairState::Simplex) => {
                    if from.restores() {
                        self.only_bytes(primary, bytes, now);
                    }
                    // CANCEL promises no image: whatever a copy to the mirror has left is left.
                    if from == PairState::Splitting || old.is_some_and(|meta| !shows_mirror(meta)) {
                        self.only_bytes(mirror, bytes, now);
                    }
                }
                _ => {}
            }
        }
        for config in &change.configs {
            self.configs.insert(config.volume, *config);
        }
        last + 1
    }

    /// What a volume holds: its own content, or that of the primary it is kept equal to, or whatever its bytes are.
    fn content_of(&self, volume: VolumeId, bytes: &impl Bytes, now: Time) -> Content {
        let own = || self.contents[&volume].clone();
        let Some(meta) = self.pairs.get(&PairId(volume)) else {
            return own();
        };
        match meta.state {
            PairState::Duplex | PairState::Restored => self.content_of(meta.primary, bytes, now),
            PairState::Restoring => {
                let mut content = self.content_of(meta.primary, bytes, now);
                content.merge(&self.bytes_of(volume, bytes, now));
                content
            }
            PairState::Copy => self.bytes_of(volume, bytes, now),
            PairState::Suspended if !meta.mirror_ready => self.bytes_of(volume, bytes, now),
            _ => own(),
        }
    }

    /// What a volume's disk holds, and its own writes in flight: one that began before the volume stopped answering
    /// may reach the disk after.
    fn bytes_of(&self, volume: VolumeId, bytes: &impl Bytes, now: Time) -> Content {
        let mut content = self.contents[&volume].clone();
        if self.is_promised(volume) {
            // A copy to it goes on, and owes it tracks of an image that nobody remembers.
            content.anything(0..content.blocks(), now);
            return content;
        }
        content.forget();
        content.merge(&bytes.content(volume, now));
        content
    }

    fn own(&mut self, volume: VolumeId) -> &mut Content {
        self.contents
            .get_mut(&volume)
            .expect("every volume has a content")
    }

    /// A copy to this volume was cut short: it holds what its disk does, and its own writes in flight.
    fn only_bytes(&mut self, volume: VolumeId, bytes: &impl Bytes, now: Time) {
        *self.own(volume) = self.bytes_of(volume, bytes, now);
    }

    /// Is a copy running whose data the volume shows in advance?
    fn is_promised(&self, volume: VolumeId) -> bool {
        self.pairs.iter().any(|(pair, meta)| match meta.state {
            PairState::Splitting => pair.0 == volume,
            state => state.restores() && meta.primary == volume,
        })
    }

    /// The system stopped, and of its journal the records up to `seq` survive.
    pub fn crash(&mut self, seq: u64, power: bool, now: Time) {
        self.durable(seq);
        if !self.pending.is_empty() {
            let first = self.pending.swap_remove(0);
            (self.contents, self.pairs, self.configs) = (first.contents, first.pairs, first.configs);
            self.pending.clear();
        }
        for content in self.contents.values_mut() {
            content.stop(now);
            if power {
                content.lose_power(now);
            }
        }
        self.images.clear();
        for (_, primary, mut content) in core::mem::take(&mut self.unanswered) {
            if power {
                content.stop(now);
                content.lose_power(now);
                self.own(primary).merge(&content);
            }
        }
    }

    fn clone_without_history(&self) -> Self {
        Self {
            contents: self.contents.clone(),
            pairs: self.pairs.clone(),
            configs: self.configs.clone(),
            pending: Vec::new(),
            unanswered: Vec::new(),
            images: Vec::new(),
        }
    }
}

/// Does the pair let its mirror answer hosts?
fn shows_mirror(meta: &PairMeta) -> bool {
    match meta.state {
        PairState::Simplex | PairState::Split => true,
        PairState::Copy | PairState::Duplex | PairState::Restoring | PairState::Restored => false,
        // Not while it is half of something: so after a fault, and in a restore from a mirror that has had one.
        PairState::Splitting | PairState::ProtectedRestoring | PairState::Suspended => meta.mirror_ready,
    }
}
