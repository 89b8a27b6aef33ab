//! What goes wrong: cables, systems, disks, clocks.

use std::sync::{Arc, atomic::Ordering};

use super::Play;
use crate::{counts::Happening, ledger::Found, lock, network::Cut, site::name, world::Route};

impl Play {
    pub(super) fn any_leg(&mut self) -> (usize, usize) {
        let legs: Vec<_> = self.world.routes.iter().flat_map(Route::legs).collect();
        *self.rng.pick(&legs).expect("there are pairs")
    }

    pub(super) async fn fault(&mut self) {
        let ends = self.any_leg();
        match self.rng.below(12) {
            0..=2 => self.cut(ends),
            3 | 4 => self.cut_soon(ends),
            5 => {
                self.say(format!("the cable {ends:?} is mended"));
                self.world.cables.mend(ends);
            }
            6 | 7 => {
                let site = if self.rng.chance(500) { ends.0 } else { ends.1 };
                let power = self.rng.chance(600);
                self.kill(site, power).await;
                self.pass_time(2000).await;
                self.start(site, power).await;
            }
            8 => {
                let late = *self.rng.pick(&[0, 1, 10, 80]).expect("not empty");
                self.say(format!("the cable {ends:?} is late by up to {late} ms"));
                self.counts.note(Happening::LateCable);
                self.world.cables.be_late(ends, late);
            }
            9 | 10 => self.change_disks(),
            _ => self.change_clock(),
        }
    }

    pub(super) fn any_cut(&mut self) -> Cut {
        *self
            .rng
            .pick(&[Cut::Told, Cut::Told, Cut::Silent, Cut::OneWay])
            .expect("not empty")
    }

    pub(super) fn cut(&mut self, ends: (usize, usize)) {
        let (cut, open) = (self.any_cut(), self.rng.chance(500));
        self.note_cut(cut);
        self.say(format!("the cable {ends:?} is cut now ({cut:?}), open {open}"));
        self.world.cables.cut(ends, cut, open);
    }

    fn note_cut(&mut self, cut: Cut) {
        self.counts.note(match cut {
            Cut::Told => Happening::CutTold,
            Cut::Silent => Happening::CutSilent,
            Cut::OneWay => Happening::CutOneWay,
        });
    }

    /// In the middle of whatever is said next.
    pub(super) fn cut_soon(&mut self, ends: (usize, usize)) {
        let most = *self.rng.pick(&[60, 600, 20_000]).expect("not empty");
        let (bytes, cut) = (self.rng.below(most), self.any_cut());
        self.counts.note(Happening::CutInTheMiddle);
        self.say(format!("the cable {ends:?} will be cut after {bytes} bytes"));
        self.world.cables.cut_after(ends, bytes, cut);
    }

    pub(super) fn change_disks(&mut self) {
        let site = self.rng.below(self.world.sites.len() as u64) as usize;
        let slow = *self.rng.pick(&[0, 0, 2, 15]).expect("not empty");
        self.slow_disks(site, slow);
    }

    pub(super) fn slow_disks(&mut self, site: usize, most_ms: u64) {
        self.say(format!("{}: disks take up to {most_ms} ms", name(site)));
        self.counts.note(Happening::SlowDisks);
        for platter in &lock(&self.world.sites[site]).platters {
            platter.be_slow(most_ms);
        }
    }

    fn change_clock(&mut self) {
        let site = self.rng.below(self.world.sites.len() as u64) as usize;
        let at_ms = self.rng.below(4_000_000_000_000);
        self.say(format!("{}: the wall clock jumps to {at_ms}", name(site)));
        self.counts.note(Happening::WrongClock);
        let clock = Arc::clone(&lock(&self.world.sites[site]).clock);
        clock.at_ms.store(at_ms, Ordering::Relaxed);
    }

    pub(super) async fn kill(&mut self, site: usize, power: bool) {
        let told = self.rng.chance(600);
        self.counts.note(if power {
            Happening::PowerLoss
        } else {
            Happening::Kill
        });
        self.shaken[site] |= power;
        self.say(format!("{} dies, of power: {power}, told: {told}", name(site)));
        lock(&self.world.sites[site])
            .kill(told, power)
            .expect("files in memory can be copied");
        if self.leads_any(site) {
            self.world.pause().await;
        }
    }

    /// Did hosts write to it?
    fn leads_any(&self, site: usize) -> bool {
        let array = self.world.array(site);
        array.remote_pairs().iter().any(|pair| pair.leads)
    }

    /// What hosts find at once is what they were promised.
    pub(super) async fn start(&mut self, site: usize, power: bool) {
        self.world.pause().await;
        lock(&self.world.sites[site]).start();
        self.say(format!("{} lives", name(site)));
        let mut found = Found::new();
        for route in &self.world.routes {
            let leader = self.world.leader(route.volume).map(|(leader, _)| leader);
            if leader.is_none() && power && route.sites.contains(&site) {
                self.unled.insert((route.volume, site));
            }
            if leader == Some(site) {
                found.extend(self.world.found(site, route.volume).await.unwrap_or_default());
            }
        }
        self.world.ledger.restarted(&found, power);
        self.world.resume();
    }
}
