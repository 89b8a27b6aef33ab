//! Splits of remote pairs: what the second side's hosts find, and what stays.

use std::time::Duration;

use replication_engine::state::PairState;
use target_core::{scsi_model::control::OutVerb, volume::Volume};
use tokio::time::{Instant, sleep, timeout};

use super::{NONE, Play};
use crate::{
    counts::Happening,
    ledger::{BLOCKS, Found, data, place},
    world::LONG,
};

impl Play {
    /// The second side gets the image of one instant, its hosts write to it, and then it follows again, or the first gets what it holds.
    pub(super) async fn split(&mut self) {
        self.say("split");
        let routes = self.world.routes.clone();
        let at = self.rng.below(2) as usize;
        // Of a chain, its end: its image is one that the primary had, at an earlier instant.
        let legs: Vec<_> = routes.iter().filter_map(|route| route.legs().last()).collect();
        let together = legs[0] == legs[1];
        let volumes: Vec<u32> = if together { vec![1, 2] } else { vec![at as u32 + 1] };
        let (mut from, mut to) = legs[at];
        if routes[at].sites.len() == 2 {
            let Some(leading) = self.world.leader(volumes[0]) else {
                return;
            };
            (from, to) = leading;
        }
        let pairs: Vec<_> = volumes
            .iter()
            .filter_map(|volume| self.world.members(from, *volume, to))
            .collect();
        let before = self.world.ledger.now();
        if !self.command_in_trouble(from, OutVerb::Split, NONE, &pairs).await {
            return;
        }
        let after = self.world.ledger.now();
        if !self.await_image(&volumes, (from, to)).await {
            return;
        }
        let mut image = Found::new();
        for volume in &volumes {
            image.extend(self.world.found(to, *volume).await.expect("it is its hosts'"));
        }
        if routes[at].sites.len() == 2 {
            self.counts.note(Happening::SplitImage);
            self.world.ledger.is_image(&image, (before, after), "the image");
        } else {
            self.counts.note(Happening::ChainImage);
            self.world
                .ledger
                .is_prefix(&image, false, "the image at the end of the chain");
        }
        let held = self.write_there(to, image).await;
        let second = routes[at].sites.len() == 2 && self.rng.chance(500);
        if second {
            self.restore(&volumes, (from, to), held).await;
        }
        let establish = OutVerb::Establish { remote: None };
        for volume in volumes {
            let pair = self.world.members(from, volume, to);
            let established = self
                .command(
                    from,
                    establish.clone(),
                    NONE,
                    &pair.into_iter().collect::<Vec<_>>(),
                )
                .await;
            if established.is_err() {
                self.say("it is told so again when all is well");
            }
        }
    }

    /// Both sides say that the second is its hosts'. Otherwise the image is lost, and nobody was told another.
    async fn await_image(&mut self, volumes: &[u32], (from, to): (usize, usize)) -> bool {
        let until = Instant::now() + LONG;
        loop {
            let leading = |volume: &u32| self.world.state(from, *volume, to);
            let following = |volume: &u32| self.world.part(to, *volume, from).map(|(.., state)| state);
            let is_split = |state| state == Some(PairState::Split);
            if volumes
                .iter()
                .all(|volume| is_split(leading(volume)) && is_split(following(volume)))
            {
                return true;
            }
            let owed = |state| matches!(state, Some(PairState::Split | PairState::Splitting));
            if !volumes.iter().all(|volume| owed(leading(volume))) {
                self.say("the image is lost");
                return false;
            }
            assert!(
                Instant::now() < until,
                "the split does not end:\n{}",
                self.world.picture()
            );
            self.mend_all();
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Hosts of the second side write; what they have made stable stays, whatever happens.
    async fn write_there(&mut self, to: usize, mut held: Found) -> Found {
        let volumes: Vec<u32> = {
            let mut volumes: Vec<_> = held.keys().map(|(volume, _)| *volume).collect();
            volumes.dedup();
            volumes
        };
        for _ in 0..self.rng.below(12) {
            let volume = *self.rng.pick(&volumes).expect("one at least");
            let block = self.rng.below(BLOCKS);
            // Should it be found among the writes of the first side's hosts, it is known as a stranger.
            let write = self.world.ledger.issue((volume + 100, block));
            let written = self
                .world
                .volume(to, volume)
                .write(place(block), data(write), false);
            timeout(LONG, written)
                .await
                .expect("a write to the image hangs")
                .unwrap_or_else(|error| panic!("a write to the image: {error}"));
            held.insert((volume, block), write);
        }
        for volume in &volumes {
            let flushed = timeout(LONG, self.world.volume(to, *volume).flush()).await;
            flushed
                .expect("a flush hangs")
                .expect("the image can be made stable");
        }
        for _ in 0..self.rng.below(4) {
            self.pass_time(1000).await;
            self.fault().await;
        }
        self.is_still(to, &held, "the image").await;
        held
    }

    pub(super) async fn is_still(&self, site: usize, held: &Found, what: &str) {
        let mut volumes: Vec<_> = held.keys().map(|(volume, _)| *volume).collect();
        volumes.dedup();
        for volume in volumes {
            let now = self.world.found(site, volume).await;
            let now = now.unwrap_or_else(|| panic!("{what} does not answer:\n{}", self.world.picture()));
            for (place, found) in now {
                assert!(
                    held[&place] == found,
                    "{what}: {place:?} holds {found}, not {}",
                    held[&place]
                );
            }
        }
    }
}
