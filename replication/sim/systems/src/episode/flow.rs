//! Writes on their way: at any moment in DUPLEX a follower's disk holds a beginning of what was written.

use std::collections::BTreeMap;

use replication_engine::state::PairState;
use target_core::scsi_model::control::VolumeNumber;

use super::Play;
use crate::{counts::Happening, hosts, ledger::Found, site::name, world::Route};

impl Play {
    /// Bursts over slow disks and cables, with cuts in the middle of them.
    pub(super) async fn flow(&mut self) {
        self.say("flow");
        self.slow_followers();
        for _ in 0..self.rng.between(20, 50) {
            if self.rng.chance(500) {
                self.burst(12).await;
            }
            self.pass_time(20).await;
            let ends = self.any_leg();
            match self.rng.below(25) {
                0 => self.cut_soon(ends),
                1 | 2 => self.change_disks(),
                _ => {}
            }
            self.glance();
        }
    }

    /// Up to so many writes, each as soon as the last is answered.
    pub(super) async fn burst(&mut self, most: u64) {
        let writes = self.rng.between(2, most);
        hosts::burst(&self.world, writes, &mut self.rng).await;
    }

    /// What is answered by the first side is long on its way to the other's disks.
    pub(super) fn slow_followers(&mut self) {
        let slow = *self.rng.pick(&[2, 15]).expect("not empty");
        for volume in [1, 2] {
            if let Some((_, follower)) = self.world.leader(volume) {
                self.slow_disks(follower, slow);
            }
        }
    }

    fn look_at_queues(&mut self) {
        let legs: Vec<_> = self.world.routes.iter().flat_map(Route::legs).collect();
        let both_ways = legs
            .into_iter()
            .flat_map(|(one, other)| [(one, other), (other, one)]);
        let queued = |(at, peer)| self.world.array(at).queued_on_disk(&name(peer));
        let waiting = both_ways.filter_map(queued).any(|(bytes, _)| bytes > 0);
        if waiting {
            self.counts.note(Happening::Queue);
        }
    }

    /// Looks at the disks themselves, past all that answers hosts. The volumes that one system leads and another follows are one history. One that was
    /// restored may stay behind, and those of different leaders have nothing to do with each other; and the end of a chain holds no moment's image
    /// while the pair before it copies.
    pub(super) fn glance(&mut self) {
        self.look_at_queues();
        let mut histories = BTreeMap::<_, Found>::new();
        for route in &self.world.routes {
            let (one, other) = route.first_leg();
            for (leader, follower) in [(one, other), (other, one)] {
                let part = self.world.part(follower, route.volume, leader);
                if !matches!(part, Some((false, _, PairState::Duplex))) || self.shaken[follower] {
                    continue;
                }
                let alone = self.restored[route.volume as usize - 1].then_some(route.volume);
                let history = histories.entry((leader, follower, alone)).or_default();
                history.extend(self.world.on_disk(follower, route.volume));
            }
        }
        for held in histories.values() {
            self.counts.note(Happening::Glance);
            self.world.ledger.is_prefix(held, true, "a follower's disk");
        }
        self.glance_at_the_end();
    }

    /// While both pairs of a chain are DUPLEX and nothing is on its way to the end, that holds what the middle held, which was a moment's image.
    fn glance_at_the_end(&mut self) {
        let mut held = Found::new();
        for route in &self.world.routes {
            let [first, middle, end] = route.sites[..] else {
                continue;
            };
            let volume = route.volume;
            let equal = |site: usize, peer: usize, leads: bool| matches!(self.world.part(site, volume, peer), Some((known, _, PairState::Duplex)) if known == leads);
            let arrived = equal(middle, end, true) && {
                let (_, mirror) = self.world.members(middle, volume, end).expect("it leads");
                self.world.array(middle).bytes_on_the_way(VolumeNumber(mirror)) == 0
            };
            if arrived
                && equal(middle, first, false)
                && equal(end, middle, false)
                && !(self.shaken[middle] || self.shaken[end])
            {
                held.extend(self.world.on_disk(end, volume));
            }
        }
        if !held.is_empty() {
            self.counts.note(Happening::EndGlance);
            self.world.ledger.is_prefix(&held, false, "the end of a chain");
        }
    }
}
