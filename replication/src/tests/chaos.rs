//! Commands at random, writers on every volume, kills now and then; after each round of it, the promise that everything
//! else rests on: **no two tracks of a pair differ without a mark** (docs/pairs.md, Crash safety).
//!
//! What a read must give while all this goes on is the simulator's affair (`replication/sim`); here the real shell runs: threads,
//! journal file, gates, and volumes that join and leave while I/O is in flight.

use std::sync::atomic::{AtomicBool, Ordering};

use target_core::scsi_model::control::Condition;

use super::*;

/// Two generations of volume 1, and a cascade below the first.
const PAIRS: [(u32, u32); 3] = [(1, 2), (1, 3), (2, 4)];
const VOLUMES: u32 = 4;

/// A small generator: chaos that can be repeated as far as threads allow.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_two_tracks_differ_without_a_mark() {
    for seed in 1..=3 {
        chaos(seed).await;
    }
}

async fn chaos(seed: u64) {
    let mut random = Random(seed);
    let limits = Limits {
        pace: 64 << 20,
        ..Limits::default()
    };
    let mut rig = Rig::with_limits(VOLUMES, limits);
    rig.write(1, 0, pattern(1, 2 << 20)).await.unwrap();
    for _round in 0..4 {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (1..=VOLUMES)
            .map(|number| {
                let stream = Random(seed * 100 + u64::from(number));
                let other = rig.volume(number % VOLUMES + 1);
                tokio::spawn(write_at_random(
                    [rig.volume(number), other],
                    Arc::clone(&stop),
                    stream,
                ))
            })
            .collect();
        for _ in 0..15 {
            command_at_random(&rig, &mut random).await;
            tokio::time::sleep(Duration::from_millis(random.below(6))).await;
        }
        let kill = random.below(3) > 0;
        if kill {
            tokio::time::timeout(SOON, rig.array.abandon())
                .await
                .expect("the array stops");
        }
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            let ended = tokio::time::timeout(SOON, writer).await;
            ended
                .unwrap_or_else(|_| panic!("seed {seed}: an I/O has no end: {:?}", rig.array.pairs()))
                .unwrap();
        }
        if kill {
            rig.array = open(rig.state.path(), &rig.plain);
        }
        let (summary, timed_out) = rig.array.wait_until(PairSelector::All, None, SOON).await.unwrap();
        assert!(!timed_out, "seed {seed}: {summary:?} {:?}", rig.array.pairs());
        for pair in rig.array.pairs() {
            check(&rig, (pair.primary.0, pair.mirror.0), pair.state, seed).await;
        }
    }
}

async fn check(rig: &Rig, (primary, mirror): (u32, u32), state: PairState, seed: u64) {
    let pair = VolumePair {
        primary: VolumeNumber(primary),
        mirror: Some(VolumeNumber(mirror)),
    };
    let side = target_core::scsi_model::control::PendingSide::Union;
    let Reply::Pending(extents) = rig
        .array
        .execute(Request::ReadPendingMap { pair, side })
        .await
        .unwrap()
    else {
        panic!("no map")
    };
    let (a, b) = (rig.media(primary).await, rig.media(mirror).await);
    for (track, (a, b)) in a.chunks(TRACK as usize).zip(b.chunks(TRACK as usize)).enumerate() {
        let lba = track as u64 * u64::from(TRACK) / 512;
        let marked = extents
            .iter()
            .any(|extent| (extent.lba..extent.lba + extent.blocks).contains(&lba));
        assert!(
            a == b || marked,
            "seed {seed}: track {track} of {primary} -> {mirror} ({state}) differs unmarked"
        );
    }
    if matches!(state, PairState::Duplex | PairState::Restored) {
        assert!(
            extents.is_empty(),
            "seed {seed}: {primary} -> {mirror} is {state} with {} marks",
            extents.len()
        );
    }
}

/// Whether it is accepted does not matter: a refusal changes nothing, and that is checked with the rest.
async fn command_at_random(rig: &Rig, random: &mut Random) {
    let pair = PAIRS[random.below(3) as usize];
    let full = random.below(4) == 0;
    let none = Flags::default();
    let (verb, flags) = match random.below(9) {
        0..=2 => (OutVerb::Establish { remote: None }, Flags { full, ..none }),
        3 => (OutVerb::Split, none),
        4 => (
            OutVerb::Split,
            Flags {
                instant: true,
                force: full,
                ..none
            },
        ),
        5 => (OutVerb::Restore, Flags { full, ..none }),
        6 => (
            OutVerb::Restore,
            Flags {
                protected: true,
                full,
                ..none
            },
        ),
        7 => (OutVerb::Config(Condition::Release), none),
        _ => (OutVerb::Cancel, Flags { force: full, ..none }),
    };
    let told = format!("{verb:?} {flags:?} {pair:?}");
    let ended = tokio::time::timeout(SOON, rig.out(verb, flags, &[pair])).await;
    assert!(ended.is_ok(), "{told} was not answered: {:?}", rig.array.pairs());
}

/// Some of what is written is copied from the other volume, which somebody else writes at the same time.
async fn write_at_random([volume, other]: [Arc<PairedVolume>; 2], stop: Arc<AtomicBool>, mut random: Random) {
    while !stop.load(Ordering::SeqCst) {
        let most = if random.below(8) == 0 { 64 } else { 4 };
        let blocks = 1 + random.below(most);
        let offset = random.below(SIZE / 512 - blocks) * 512;
        let byte = random.below(256) as u8;
        let fua = random.below(16) == 0;
        let lent = (random.below(8) == 0)
            .then(|| other.lend(random.below(SIZE / 512 - blocks) * 512, blocks * 512))
            .flatten();
        let written = if let Some(loan) = lent {
            volume.clone().copy_in(offset, loan).await;
            Ok(())
        } else if random.below(16) == 0 {
            volume.clone().zero(offset, blocks * 512, true, fua).await
        } else {
            volume
                .clone()
                .write(offset, Bytes::from(vec![byte; blocks as usize * 512]), fua)
                .await
        };
        match written {
            // Not ready: an established mirror. Internal: the array was killed.
            Ok(()) | Err(IoError::NotReady | IoError::Internal(_)) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
}
