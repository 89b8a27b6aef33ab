//! Hosts that write faster than the link carries.

use super::*;
use crate::events::ArrayEvent;

/// MiB on their way from which on writes wait.
const ENOUGH: u64 = 32;
/// Nothing here takes as long, whatever else the machine does.
const LONG: Duration = Duration::from_secs(60);

/// Writes MiB after MiB, up to so many.
fn flat_out(rig: &Rig, mebibytes: u64) -> tokio::task::JoinHandle<()> {
    let volume = rig.volume(1);
    let contents = [11, 12, 13].map(|byte| Bytes::from(vec![byte; 1 << 20]));
    tokio::spawn(async move {
        for round in 0..mebibytes as usize {
            let data = contents[round % contents.len()].clone();
            Arc::clone(&volume).write(0, data, false).await.unwrap();
        }
    })
}

fn way(rig: &Rig) -> u64 {
    let foreign = rig.array.remote_pairs()[0].foreign;
    rig.array.bytes_on_the_way(VolumeNumber(foreign))
}

/// Until the next write waits.
async fn until_full(rig: &Rig) {
    tokio::time::timeout(LONG, async {
        while way(rig) < ENOUGH << 20 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

fn said(rig: &Rig, what: &str) -> usize {
    let events = rig.array.events().since(0);
    let says = |event: &str| event.contains(what);
    events
        .iter()
        .filter(|record| says(&record.event.to_string()))
        .count()
}

/// A host that writes flat out goes as fast as the far side, and the pair stays as it is: no more than may be without waiting is ever
/// on its way, though four times as much is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_writes_flat_out_waits_for_the_far_side() {
    let systems = Systems::remote(CopyMode::Async).await;
    let near = &systems.near;
    near.array.set_longest_hold(Duration::from_secs(3600));
    let before = near.array.events().since(0).len() as u64;
    systems.far.faults[0].hold_writes(true);
    let mut writer = flat_out(near, 4 * ENOUGH);
    until_full(near).await;
    assert!(!writer.is_finished());
    systems.far.faults[0].hold_writes(false);
    let mut most = 0;
    tokio::time::timeout(LONG, async {
        loop {
            most = most.max(way(near));
            tokio::select! {
                biased;
                done = &mut writer => break done.unwrap(),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await
    .unwrap();
    assert!(most <= (ENOUGH + 1) << 20, "{most}");
    assert!(near.array.held_writes().0 > 0);
    assert_eq!(said(near, "wait for the link to HF-B"), 1);
    let parted = near.array.events().since(before);
    let parted = parted
        .iter()
        .filter(|record| matches!(record.event, ArrayEvent::State { .. }));
    assert_eq!(parted.count(), 0, "it was never suspended");
    near.arrived(1).await;
    systems.check_equal().await;
}

/// A far side that answers nothing parts the pair when the first write has waited long enough; hosts go on, and the pair comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_does_not_wait_for_ever() {
    let systems = Systems::remote(CopyMode::Async).await;
    let near = &systems.near;
    near.array.set_longest_hold(Duration::from_millis(100));
    systems.far.faults[0].hold_writes(true);
    tokio::time::timeout(LONG, flat_out(near, 4 * ENOUGH))
        .await
        .expect("hosts go on")
        .unwrap();
    near.await_state((1, 1), PairState::Suspended).await;
    assert!(said(near, "in vain for the link to HF-B") > 0);
    systems.far.faults[0].hold_writes(false);
    near.await_state((1, 1), PairState::Duplex).await;
    near.arrived(1).await;
    systems.check_equal().await;
}

/// A link that is lost keeps nobody waiting, and neither does a wait that its host gives up keep another.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_ends_every_wait() {
    let systems = Systems::remote(CopyMode::Async).await;
    let near = &systems.near;
    near.array.set_longest_hold(Duration::from_secs(3600));
    systems.far.faults[0].hold_writes(true);
    let writer = flat_out(near, 2 * ENOUGH);
    until_full(near).await;
    let given_up = tokio::spawn(near.volume(1).write(0, pattern(1, 512).into(), false));
    tokio::task::yield_now().await;
    given_up.abort();
    systems.link(false);
    tokio::time::timeout(LONG, writer)
        .await
        .expect("hosts go on")
        .unwrap();
    near.await_state((1, 1), PairState::Suspended).await;
    systems.far.faults[0].hold_writes(false);
    systems.settle().await;
    systems.link(true);
    near.await_state((1, 1), PairState::Duplex).await;
    near.arrived(1).await;
    systems.check_equal().await;
}
