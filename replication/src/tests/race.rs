//! Writers that race a split, judged by stamps.
//!
//! Each writer writes one stamp after the other, each to a place of its own choosing but never the same place twice, and
//! waits for each answer. So whatever instant a mirror shows, it shows a prefix of each writer's stamps; and of all
//! that was answered before the command was given nothing may be missing, of all that was begun after it was
//! answered nothing may be there.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use replication_engine::{Engine, EngineConfig, Mutation};

use super::*;
use crate::lock;

const BLOCK: u64 = 512;
const WRITERS: u64 = 6;
const PRIMARIES: [u32; 2] = [1, 2];
const MIRRORS: [u32; 2] = [3, 4];

#[derive(Default)]
struct Writer {
    begun: AtomicUsize,
    answered: AtomicUsize,
}

/// Where a writer puts its stamp of that number: alternating between the volumes, scattered over the tracks.
fn place(writer: u64, number: usize) -> (u32, u64) {
    let volume = PRIMARIES[number % 2];
    let slots = SIZE / BLOCK / WRITERS;
    // 17 has no factor in common with the number of slots: no place comes twice.
    let slot = (number as u64 / 2 * 17) % slots;
    (volume, (slot * WRITERS + writer) * BLOCK)
}

fn stamp(writer: u64, number: usize) -> Vec<u8> {
    let mut block = vec![writer as u8 + 1; BLOCK as usize];
    block[..8].copy_from_slice(&(number as u64).to_le_bytes());
    block
}

/// S6, S57, S92, O8: no writer is stopped, and all members show one instant of all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_split_is_one_instant_for_all_writers() {
    for instant in [false, true] {
        split_once(instant, None).await;
    }
}

/// The oracle is trusted because it finds a bug that is planted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_oracle_catches_a_split_that_lets_later_writes_through() {
    for attempt in 0..20 {
        let caught = tokio::spawn(split_once(attempt % 2 == 0, Some(Mutation::SkipPush))).await;
        if caught.is_err() {
            return;
        }
    }
    panic!("the planted bug was not found");
}

async fn split_once(instant: bool, mutation: Option<Mutation>) {
    // Slow copies: the split comes while most tracks are still owed.
    let rig = Arc::new(Rig::with_limits(
        4,
        Limits {
            pace: 16 << 20,
            ..Limits::default()
        },
    ));
    if let Some(mutation) = mutation {
        let mut engine = lock(&rig.array.engine);
        let sound = std::mem::replace(
            &mut *engine,
            Engine::new(EngineConfig {
                track_size: TRACK,
                limits: Limits::default(),
            }),
        );
        *engine = sound.with_mutation(mutation);
    }
    let pairs = [(1, 3), (2, 4)];
    for (primary, mirror) in pairs {
        // Without data the copies would have nothing to do.
        rig.write(primary, 0, vec![0xee; SIZE as usize]).await.unwrap();
        rig.establish((primary, mirror)).await;
    }
    let writers: Arc<Vec<Writer>> = Arc::new((0..WRITERS).map(|_| Writer::default()).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (rig, writers, stop) = (Arc::clone(&rig), Arc::clone(&writers), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let most = (SIZE / BLOCK / WRITERS) as usize * 2;
            for number in 0..most {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (volume, offset) = place(writer, number);
                writers[writer as usize].begun.store(number + 1, Ordering::SeqCst);
                rig.write(volume, offset, stamp(writer, number)).await.unwrap();
                writers[writer as usize]
                    .answered
                    .store(number + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    let least: Vec<usize> = writers
        .iter()
        .map(|writer| writer.answered.load(Ordering::SeqCst))
        .collect();
    let flags = Flags {
        instant,
        ..Flags::default()
    };
    rig.out(OutVerb::Split, flags, &pairs).await.unwrap();
    let most: Vec<usize> = writers
        .iter()
        .map(|writer| writer.begun.load(Ordering::SeqCst))
        .collect();
    tokio::time::sleep(Duration::from_millis(30)).await;
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    for pair in pairs {
        rig.await_state(pair, PairState::Split).await;
    }
    let images = [rig.media(MIRRORS[0]).await, rig.media(MIRRORS[1]).await];
    for writer in 0..WRITERS {
        let index = writer as usize;
        let ended = writers[index].begun.load(Ordering::SeqCst);
        let held = |number: usize| {
            let (volume, offset) = place(writer, number);
            let image = &images[volume as usize - 1];
            image[offset as usize..][..BLOCK as usize] == stamp(writer, number)
        };
        let prefix = (0..ended).take_while(|number| held(*number)).count();
        assert!(
            prefix >= least[index],
            "writer {writer}: stamp {prefix} of {} answered ones is lost",
            least[index]
        );
        assert!(
            prefix <= most[index],
            "writer {writer}: stamp {prefix} was begun after the split"
        );
        assert!(
            !(prefix..ended).any(held),
            "writer {writer}: a stamp after {prefix} is there, that one is not"
        );
        for number in 0..ended {
            let (volume, offset) = place(writer, number);
            assert_eq!(
                rig.read(volume, offset, BLOCK as usize).await.unwrap(),
                stamp(writer, number)
            );
        }
    }
    assert!(
        least.iter().any(|count| *count > 0),
        "nobody had written anything"
    );
}
