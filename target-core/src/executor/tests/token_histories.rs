//! Random histories of writes and token copies against an oracle, and copies that race writers.
//!
//! The oracle is what every block holds, and for each token what its blocks held when it was made.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::{
    tokens::{firsts, token_of, write_using},
    *,
};
use crate::tokens::TokenTable;

/// Blocks that histories are about: 8 granules of what is set aside.
const SPACE: usize = 1024;
const LUNS: [u8; 2] = [0, 5];
const REVOKED: Option<(u8, u8, u8)> = Some((5, 0x23, 6));

/// One step; places are in blocks, 0 and 1 are the LUNs.
#[derive(Debug, Clone)]
enum Step {
    Write {
        lun: usize,
        at: usize,
        blocks: usize,
        value: u8,
    },
    /// WRITE SAME(16).
    Same {
        lun: usize,
        at: usize,
        blocks: usize,
        value: u8,
        unmap: bool,
    },
    OrWrite {
        at: usize,
        value: u8,
    },
    Atomic {
        at: usize,
        blocks: usize,
        value: u8,
    },
    /// Of LUN 0, two ranges.
    Populate {
        first: (usize, usize),
        second: (usize, usize),
    },
    Use {
        token: prop::sample::Index,
        lun: usize,
        at: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..SPACE - 200, 1..200_usize);
    let step = prop_oneof![
        4 => (0..2_usize, place(), 1..255_u8).prop_map(|(lun, (at, blocks), value)| Step::Write { lun, at, blocks, value }),
        3 => (0..2_usize, place(), 0..3_u8, any::<bool>()).prop_map(|(lun, (at, blocks), value, unmap)| Step::Same { lun, at, blocks, value, unmap }),
        1 => (0..SPACE, 1..255_u8).prop_map(|(at, value)| Step::OrWrite { at, value }),
        1 => (place(), 1..255_u8).prop_map(|((at, blocks), value)| Step::Atomic { at, blocks, value }),
        3 => (0..400_usize, 1..100_usize, 500..900_usize, 1..100_usize)
            .prop_map(|(a, m, b, n)| Step::Populate { first: (b, n), second: (a, m) }),
        4 => (any::<prop::sample::Index>(), 0..2_usize, 0..SPACE - 200)
            .prop_map(|(token, lun, at)| Step::Use { token, lun, at }),
    ];
    prop::collection::vec(step, 1..40)
}

/// Plays a history; `room` is what can be set aside, in bytes. Says how many uses found their token revoked.
async fn play(steps: &[Step], room: u64) -> usize {
    let rig = Rig::new();
    let table = TokenTable::in_memory(room);
    rig.units.iter().for_each(|unit| unit.set_tokens(table.clone()));
    let nexus = rig.nexus("iqn.a").await;
    let good = async |lun: usize, cdb: &[u8], data: &[u8]| {
        assert_eq!(run(&nexus, LUNS[lun], cdb, data).await.status, 0, "{cdb:02x?}");
    };
    let mut held = [vec![0_u8; SPACE], vec![0_u8; SPACE]];
    let mut tokens: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut revoked = 0;
    for step in steps {
        match *step {
            Step::Write {
                lun,
                at,
                blocks,
                value,
            } => {
                good(
                    lun,
                    &write(at as u32, blocks as u16),
                    &vec![value; blocks * BLOCK],
                )
                .await;
                held[lun][at..at + blocks].fill(value);
            }
            Step::Same {
                lun,
                at,
                blocks,
                value,
                unmap,
            } => {
                let flags = if unmap { 8 } else { 0 };
                good(
                    lun,
                    &cdb16(0x93, flags, at as u64, blocks as u32),
                    &[value; BLOCK],
                )
                .await;
                held[lun][at..at + blocks].fill(value);
            }
            Step::OrWrite { at, value } => {
                good(0, &cdb16(0x8B, 0, at as u64, 1), &[value; BLOCK]).await;
                held[0][at] |= value;
            }
            Step::Atomic { at, blocks, value } => {
                let mut cdb = cdb16(0x9C, 0, at as u64, 0);
                cdb[13] = blocks as u8;
                good(0, &cdb, &vec![value; blocks * BLOCK]).await;
                held[0][at..at + blocks].fill(value);
            }
            Step::Populate { first, second } => {
                let ranges = [first, second].map(|(at, blocks)| (at as u64, blocks as u32));
                let body = token_of(&nexus, &ranges).await;
                let content = [first, second].map(|(at, blocks)| held[0][at..at + blocks].to_vec());
                tokens.push((body, content.concat()));
            }
            Step::Use { ref token, lun, at } if !tokens.is_empty() => {
                let (body, content) = token.get(&tokens);
                let to = [(at as u64, content.len() as u32)];
                let used = write_using(&nexus, LUNS[lun], (7, 0, body), &to).await;
                if used.status == 0 {
                    held[lun][at..at + content.len()].copy_from_slice(content);
                } else {
                    assert_eq!(sense(&used), REVOKED);
                    revoked += 1;
                    // It may have ended in the middle: what it wrote is right all the same.
                    let now = firsts(&nexus, LUNS[lun], at as u32, content.len() as u16).await;
                    for (index, value) in now.iter().enumerate() {
                        assert!([content[index], held[lun][at + index]].contains(value));
                    }
                    held[lun][at..at + content.len()].copy_from_slice(&now);
                }
            }
            Step::Use { .. } => {}
        }
    }
    for (lun, held) in held.iter().enumerate() {
        let now = firsts(&nexus, LUNS[lun], 0, SPACE as u16).await;
        assert!(now == *held, "LUN {lun}");
    }
    revoked
}

fn run_alone<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn tokens_keep_what_they_stand_for(steps in steps()) {
        prop_assert_eq!(run_alone(play(&steps, 16 << 20)), 0, "there is room for all");
    }

    #[test]
    fn without_room_they_are_revoked_and_never_lie(steps in steps()) {
        run_alone(play(&steps, 128 << 10));
    }
}

/// Two places of LUN 0, far apart, that each writer writes one after the other.
fn places(writer: u32) -> [u32; 2] {
    [writer * 8, 600 + writer * 8]
}

/// Writers never stop. Each token shows an instant: of each writer the second place is as new as the first, or one
/// older; and it shows the same instant whenever it is used.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_shows_one_instant_however_hosts_write() {
    const WRITERS: u32 = 4;
    let rig = Rig::new();
    let table = TokenTable::in_memory(16 << 20);
    rig.units.iter().for_each(|unit| unit.set_tokens(table.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (nexus, stop) = (rig.nexus(&format!("iqn.w{writer}")).await, stop.clone());
        writers.push(tokio::spawn(async move {
            let mut stamp = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                stamp += 1;
                for place in places(writer) {
                    let data = stamp.to_be_bytes().repeat(BLOCK / 4);
                    assert_eq!(run(&nexus, 0, &write(place, 1), &data).await.status, 0);
                }
                tokio::task::yield_now().await;
            }
            stamp
        }));
    }
    let nexus = rig.nexus("iqn.copier").await;
    for _ in 0..60 {
        let token = token_of(&nexus, &[(0, 1024)]).await;
        let mut images = Vec::new();
        for _ in 0..3 {
            let used = write_using(&nexus, 5, (7, 0, &token), &[(0, 1024)]).await;
            assert_eq!(used.status, 0, "{:?}", sense(&used));
            images.push(run(&nexus, 5, &read(0, 1024), &[]).await.data_in);
        }
        assert!(
            images.windows(2).all(|pair| pair[0] == pair[1]),
            "it showed two instants"
        );
        for writer in 0..WRITERS {
            let [first, second] = places(writer).map(|place| {
                let block = &images[0][place as usize * BLOCK..][..BLOCK];
                assert!(block.chunks(4).all(|stamp| stamp == &block[..4]), "a torn block");
                u32::from_be_bytes(block[..4].try_into().unwrap())
            });
            assert!(first == second || first == second + 1, "{first} and {second}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
}
