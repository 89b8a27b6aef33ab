//! Faults have stopped: everything comes to rest, equal, and nothing is missing.

use std::time::Duration;

use replication_engine::state::PairState;
use target_core::{
    scsi_model::control::{OutVerb, VolumeNumber},
    volume::Volume,
};
use tokio::time::{Instant, sleep, timeout};

use super::{NONE, Play};
use crate::{ledger::Found, run::look_for_panics, site::name, world::LONG};

impl Play {
    /// All that is between systems works.
    pub(super) fn mend_all(&self) {
        for low in 0..self.world.sites.len() {
            for high in low + 1..self.world.sites.len() {
                self.world.cables.mend((low, high));
            }
        }
    }

    pub(super) async fn mend_after(&self, wait: Duration) {
        sleep(wait).await;
        self.mend_all();
    }

    /// Both ends of all pairs come to be equal, and the first has all that was acknowledged.
    pub(super) async fn converge(&mut self) {
        self.say("faults stop");
        self.mend_all();
        self.rest(&[]).await;
        self.world.pause().await;
        self.still().await;
        let mut all = Found::new();
        for route in &self.world.routes {
            let (leader, _) = self.world.leader(route.volume).expect("it is at rest");
            let found = self.world.found(leader, route.volume).await.expect("it leads");
            if self.unled.contains(&(route.volume, leader)) {
                self.world.ledger.restarted(&found, true);
            }
            all.extend(found);
        }
        self.world.ledger.is_all(&all, "in the end");
        self.compare();
        self.world.ledger.rebase(&all);
        self.shaken.fill(false);
        self.unled.clear();
        self.restored = [1, 2].map(|volume| {
            let (leader, follower) = self.world.leader(volume).expect("it is at rest");
            self.world.state(leader, volume, follower) == Some(PairState::Restored)
        });
        self.world.resume();
    }

    /// A history begins, with what the volumes hold.
    pub(super) async fn rebase_all(&self) {
        let mut all = Found::new();
        for route in &self.world.routes {
            if let Some((leader, _)) = self.world.leader(route.volume) {
                all.extend(self.world.found(leader, route.volume).await.unwrap_or_default());
            }
        }
        self.world.ledger.rebase(&all);
    }

    /// All pairs are DUPLEX on both sides (all those of these volumes, if any are named). Hosts that write more than a slow leg carries would keep
    /// that from coming to be for ever; so after a while they stop.
    pub(super) async fn rest(&mut self, volumes: &[u32]) {
        let mut until = Instant::now() + LONG;
        let mut writing = true;
        loop {
            self.mend_all();
            if writing && Instant::now() + LONG / 2 > until {
                // What they have written by then may be on its way for long.
                self.world.pause().await;
                (writing, until) = (false, until + 10 * LONG);
            }
            let mut calm = true;
            for route in self.world.routes.clone() {
                if !volumes.is_empty() && !volumes.contains(&route.volume) {
                    continue;
                }
                for ends in route.legs() {
                    calm &= self.is_calm(route.volume, ends).await;
                }
                calm &= self.world.leader(route.volume).is_some();
            }
            if calm {
                return;
            }
            look_for_panics();
            assert!(
                Instant::now() < until,
                "it does not come to rest:\n{}",
                self.world.picture()
            );
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// What was left by a command that was refused or cut is told to go on.
    async fn is_calm(&mut self, volume: u32, (one, other): (usize, usize)) -> bool {
        let (Some(here), Some(there)) = (
            self.world.part(one, volume, other),
            self.world.part(other, volume, one),
        ) else {
            return false;
        };
        if is_equal(here.2) && is_equal(there.2) && here.0 != there.0 {
            return true;
        }
        let ends = if here.0 { (one, other) } else { (other, one) };
        let leading = if here.0 { here.2 } else { there.2 };
        let is_left = matches!(leading, PairState::Split | PairState::Suspended);
        if here.0 != there.0 && is_left && self.rng.chance(400) {
            let pair: Vec<_> = self.world.members(ends.0, volume, ends.1).into_iter().collect();
            let establish = OutVerb::Establish { remote: None };
            let _ = self.command(ends.0, establish, NONE, &pair).await;
        }
        false
    }

    /// Nobody writing: all is at rest, and what was on its way has arrived.
    async fn still(&mut self) {
        let until = Instant::now() + LONG;
        loop {
            self.rest(&[]).await;
            let mut arrived = true;
            for route in self.world.routes.clone() {
                // Along a chain, one after the other. What is on its way over a slow leg may be on its way for long.
                for (one, other) in route.legs() {
                    for site in [one, other] {
                        let flushed = timeout(10 * LONG, self.world.volume(site, route.volume).flush()).await;
                        let flushed = flushed.expect("a flush hangs").is_ok();
                        let array = self.world.array(site);
                        let on_its_way =
                            timeout(10 * LONG, array.has_arrived(VolumeNumber(route.volume))).await;
                        let all_there = on_its_way.expect("what is on its way hangs").is_ok();
                        let leads = self
                            .world
                            .leader(route.volume)
                            .is_some_and(|(leader, _)| leader == site);
                        arrived &= flushed && all_there || !leads;
                    }
                }
                for (one, other) in route.legs() {
                    let states = [
                        self.world.part(one, route.volume, other),
                        self.world.part(other, route.volume, one),
                    ];
                    arrived &= states
                        .iter()
                        .all(|part| part.is_some_and(|(.., state)| is_equal(state)));
                }
            }
            if arrived {
                return;
            }
            assert!(
                Instant::now() < until,
                "it is never still:\n{}",
                self.world.picture()
            );
        }
    }

    /// Byte for byte.
    fn compare(&self) {
        for route in &self.world.routes {
            for (one, other) in route.legs() {
                let same = self.world.content(one, route.volume) == self.world.content(other, route.volume);
                assert!(
                    same,
                    "volume {} differs on {} and {}",
                    route.volume,
                    name(one),
                    name(other)
                );
            }
        }
    }
}

/// Both sides hold the same; after a restore that is another state.
fn is_equal(state: PairState) -> bool {
    matches!(state, PairState::Duplex | PairState::Restored)
}
