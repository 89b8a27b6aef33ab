//! SWAP of async pairs: what hosts were answered for is on its way when the parts change.

use super::{answers::pair_at, *};

/// An async pair whose far disk holds back the last of what the host wrote.
async fn behind() -> Systems {
    let systems = Systems::remote(CopyMode::Async).await;
    systems.near.write(1, 0, pattern(2, 512)).await.unwrap();
    systems.far.faults[0].hold_writes(true);
    for round in 3..9 {
        systems.near.write(1, 512, pattern(round, 4096)).await.unwrap();
    }
    systems
}

/// Gives the command, and does `then` as soon as this side has stopped leading.
async fn swap(systems: &Systems, then: impl FnOnce()) -> Result<(), Refusal> {
    let stopped = async {
        while pair_at(&systems.near).leads {
            tokio::task::yield_now().await;
        }
        // It is the other side's turn now, if nothing holds it back.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(!pair_at(&systems.far).leads, "something is on its way");
        then();
    };
    let swap = systems.near.out(OutVerb::Swap, Flags::default(), &[(1, 1)]);
    let (swapped, ()) = tokio::join!(swap, stopped);
    swapped.map(drop)
}

/// It arrives before the other side begins to lead, which would refuse it then.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_arrives_first() {
    let systems = behind().await;
    let release = || systems.far.faults[0].hold_writes(false);
    swap(&systems, release).await.unwrap();
    assert!(pair_at(&systems.far).leads);
    assert_eq!(systems.far.read(1, 512, 4096).await.unwrap(), pattern(8, 4096));
    systems.check_equal().await;
}

/// If it does not arrive, the side that stopped leads again, and sends it when the link is back.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_arrive_is_led_from_here() {
    let systems = behind().await;
    let cut = || systems.link(false);
    swap(&systems, cut).await.unwrap_err();
    systems.far.faults[0].hold_writes(false);
    systems.link(true);
    systems.near.await_state((1, 1), PairState::Duplex).await;
    assert!(pair_at(&systems.near).leads);
    assert_eq!(systems.far.media(1).await[512..512 + 4096], pattern(8, 4096)[..]);
    systems.check_equal().await;
}
