//! Two systems that lose power, over a link that is cut between any two messages and delivers what is not ordered in any order, under hosts
//! that never pause. After each fault the far side is what docs/remote.md promises, or refuses to be taken over.
//!
//! # What must hold
//!
//! Each write has a number, and the moments at which it was issued and acknowledged. Let `t` be the latest moment at which a write
//! was issued that is found at the far side: every write acknowledged before `t` must be there too, or one after it to the same
//! block. That is what *the beginning of what was written* means, over both pairs. The same holds for the moment up to which
//! both were equal for certain, in sync mode: that of the cut that ended DUPLEX, or of a flush.
//!
//! Faults come from a seed; how threads take turns does not.

mod disk;
mod ledger;
mod link;
mod site;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, AtomicUsize},
};

use target_core::{media::Media, volume::Extent};
use tokio::{
    sync::{Notify, RwLock},
    task::JoinHandle,
};

use self::{
    disk::Volatile,
    ledger::{Found, Ledger, Write, data, stamp},
    link::{End, Link, UNCUT},
    site::{Site, state_of},
};
use super::*;

/// Blocks written to of each volume: two a track, tracks of all regions.
const BLOCKS: u64 = 96;
const BLOCK: usize = 4096;
const WRITERS: u64 = 3;
const LONG: Duration = Duration::from_secs(60);

fn place(block: u64) -> u64 {
    block / 2 * (10 * u64::from(TRACK)) + block % 2 * BLOCK as u64
}

struct Dice(Mutex<u64>);

impl Dice {
    fn below(&self, n: u64) -> u64 {
        let mut state = lock(&self.0);
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % n
    }
}

struct Run {
    dice: Arc<Dice>,
    ledger: Arc<Ledger>,
    link: Arc<Link>,
    near: Arc<RwLock<Site>>,
    far: Site,
    writers: Vec<JoinHandle<()>>,
}

const BOTH: [(u32, u32); 2] = [(1, 1), (2, 2)];

impl Run {
    async fn new(seed: u64, mode: CopyMode) -> Self {
        let dice = |n: u64| {
            Dice(Mutex::new(
                seed.wrapping_mul(2)
                    .wrapping_add(n)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    | 1,
            ))
        };
        let none = Write {
            place: (0, 0),
            issued: 0,
            acked: 0,
        };
        let ledger = Arc::new(Ledger {
            mode,
            clock: AtomicU64::new(1),
            writes: Mutex::new(vec![none]),
            equal: Default::default(),
            stable: Default::default(),
        });
        let link = Arc::new(Link {
            dice: dice(0),
            slots: Default::default(),
            up: AtomicBool::new(true),
            connection: AtomicU64::new(0),
            left: AtomicU64::new(UNCUT),
            cuts: watch::Sender::new(0),
            serving: AtomicUsize::new(0),
            served: Notify::new(),
            ledger: Arc::clone(&ledger),
        });
        let (near, far) = (Site::new(0, "HF-A"), Site::new(1, "HF-B"));
        near.connect(&link);
        far.connect(&link);
        for pair in BOTH {
            let remote = Some((id("HF-B"), mode));
            near.out(OutVerb::Establish { remote }, Flags::default(), &[pair])
                .await
                .unwrap();
        }
        let local = OutVerb::Establish { remote: None };
        far.out(local, Flags::default(), &[(1, 3), (2, 4)]).await.unwrap();
        let dice = Arc::new(dice(1));
        let near = Arc::new(RwLock::new(near));
        let writer = |number| {
            tokio::spawn(write(
                number,
                Arc::clone(&dice),
                Arc::clone(&ledger),
                Arc::clone(&near),
            ))
        };
        let mut run = Self {
            writers: (0..WRITERS).map(writer).collect(),
            dice,
            ledger,
            link,
            near,
            far,
        };
        run.until_duplex().await;
        run
    }

    fn say(&self, what: impl Into<String>) {
        println!("{} {}", self.ledger.now(), what.into());
    }

    async fn step(&mut self) {
        tokio::time::sleep(Duration::from_micros(self.dice.below(20_000))).await;
        match self.dice.below(16) {
            0..=2 => {
                let messages = self.dice.below(100);
                self.say(format!("cut after {messages}"));
                self.link.left.store(messages, Ordering::SeqCst);
            }
            3 => {
                self.say("cut");
                self.link.cut();
            }
            4..=7 => self.mend().await,
            8 | 9 => self.lose_far().await,
            10 | 11 => self.lose_near().await,
            12 | 13 => self.flush().await,
            _ => self.backup().await,
        }
    }

    async fn mend(&mut self) {
        self.say("mend");
        self.link.mend().await;
    }

    async fn lose_far(&mut self) {
        let power = self.dice.below(3) > 0;
        self.say(format!("far dies, of power: {power}"));
        self.link.cut();
        self.far.restart(power.then_some(&*self.dice)).await;
        self.link.settle().await;
        self.far.connect(&self.link);
    }

    async fn lose_near(&mut self) {
        let power = self.dice.below(3) > 0;
        self.say(format!("near dies, of power: {power}"));
        self.link.cut();
        self.kill_near(power).await;
        self.link.settle().await;
        self.near.read().await.connect(&self.link);
    }

    /// What was stable is there; the rest may be gone.
    async fn kill_near(&mut self, power: bool) {
        let array = Arc::clone(&self.near.read().await.array);
        array.abandon().await;
        let mut near = self.near.write().await;
        near.restart(power.then_some(&*self.dice)).await;
        for volume in [1, 2] {
            let found = near.found(volume).await.expect("it leads");
            let stable = |at: usize| self.ledger.stable[at].load(Ordering::SeqCst);
            let until = if power {
                [stable(0), stable(1)]
            } else {
                [u64::MAX - 1; 2]
            };
            self.ledger.holds(&found, until, "the primary itself");
            self.ledger.forget_later(&found);
        }
    }

    async fn flush(&mut self) {
        self.say("flush");
        for volume in [1, 2] {
            let near = self.near.read().await;
            let (now, array) = (self.ledger.now(), &near.array);
            let equal = || state_of(array, volume) == Some(PairState::Duplex);
            let before = equal();
            near.volume(volume).flush().await.unwrap();
            self.ledger.stable[volume as usize - 1].fetch_max(now, Ordering::SeqCst);
            // In async mode it makes the primary stable, and no more.
            if before && equal() && self.ledger.mode == CopyMode::Sync {
                self.ledger.equal_until(volume, now);
            }
        }
    }

    /// Fig. 4: the image of both volumes is that of one moment of the command.
    async fn backup(&mut self) {
        let flags = Flags {
            remote: true,
            ..Flags::default()
        };
        let before = self.ledger.now();
        let near = self.near.read().await;
        let done = near.out(OutVerb::Split, flags, &[(1, 3), (2, 4)]).await;
        drop(near);
        let after = self.ledger.now();
        self.say(format!("backup: {done:?}"));
        if done.is_err() {
            return;
        }
        let mut image = Found::new();
        for volume in [3, 4] {
            let Some(found) = self.far.found(volume).await else {
                return;
            };
            image.extend(
                found
                    .into_iter()
                    .map(|((_, block), held)| ((volume - 2, block), held)),
            );
        }
        let latest = self.ledger.latest(&image);
        assert!(
            latest < after,
            "the image holds what was written after the command"
        );
        self.ledger.holds(&image, [latest.max(before); 2], "the image");
    }

    /// The primary's site is lost, or only cut off; the far one takes over what it may.
    async fn take_over(&mut self) {
        let (dies, power) = (self.dice.below(3) > 0, self.dice.below(2) > 0);
        self.say(format!("takeover: near dies {dies}, of power {power}"));
        self.link.cut();
        if dies {
            let near = Arc::clone(&self.near);
            near.read().await.array.abandon().await;
        }
        self.link.settle().await;
        let force = Flags {
            force: true,
            ..Flags::default()
        };
        let (mut taken, mut found) = (Vec::new(), Found::new());
        for pair in BOTH {
            let done = self.far.out(OutVerb::Swap, force, &[pair]).await;
            self.say(format!("takeover of {}: {done:?}", pair.0));
            if done.is_ok() {
                found.extend(self.far.found(pair.0).await.expect("it leads now"));
                taken.push(pair);
            }
        }
        self.ledger.is_prefix(&found, "after the takeover");
        for volume in taken.iter().map(|pair| pair.0) {
            let (block, write) = (self.dice.below(BLOCKS), self.ledger.issue((9, 0)));
            self.far
                .volume(volume)
                .write(place(block), data(write), false)
                .await
                .unwrap();
            found.insert((volume, block), write);
        }
        self.stop_writers().await;
        if dies {
            let mut near = self.near.write().await;
            near.restart(power.then_some(&*self.dice)).await;
            near.connect(&self.link);
        }
        self.mend().await;
        for pair in &taken {
            self.give_up_near(*pair).await;
        }
        self.until_duplex().await;
        for (volume, _) in taken {
            let now = self.far.found(volume).await.expect("it leads");
            let before = found.range((volume, 0)..(volume + 1, 0));
            assert!(before.eq(&now), "what was taken over has changed");
        }
    }

    /// It follows by itself, or says that both have something.
    async fn give_up_near(&mut self, pair: (u32, u32)) {
        let near = self.near.read().await;
        let leads = || {
            let pairs = near.array.remote_pairs();
            pairs.iter().any(|known| known.local.0 == pair.0 && known.leads)
        };
        let told = || {
            let is = |text: String| text.contains("took over") && text.contains(&format!("pair {} ", pair.0));
            near.array
                .events()
                .since(0)
                .iter()
                .any(|event| is(event.event.to_string()))
        };
        let until = tokio::time::Instant::now() + LONG;
        while leads() && !told() {
            assert!(tokio::time::Instant::now() < until, "nobody says who is right");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if leads() {
            let force = Flags {
                force: true,
                ..Flags::default()
            };
            near.out(OutVerb::Cancel, force, &[pair]).await.unwrap();
            self.far.out(OutVerb::Cancel, force, &[pair]).await.unwrap();
            let remote = Some((id("HF-A"), self.ledger.mode));
            let establish = OutVerb::Establish { remote };
            self.far.out(establish, Flags::default(), &[pair]).await.unwrap();
        }
    }

    async fn stop_writers(&mut self) {
        for writer in self.writers.drain(..) {
            writer.abort();
            let _ = writer.await;
        }
    }

    async fn until_duplex(&mut self) {
        let near = Arc::clone(&self.near);
        let equal = || async {
            let near = near.read().await;
            [1, 2].into_iter().all(|volume| {
                let sides = [&near.array, &self.far.array];
                sides
                    .iter()
                    .all(|array| state_of(array, volume) == Some(PairState::Duplex))
            })
        };
        let until = tokio::time::Instant::now() + LONG;
        while !equal().await {
            assert!(tokio::time::Instant::now() < until, "it does not come to rest");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Faults have stopped: both are equal, and the leader has lost nothing.
    async fn end(&mut self) {
        self.link.left.store(UNCUT, Ordering::SeqCst);
        self.mend().await;
        if self.dice.below(2) == 0 {
            if self.dice.below(3) > 0 {
                self.until_duplex().await;
                tokio::time::sleep(Duration::from_micros(self.dice.below(20_000))).await;
            }
            self.take_over().await;
        } else {
            self.until_duplex().await;
            self.stop_writers().await;
            self.until_duplex().await;
            let near = self.near.read().await;
            for volume in [1, 2] {
                let found = near.found(volume).await.expect("it leads");
                self.ledger.holds(&found, [u64::MAX - 1; 2], "in the end");
            }
        }
        let near = self.near.read().await;
        for volume in [1, 2] {
            for site in [&*near, &self.far] {
                // In async mode what is on its way arrives.
                let _ = site.array.has_arrived(VolumeNumber(volume)).await;
            }
            let at = volume as usize - 1;
            let same = lock(&near.media[at].0)[0] == lock(&self.far.media[at].0)[0];
            assert!(same, "the volumes {volume} differ");
        }
    }
}

/// What a failure is understood by.
impl Drop for Run {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let near = self.near.try_read();
        for site in near.as_deref().into_iter().chain([&self.far]) {
            println!("{}: {:#?}", site.name, site.array.pairs());
            for event in site.array.events().since(0).iter().rev().take(12).rev() {
                println!("    {}", event.event);
            }
        }
    }
}

/// A host: it writes its own blocks, and does not stop.
async fn write(number: u64, dice: Arc<Dice>, ledger: Arc<Ledger>, near: Arc<RwLock<Site>>) {
    loop {
        let block = dice.below(BLOCKS / WRITERS) * WRITERS + number;
        let volume = dice.below(2) as u32 + 1;
        let site = near.read().await;
        let write = ledger.issue((volume, block));
        let (written, data) = (site.volume(volume), data(write));
        // Hosts' commands try it first; those whose data comes later do not.
        let tried = if dice.below(4) > 0 {
            written.try_write(place(block), &data, false)
        } else {
            Fast::Later
        };
        let failed = match tried {
            Fast::Done(Ok(())) => false,
            _ => written.write(place(block), data, false).await.is_err(),
        };
        if !failed {
            ledger.acknowledge(write);
        }
        let foreign = |volume| {
            site.array
                .remote_pairs()
                .iter()
                .find(|pair| pair.local.0 == volume)
                .map(|pair| pair.foreign)
        };
        // A host is no faster than a link for long.
        let ahead = foreign(volume).map_or(0, |foreign| site.array.bytes_on_the_way(VolumeNumber(foreign)));
        drop(site);
        if failed || ahead > 32 * BLOCK as u64 || dice.below(8) == 0 {
            tokio::time::sleep(Duration::from_micros(dice.below(1000))).await;
        }
    }
}

async fn run(seed: u64, mode: CopyMode) {
    println!("HOLDFAST_LOSSES_SEED={seed} ({mode:?})");
    let mut run = Run::new(seed, mode).await;
    let whole = async {
        for _ in 0..run.dice.below(16) {
            run.step().await;
        }
        run.end().await;
    };
    let ended = tokio::time::timeout(2 * LONG, whole).await;
    assert!(ended.is_ok(), "it hangs");
}

/// S50, S51, S58, S60, S61, S62, S63, S65, S74, S84: whatever dies or is cut, at any step.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_never_more_than_was_said() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("HOLDFAST_LOSSES_SEED").unwrap_or(1);
    for seed in first..first + number("HOLDFAST_LOSSES_RUNS").unwrap_or(4) {
        for mode in [CopyMode::Sync, CopyMode::Async] {
            run(seed, mode).await;
        }
    }
}
