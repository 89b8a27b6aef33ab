//! The other side leads: swaps, and takeovers without the peer.

use std::time::Duration;

use target_core::{scsi_model::control::OutVerb, volume::Volume};
use tokio::time::{Instant, sleep, timeout};

use super::{FORCE, NONE, Play};
use crate::{
    counts::Happening,
    ledger::{BLOCKS, Found, data, place},
    lock,
    site::{name, out},
    world::LONG,
};

impl Play {
    /// The sides change their parts, with hosts at work, and often with much on its way; one of them may die in the middle of it. Nothing that hosts
    /// were answered for is missing then, where they are served.
    pub(super) async fn swap(&mut self) {
        self.say("swap");
        let busy = self.rng.chance(500);
        if busy {
            self.slow_followers();
        }
        for volume in [1, 2] {
            if busy {
                self.burst(30).await;
            }
            let Some((leader, follower)) = self.world.leader(volume) else {
                continue;
            };
            let at = if self.rng.chance(500) { leader } else { follower };
            let peer = leader + follower - at;
            let Some(pair) = self.world.members(at, volume, peer) else {
                continue;
            };
            if self.rng.chance(300) {
                let dies = if self.rng.chance(700) { leader } else { follower };
                self.swap_and_die((at, peer), pair, dies).await;
                continue;
            }
            let done = self.command_in_trouble(at, OutVerb::Swap, NONE, &[pair]).await;
            self.counts.note(if done {
                Happening::Swap
            } else {
                Happening::SwapFailed
            });
            if done {
                self.nothing_is_missing(follower, volume).await;
            }
            if self.rng.chance(300) {
                self.fault().await;
            }
        }
    }

    async fn swap_and_die(&mut self, (at, peer): (usize, usize), pair: (u32, u32), dies: usize) {
        self.say(format!("swap of {pair:?} at {}, and a death", name(at)));
        self.counts.note(Happening::DeathInSwap);
        let array = self.world.array(at);
        let given = tokio::spawn(async move { out(&array, OutVerb::Swap, NONE, &[pair]).await.is_ok() });
        let most = *self.rng.pick(&[0, 5, 60]).expect("not empty");
        self.pass_time(most).await;
        if self.rng.chance(600) {
            // What a dead system has sent arrives, if nothing happens to it.
            self.cut((at, peer));
        }
        let power = self.rng.chance(300);
        self.kill(dies, power).await;
        self.pass_time(2000).await;
        self.start(dies, power).await;
        if at == dies {
            // Nobody is there to hear the answer.
            given.abort();
            return;
        }
        let done = timeout(LONG, given).await.expect("a swap hangs");
        self.say(format!("swap of {pair:?}: {done:?}"));
    }

    async fn nothing_is_missing(&mut self, leader: usize, volume: u32) {
        self.world.pause().await;
        if self.world.leader(volume).map(|(site, _)| site) == Some(leader) {
            let found = self.world.found(leader, volume).await.expect("it leads");
            self.world.ledger.is_all(&found, "after the swap");
        }
        self.world.resume();
    }

    /// The first side is lost, or only cut off; the second takes over what it may.
    pub(super) async fn take_over(&mut self) {
        self.say("takeover");
        for _ in 0..self.rng.below(3) {
            self.pass_time(800).await;
            self.fault().await;
        }
        let (Some(one), Some(other)) = (self.world.leader(1), self.world.leader(2)) else {
            return;
        };
        if one != other {
            return;
        }
        let (near, far) = one;
        for volume in [1, 2] {
            self.world.prefer(volume, near);
        }
        self.pass_time(300).await;
        // One that was restored may stay behind the other.
        let together = !self.restored.contains(&true);
        let (dies, power) = (self.rng.chance(650), self.rng.chance(500));
        if dies {
            self.kill(near, power).await;
        }
        let cut = self.any_cut();
        self.world.cables.cut((near, far), cut, false);
        // The second side hears of it, or does not yet: then what has arrived is still carried out while it takes over one after the other.
        let heard = self.rng.chance(500);
        if heard {
            sleep(Duration::from_secs(10)).await;
        }
        let (mut found, mut taken) = (Found::new(), Vec::new());
        for volume in [1, 2] {
            let Some(pair) = self.world.members(far, volume, near) else {
                continue;
            };
            if self.command(far, OutVerb::Swap, FORCE, &[pair]).await.is_ok() {
                found.extend(self.world.found(far, volume).await.expect("it leads now"));
                taken.push(volume);
                // Nobody leads in the same epoch.
                let _ = self.world.leader(volume);
            }
        }
        for _ in &taken {
            self.counts.note(if dies {
                Happening::TakeoverOfDead
            } else {
                Happening::TakeoverOfLiving
            });
        }
        if heard && together {
            self.world.ledger.is_prefix(&found, true, "after the takeover");
        }
        for volume in &taken {
            let one = found.iter().filter(|(place, _)| place.0 == *volume);
            let one = one.map(|(place, held)| (*place, *held)).collect();
            self.world
                .ledger
                .is_prefix(&one, true, "after the takeover of one");
        }
        let stay: Vec<u32> = [1, 2]
            .into_iter()
            .filter(|volume| !taken.contains(volume))
            .collect();
        for volume in &taken {
            for _ in 0..self.rng.between(1, 3) {
                let block = self.rng.below(BLOCKS);
                let write = self.world.ledger.issue((*volume + 100, block));
                let written = self
                    .world
                    .volume(far, *volume)
                    .write(place(block), data(write), false);
                let written = timeout(LONG, written).await.expect("a host's write hangs");
                written.unwrap_or_else(|error| panic!("a write after the takeover: {error}"));
                found.insert((*volume, block), write);
            }
        }
        if !dies {
            self.pass_time(1500).await;
        }
        self.world.pause().await;
        if dies {
            lock(&self.world.sites[near]).start();
            self.say(format!("{} lives", name(near)));
        }
        if dies && !stay.is_empty() {
            let mut kept = Found::new();
            for volume in stay {
                kept.extend(self.world.found(near, volume).await.unwrap_or_default());
            }
            self.world.ledger.restarted(&kept, power);
        }
        self.mend_all();
        for volume in &taken {
            self.give_up(near, *volume, far).await;
            self.world.prefer(*volume, far);
        }
        self.rest(&taken).await;
        self.is_still(far, &found, "what was taken over").await;
        self.rebase_all().await;
        self.world.resume();
    }

    /// The old leader follows by itself, or says that both have something; then it is the one that is given up.
    async fn give_up(&mut self, near: usize, volume: u32, far: usize) {
        let until = Instant::now() + LONG;
        loop {
            let array = self.world.array(near);
            let pairs = array.remote_pairs();
            let leads = pairs.iter().any(|pair| pair.local.0 == volume && pair.leads);
            if !leads {
                return;
            }
            let told = array.events().since(0).iter().any(|event| {
                let text = event.event.to_string();
                text.contains("took over") && text.contains(&format!("pair {volume} "))
            });
            if told {
                break;
            }
            assert!(
                Instant::now() < until,
                "nobody says who is right:\n{}",
                self.world.picture()
            );
            sleep(Duration::from_millis(100)).await;
        }
        for (site, peer) in [(near, far), (far, near)] {
            if let Some(pair) = self.world.members(site, volume, peer) {
                let cancelled = self.command(site, OutVerb::Cancel, FORCE, &[pair]).await;
                assert!(cancelled.is_ok(), "the pair cannot be given up");
            }
        }
        let until = Instant::now() + LONG;
        loop {
            let remote = Some((name(near), self.world.mode((near, far))));
            let establish = OutVerb::Establish { remote };
            if self
                .command(far, establish, NONE, &[(volume, volume)])
                .await
                .is_ok()
            {
                return;
            }
            assert!(
                Instant::now() < until,
                "the pair is not made anew:\n{}",
                self.world.picture()
            );
            sleep(Duration::from_millis(300)).await;
        }
    }
}
