//! Writes to remote pairs on the short way.

use std::task::{Context, Waker};

use super::*;

/// What a volume's hosts may do at once.
fn at_once(rig: &Rig, offset: u64, data: &[u8]) -> Fast<()> {
    rig.volume(1)
        .try_write(offset, &Bytes::copy_from_slice(data), false)
}

/// Once its region is hot a write to an async pair is done when it is on its way; they arrive.
#[tokio::test(flavor = "multi_thread")]
async fn an_async_write_is_done_when_it_is_on_its_way() {
    let systems = Systems::remote(CopyMode::Async).await;
    systems.near.write(1, 0, pattern(2, 512)).await.unwrap();
    systems.far.faults[0].hold_writes(true);
    for round in 3..9 {
        let written = at_once(&systems.near, 512, &pattern(round, 4096));
        assert!(matches!(written, Fast::Done(Ok(()))), "round {round}");
    }
    assert_eq!(systems.near.read(1, 512, 4096).await.unwrap(), pattern(8, 4096));
    let foreign = systems.near.array.remote_pairs()[0].foreign;
    let on_the_way = systems.near.array.bytes_on_the_way(VolumeNumber(foreign));
    assert!(on_the_way >= 6 * 4096, "{on_the_way}");
    systems.far.faults[0].hold_writes(false);
    systems.near.arrived(1).await;
    assert_eq!(systems.far.media(1).await[512..512 + 4096], pattern(8, 4096)[..]);
    systems.check_equal().await;
}

/// A write to a sync pair waits for the far side, also where nothing is in its way; others pass meanwhile, beside it and beside one that
/// does not pass.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_write_waits_for_the_far_side() {
    let systems = Systems::remote(CopyMode::Sync).await;
    let near = &systems.near;
    near.write(1, 0, pattern(2, 512)).await.unwrap();
    assert!(matches!(at_once(near, 0, &pattern(3, 4096)), Fast::Later));
    assert_eq!(
        near.read(1, 0, 512).await.unwrap(),
        pattern(2, 512),
        "nothing was written"
    );
    systems.far.faults[0].hold_writes(true);
    // The last one is elsewhere, where its region is cold.
    let places = [0, 8192, 16_384, 16_384 + 512, 3 << 20];
    let writes = places.map(|offset| {
        let data = pattern((offset >> 9) as u8 + 3, 4096);
        tokio::spawn(near.volume(1).write(offset, data.into(), false))
    });
    tokio::task::yield_now().await;
    assert!(writes.iter().all(|write| !write.is_finished()));
    systems.far.faults[0].hold_writes(false);
    for write in writes {
        write.await.unwrap().unwrap();
    }
    systems.check_equal().await;
}

/// A write that is given up on its way is a fault of the mirror: the pair is suspended with marks, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_given_up_is_marked() {
    let systems = Systems::remote(CopyMode::Sync).await;
    let near = &systems.near;
    near.write(1, 0, pattern(2, 512)).await.unwrap();
    systems.far.faults[0].hold_writes(true);
    let mut write = near.volume(1).write(0, pattern(3, 4096).into(), false);
    let mut context = Context::from_waker(Waker::noop());
    assert!(write.as_mut().poll(&mut context).is_pending());
    drop(write);
    near.await_state((1, 1), PairState::Suspended).await;
    systems.far.faults[0].hold_writes(false);
    near.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
}
