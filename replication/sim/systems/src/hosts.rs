//! Hosts: each writes its own blocks, in bursts, and does not stop.

use std::{sync::Arc, time::Duration};

use replication_engine::state::PairState;
use replication_sim::rng::Rng;
use target_core::{
    scsi_model::control::CopyMode,
    volume::{Fast, Volume},
};
use tokio::time::{sleep, timeout};

use crate::{
    ledger::{BLOCKS, data, place},
    world::{LONG, World},
};

/// How many there are.
pub const HOSTS: u64 = 3;
/// One more, which writes when it is told to.
const SPARE: u64 = HOSTS;
/// Blocks of each.
const EACH: u64 = BLOCKS / (HOSTS + 1);
/// Blocks of one that are mostly of one region.
const NEAR: u64 = 4;

/// One of them, until the run ends.
pub async fn write(world: Arc<World>, number: u64, mut rng: Rng) {
    loop {
        sleep(Duration::from_millis(rng.below(400))).await;
        for _ in 0..rng.between(1, 5) {
            world.begin().await;
            let volume = rng.between(1, 2) as u32;
            let block = nth_of(number, rng.below(EACH));
            one(&world, volume, block, &mut rng).await;
            world.end();
            if rng.chance(500) {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Many writes of the spare one, each as soon as the last is answered, all of them near to each other: nothing has to be made stable in between.
pub async fn burst(world: &World, writes: u64, rng: &mut Rng) {
    let volume = rng.between(1, 2) as u32;
    let first = rng.below(EACH - NEAR);
    for _ in 0..writes {
        let block = nth_of(SPARE, first + rng.below(NEAR));
        one(world, volume, block, rng).await;
    }
}

/// A block of theirs.
fn nth_of(number: u64, nth: u64) -> u64 {
    nth * (HOSTS + 1) + number
}

async fn one(world: &World, volume: u32, block: u64, rng: &mut Rng) {
    let Some((site, peer)) = world.leader(volume) else {
        return sleep(Duration::from_millis(20)).await;
    };
    let write = world.ledger.issue((volume, block));
    let (written, data) = (world.volume(site, volume), data(write));
    // Hosts' commands try it first; those whose data comes later do not.
    let tried = if rng.chance(700) {
        written.try_write(place(block), &data, false)
    } else {
        Fast::Later
    };
    let done = if let Fast::Done(Ok(())) = tried {
        true
    } else {
        let write = written.write(place(block), data, false);
        timeout(LONG, write).await.expect("a host's write hangs").is_ok()
    };
    if done {
        let equal = world.part(site, volume, peer).map(|(.., state)| state) == Some(PairState::Duplex);
        world
            .ledger
            .acknowledge(write, equal && world.mode((site, peer)) == CopyMode::Sync);
    }
}
