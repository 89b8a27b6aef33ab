//! What happens to the systems: episodes of faults and commands under hosts that write, and what must be found after each.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use replication_engine::{Limits, state::PairState};
use replication_sim::rng::Rng;
use target_core::{
    scsi_model::control::{CopyMode, Flags, OutVerb, Refusal, Reply},
    volume::Volume,
};
use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use crate::{
    counts::{Counts, Happening},
    hosts::{self, HOSTS},
    run::{Options, look_for_panics},
    site::{Kind, name, out},
    trace::Trace,
    world::{LONG, Modes, Route, World},
};

/// A run under way.
pub struct Play {
    world: Arc<World>,
    rng: Rng,
    counts: Counts,
    trace: Arc<Trace>,
    /// By system: it has lost its power, and not come to rest since.
    shaken: Vec<bool>,
    /// Volumes, and the sides of each that lost their power while nobody led it. Should one of these lead again, it lacks what was not stable there.
    unled: BTreeSet<(u32, usize)>,
    /// By volume: its pair was RESTORED when the episode began, and does not resume by itself.
    restored: [bool; 2],
}

const NONE: Flags = Flags {
    full: false,
    instant: false,
    protected: false,
    strict_hold: false,
    remote: false,
    force: false,
    checksum: false,
};
const FORCE: Flags = Flags { force: true, ..NONE };

impl Play {
    /// Makes the systems and lets it happen.
    pub async fn run(options: Options, trace: Arc<Trace>) -> Counts {
        let mut rng = Rng::new(options.seed ^ (options.systems as u64) << 56);
        let mut counts = Counts::default();
        let world = world(&options, &mut rng, &trace, &mut counts);
        let mut play = Self {
            shaken: vec![false; world.sites.len()],
            unled: BTreeSet::new(),
            restored: [false; 2],
            world,
            rng,
            counts,
            trace,
        };
        play.establish().await;
        for number in 0..HOSTS {
            let rng = Rng::new(play.rng.bits());
            tokio::spawn(hosts::write(Arc::clone(&play.world), number, rng));
        }
        play.converge().await;
        for _ in 0..play.rng.between(2, 5) {
            play.episode().await;
            look_for_panics();
        }
        play.world.pause().await;
        play.counts.writes = play.world.ledger.writes();
        play.counts.ms = play.trace.now_ms();
        play.counts
    }

    fn say(&self, what: impl AsRef<str>) {
        self.trace.say(what);
    }

    /// All pairs: the routes, and local mirrors of all volumes on every system but the first of a longer chain.
    async fn establish(&mut self) {
        let world = Arc::clone(&self.world);
        for route in &world.routes {
            for (from, to) in route.legs() {
                let remote = Some((name(to), world.mode((from, to))));
                let establish = OutVerb::Establish { remote };
                let pair = (route.volume, route.volume);
                let until = Instant::now() + LONG;
                // The links come up first.
                while let Err(refusal) = out(&world.array(from), establish.clone(), NONE, &[pair]).await {
                    assert!(Instant::now() < until, "no pair is made: {}", refusal.message);
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
        for site in 0..world.sites.len() {
            let local = OutVerb::Establish { remote: None };
            out(&world.array(site), local, NONE, &[(1, 3), (2, 4)])
                .await
                .unwrap_or_else(|refusal| panic!("the mirrors are not made: {}", refusal.message));
        }
        world.resume();
    }

    async fn episode(&mut self) {
        let two = self.world.sites.len() == 2;
        // Of longer chains the ends do not change their parts.
        match self.rng.below(if two { 14 } else { 8 }) {
            0 | 1 => self.storm().await,
            2 | 3 => self.split().await,
            4 | 5 => self.flow().await,
            6 | 7 => self.back_up().await,
            8 | 9 => self.swap().await,
            _ => self.take_over().await,
        }
        self.converge().await;
    }

    /// Faults, one after the other.
    async fn storm(&mut self) {
        self.say("storm");
        for _ in 0..self.rng.between(3, 12) {
            self.pass_time(1500).await;
            match self.rng.below(8) {
                0 => self.flush().await,
                1 => drop(self.take_backup().await),
                _ => self.fault().await,
            }
            self.glance();
        }
    }

    /// Any step of any task may be the next.
    async fn pass_time(&mut self, most_ms: u64) {
        sleep(Duration::from_millis(self.rng.below(most_ms + 1))).await;
        for _ in 0..self.rng.below(40) {
            yield_now().await;
        }
    }

    async fn flush(&mut self) {
        for route in &self.world.routes {
            let Some((site, peer)) = self.world.leader(route.volume) else {
                continue;
            };
            let equal = || self.world.state(site, route.volume, peer) == Some(PairState::Duplex);
            let (now, before) = (self.world.ledger.now(), equal());
            let flushed = timeout(LONG, self.world.volume(site, route.volume).flush()).await;
            let flushed = flushed.expect("a flush hangs").is_ok();
            self.say(format!("flush of {} at {}: {flushed}", route.volume, name(site)));
            if flushed {
                let equal = before && equal();
                if equal {
                    self.counts.note(Happening::Flush);
                }
                let far = equal && self.world.mode((site, peer)) == CopyMode::Sync && route.sites.len() == 2;
                self.world.ledger.flushed(route.volume, now, far);
            }
        }
    }

    async fn command(
        &mut self,
        site: usize,
        verb: OutVerb,
        flags: Flags,
        pairs: &[(u32, u32)],
    ) -> Result<Reply, Refusal> {
        let what = format!("{verb:?} of {pairs:?} at {}", name(site));
        self.say(&what);
        let array = self.world.array(site);
        let given = timeout(LONG, out(&array, verb, flags, pairs));
        let done = given.await.unwrap_or_else(|_| panic!("{what} hangs"));
        let answer = match &done {
            Ok(_) => "done",
            Err(refusal) => &refusal.message,
        };
        self.say(format!("{what}: {answer}"));
        done
    }

    /// A command while something goes wrong.
    async fn command_in_trouble(
        &mut self,
        site: usize,
        verb: OutVerb,
        flags: Flags,
        pairs: &[(u32, u32)],
    ) -> bool {
        let ends = self.any_leg();
        match self.rng.below(4) {
            0 => self.cut_soon(ends),
            1 => self.change_disks(),
            _ => {}
        }
        self.command(site, verb, flags, pairs).await.is_ok()
    }
}

/// The systems that a seed makes.
fn world(options: &Options, rng: &mut Rng, trace: &Arc<Trace>, counts: &mut Counts) -> Arc<World> {
    let limits = Limits {
        copy_run_bytes: rng.between(1, 16) * 1024,
        settle_after: *rng.pick(&[0, 200_000_000]).expect("not empty"),
        cool_after: *rng.pick(&[100_000_000, 5_000_000_000]).expect("not empty"),
        hot_regions: rng.between(1, 6) as usize,
        resume_after: 200_000_000,
        resume_after_most: 2_000_000_000,
        ..Limits::default()
    };
    // Chance of its own: runs of seeds that are known by name stay much as they were.
    let mut way = Rng::new(options.seed ^ 0x0057_4159);
    let queue = *way
        .pick(&[None, Some(70_001), Some(200_000), Some(1 << 20)])
        .expect("not empty");
    let little = *way.pick(&[1, 4096, 8192, 32 << 20]).expect("not empty");
    let kind = Kind {
        systems: options.systems,
        journal_ms: *rng.pick(&[0, 0, 3]).expect("not empty"),
        limits,
        // A copy must fit, be it into the file.
        on_the_way: if queue.is_some() { little } else { 32 << 20 },
        queue,
        mutation: options.mutation,
    };
    let mode = any_mode(rng);
    let sites: [&[usize]; 2] = match options.systems {
        2 => [&[0, 1], &[0, 1]],
        _ if rng.chance(500) => {
            counts.note(Happening::Chain);
            [&[0, 1, 2], &[0, 1, 2]]
        }
        _ => {
            counts.note(Happening::Collected);
            [&[0, 2], &[1, 2]]
        }
    };
    let route = |(at, sites): (usize, &&[usize])| Route {
        volume: at as u32 + 1,
        sites: sites.to_vec(),
    };
    let routes: Vec<_> = sites.iter().enumerate().map(route).collect();
    let legs: BTreeSet<_> = routes.iter().flat_map(Route::legs).collect();
    let mixed = legs.len() > 1 && rng.chance(500);
    let modes: Modes = legs
        .into_iter()
        .map(|ends| (ends, if mixed { any_mode(rng) } else { mode }))
        .collect();
    let of = |mode| modes.values().any(|known| *known == mode);
    counts.note(match (of(CopyMode::Sync), of(CopyMode::Async)) {
        (true, true) => Happening::Mixed,
        (true, false) => Happening::Sync,
        (false, _) => Happening::Async,
    });
    trace.say(format!("seed {}: {modes:?}, {routes:?}, {kind:?}", options.seed));
    World::new(&kind, routes, modes, rng, Arc::clone(trace)).expect("files in memory can be made")
}

fn any_mode(rng: &mut Rng) -> CopyMode {
    if rng.chance(500) {
        CopyMode::Sync
    } else {
        CopyMode::Async
    }
}

mod backup;
mod faults;
mod flow;
mod rest;
mod restore;
mod split;
mod takeover;
