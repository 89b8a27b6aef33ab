//! Pairs that a fault suspended, and when they are tried again.

use replication_engine::ids::VolumeId;

use super::*;
use crate::events::ArrayEvent;

const MIB: u64 = 1 << 20;
const HOUR: u64 = 3_600_000_000_000;

fn tries(rig: &Rig) -> usize {
    let again = |event: &ArrayEvent| {
        matches!(
            event,
            ArrayEvent::State {
                from: "suspended",
                to: "copy",
                ..
            }
        )
    };
    let events = rig.array.events().since(0);
    events.iter().filter(|record| again(&record.event)).count()
}

/// Suspended by the one try that there was.
async fn until_tried(rig: &Rig, tried: usize) {
    let parted = async {
        while tries(rig) < tried || rig.pair((1, 1)).await.state != PairState::Suspended.code() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, parted).await.unwrap();
}

/// The far disk is full. That is found out once at first, not over and over; when the link was lost it is found out again, and when there is space the pair
/// comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_far_disk_that_is_full_is_not_tried_all_the_time() {
    for mode in [CopyMode::Sync, CopyMode::Async] {
        let limits = Limits {
            resume_after: HOUR,
            resume_after_most: HOUR,
            ..Limits::default()
        };
        let systems = Systems::with_limits(limits).paired(mode).await;
        let near = &systems.near;
        systems.far.faults[0].fill_up_from(2 * MIB);
        near.write(1, 2 * MIB, pattern(3, 65_536)).await.unwrap();
        until_tried(near, 1).await;
        for byte in 0..50 {
            near.array.link_found();
            near.write(1, 3 * MIB, pattern(byte, 512)).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(
            (tries(near), near.pair((1, 1)).await.state),
            (1, PairState::Suspended.code())
        );
        systems.link(false);
        systems.settle().await;
        systems.link(true);
        until_tried(near, 2).await;
        systems.far.faults[0].heal();
        systems.link(false);
        systems.settle().await;
        systems.link(true);
        near.await_state((1, 1), PairState::Duplex).await;
        near.arrived(1).await;
        systems.check_equal().await;
    }
}

/// `auto_resume = false` is for remote pairs as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_pair_waits_for_a_command_where_that_is_wanted() {
    let limits = Limits {
        auto_resume: false,
        ..Limits::default()
    };
    let systems = Systems::with_limits(limits).paired(CopyMode::Sync).await;
    let near = &systems.near;
    systems.link(false);
    near.write(1, MIB, pattern(7, 65_536)).await.unwrap();
    near.await_state((1, 1), PairState::Suspended).await;
    systems.settle().await;
    systems.link(true);
    let foreign = VolumeId(near.array.remote_pairs()[0].foreign);
    let looked_at = async {
        while !near.array.remote.is_linked(foreign) {
            tokio::task::yield_now().await;
        }
        drop(near.array.remote_orders().await);
    };
    tokio::time::timeout(SOON, looked_at).await.unwrap();
    assert_eq!(near.pair((1, 1)).await.state, PairState::Suspended.code());
    near.out(OutVerb::Establish { remote: None }, Flags::default(), &[(1, 1)])
        .await
        .unwrap();
    near.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
}
