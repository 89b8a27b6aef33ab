//! What a backup is of: the volumes that were named, by the systems that they are mirrored to.

use replication_engine::{ids::VolumeId, state::PairState};
use target_core::scsi_model::control::{Refusal, RefusalKind, SystemId, VolumeNumber, VolumePair};

use super::BackupMember;
use crate::{
    array::Array,
    control::{MOST_MEMBERS, out::of_member, refusals::refusal},
    remote::RemotePair,
};

/// The members of a backup.
pub(super) struct Members {
    /// At least one.
    pub(super) sites: Vec<Site>,
    /// The remote pairs, site by site.
    pub(super) pairs: Vec<RemotePair>,
    /// Local pairs among the members: primary and mirror.
    pub(super) locals: Vec<(VolumeId, VolumeId)>,
    /// Which member each of these pairs is, the local ones after the remote ones.
    order: Vec<usize>,
}

/// One of the other systems, and what it has a part of.
pub(super) struct Site {
    pub(super) peer: SystemId,
    /// At least one.
    pub(super) pairs: Vec<RemotePair>,
    /// Each one's volume there, and the mirror that is to be split.
    pub(super) there: Vec<VolumePair>,
    /// Which members they are.
    places: Vec<usize>,
}

impl Members {
    /// Says which member it was that was refused: one of the pairs, by its place among them.
    pub(super) fn refused(&self, at: usize, refusal: Refusal) -> Refusal {
        let index = self.order.get(at).copied().unwrap_or_default();
        of_member(refusal, index, self.order.len())
    }

    /// Likewise of a whole site; if it has one member only.
    pub(super) fn refused_at(&self, site: &Site, refusal: Refusal) -> Refusal {
        match site.places[..] {
            [index] => of_member(refusal, index, self.order.len()),
            _ => refusal,
        }
    }

    /// The far mirrors, for people.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.sites.iter().flat_map(Site::names).collect();
        names.join(", ")
    }
}

impl Site {
    fn names(&self) -> impl Iterator<Item = String> {
        let mirrors = self.there.iter().filter_map(|pair| pair.mirror);
        mirrors.map(|mirror| format!("{}:{}", self.peer, mirror.0))
    }
}

impl Array {
    /// Refused when a member cannot be backed up now, as far as this system can tell.
    pub(super) fn sort_out(&self, members: &[BackupMember]) -> Result<Members, Refusal> {
        if members.len() > MOST_MEMBERS {
            let message = format!(
                "{} volumes were named: at most {MOST_MEMBERS} are accepted",
                members.len()
            );
            return Err(refusal(RefusalKind::InvalidParameter { byte: 0 }, message));
        }
        let (mut sites, mut locals, mut last) = (Vec::<Site>::new(), Vec::new(), Vec::new());
        for (index, member) in members.iter().enumerate() {
            let refused = |refusal| of_member(refusal, index, members.len());
            if let Some(mirror) = self.local_mirror(member) {
                self.check_local(member.primary, mirror).map_err(refused)?;
                locals.push((VolumeId(member.primary.0), VolumeId(mirror.0)));
                last.push(index);
                continue;
            }
            let pair = self.pair_to_back_up(member).map_err(refused)?;
            let Some(mirror) = member.mirror else {
                let message = "the mirror at the far site is named by its number there";
                return Err(refused(refusal(
                    RefusalKind::InvalidParameter { byte: 0 },
                    message,
                )));
            };
            let there = VolumePair {
                primary: pair.far,
                mirror: Some(mirror),
            };
            let at = sites.iter().position(|site| site.peer == pair.peer);
            let at = at.unwrap_or_else(|| {
                sites.push(Site {
                    peer: pair.peer.clone(),
                    pairs: Vec::new(),
                    there: Vec::new(),
                    places: Vec::new(),
                });
                sites.len() - 1
            });
            let site = &mut sites[at];
            if site.pairs.iter().any(|known| known.foreign == pair.foreign) {
                let message = format!("volume {} is named twice", self.name(pair.local));
                return Err(refused(refusal(
                    RefusalKind::InvalidParameter { byte: 0 },
                    message,
                )));
            }
            site.pairs.push(pair);
            site.there.push(there);
            site.places.push(index);
        }
        if sites.is_empty() {
            let message = "no volume was named that is mirrored to another system";
            return Err(refusal(RefusalKind::InvalidParameter { byte: 0 }, message));
        }
        let places = sites.iter().flat_map(|site| site.places.iter().copied());
        Ok(Members {
            order: places.chain(last).collect(),
            pairs: sites.iter().flat_map(|site| site.pairs.clone()).collect(),
            sites,
            locals,
        })
    }

    /// The local mirror that is meant, if the volume leads no remote pair.
    fn local_mirror(&self, member: &BackupMember) -> Option<VolumeNumber> {
        let leads = |pair: &RemotePair| pair.leads && pair.local == member.primary;
        let here = member.peer.as_ref().is_none_or(|peer| peer == self.system());
        let mirror = member.mirror.filter(|_| here)?;
        let is_local = self.is_local_pair(member.primary, mirror);
        (is_local && !self.remote.pairs().iter().any(leads)).then_some(mirror)
    }

    /// A mirror that is apart would keep the image that it has.
    fn check_local(&self, primary: VolumeNumber, mirror: VolumeNumber) -> Result<(), Refusal> {
        let state = self.view_of(VolumeId(mirror.0)).map(|view| view.state);
        if state.is_some_and(PairState::keeps_two_legs) {
            return Ok(());
        }
        let message = format!(
            "the pair of volume {} and its mirror {} is {}: establish it first",
            self.name(primary),
            self.name(mirror),
            state.unwrap_or_default()
        );
        Err(refusal(RefusalKind::State, message))
    }

    fn pair_to_back_up(&self, member: &BackupMember) -> Result<RemotePair, Refusal> {
        let primary = member.primary;
        let mut led = self.remote.pairs();
        led.retain(|pair| pair.leads && pair.local == primary);
        let no_such_pair = |why: String| {
            let message = format!("volume {} {why}", self.name(primary));
            Err(refusal(RefusalKind::NoSuchPair, message))
        };
        let peers: Vec<String> = led.iter().map(|pair| pair.peer.to_string()).collect();
        if let Some(peer) = &member.peer {
            led.retain(|pair| pair.peer == *peer);
            if led.is_empty() && !peers.is_empty() {
                return no_such_pair(format!("is mirrored to {}, not to {peer}", peers.join(", ")));
            }
        }
        let [pair] = &led[..] else {
            return no_such_pair("is not the primary of exactly one remote pair".to_owned());
        };
        if !self.remote.is_up(&pair.peer) {
            let message = format!(
                "volume {}: the link to {} is down: `holdfast link` says why",
                self.name(primary),
                pair.peer
            );
            return Err(refusal(RefusalKind::NoPath, message));
        }
        let state = self.view_of(pair.foreign_id()).map(|view| view.state);
        if let Some(PairState::Copy | PairState::Duplex | PairState::Restored) = state {
            return Ok(pair.clone());
        }
        let state = state.unwrap_or_default();
        let message = format!(
            "the remote pair of volume {} is {state}: establish it first",
            self.name(primary)
        );
        Err(refusal(RefusalKind::State, message))
    }
}
