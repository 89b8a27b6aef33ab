//! SWAP of async pairs: what hosts were answered for is on its way when the parts change.

use link_proto::Action;

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

/// The side that stops leading is killed at this point of a swap with writes on their way, which never arrive, and lives again.
async fn killed(systems: &mut Systems, at: impl AsyncFnOnce(&Systems)) {
    let (array, swap) = (
        Arc::clone(&systems.near.array),
        order(OutVerb::Swap, Flags::default(), &[(1, 1)]),
    );
    let swapping = tokio::spawn(async move { array.execute(swap).await });
    at(systems).await;
    systems.near.array.abandon().await;
    systems.link(false);
    let _ = swapping.await.unwrap();
    systems.far.faults[0].hold_writes(false);
    systems.settle().await;
    systems.near.restart().await;
}

fn revive(systems: &Systems) {
    systems.connect_near();
    systems.link(true);
}

/// Until this side has stopped for certain.
async fn stopped(systems: &Systems) {
    let foreign = pair_at(&systems.near).foreign_id();
    let remote = &systems.near.array.remote;
    while pair_at(&systems.near).leads || remote.is_changing(foreign) {
        tokio::task::yield_now().await;
    }
}

/// S67: it died before the last of what hosts were answered for had arrived. The other side cannot have begun, so it leads again, and nothing is
/// missing.
#[tokio::test(flavor = "multi_thread")]
async fn who_dies_before_all_has_arrived_leads_again() {
    let mut systems = behind().await;
    killed(&mut systems, stopped).await;
    // What this start did, another finds done.
    for _ in 0..2 {
        let pair = pair_at(&systems.near);
        assert_eq!((pair.leads, pair.epoch, pair.draining), (true, 1, false));
        systems.near.restart().await;
    }
    revive(&systems);
    systems.near.await_state((1, 1), PairState::Duplex).await;
    assert_eq!(systems.near.read(1, 512, 4096).await.unwrap(), pattern(8, 4096));
    systems.check_equal().await;
    let swap = systems.near.out(OutVerb::Swap, Flags::default(), &[(1, 1)]);
    swap.await.unwrap();
    assert_eq!(systems.far.read(1, 512, 4096).await.unwrap(), pattern(8, 4096));
}

/// When all had arrived, and the other side had not heard that it leads, it begins after the restart.
#[tokio::test(flavor = "multi_thread")]
async fn who_dies_when_all_has_arrived_hands_over() {
    let mut systems = behind().await;
    systems.far.faults[0].hold_writes(false);
    systems.swallow(Action::Swap, false);
    let drained = async |systems: &Systems| {
        stopped(systems).await;
        while pair_at(&systems.near).draining {
            tokio::task::yield_now().await;
        }
    };
    killed(&mut systems, drained).await;
    assert!(!pair_at(&systems.near).leads);
    systems.swallow_nothing();
    revive(&systems);
    assert!(systems.until_one_leads().await);
    assert_eq!(systems.far.read(1, 512, 4096).await.unwrap(), pattern(8, 4096));
}

/// The other side was taken over by force meanwhile: both have something, and nobody guesses.
#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_of_who_died_before_all_had_arrived_waits_for_a_person() {
    let mut systems = behind().await;
    killed(&mut systems, stopped).await;
    let force = Flags {
        force: true,
        ..Flags::default()
    };
    systems.far.out(OutVerb::Swap, force, &[(1, 1)]).await.unwrap();
    revive(&systems);
    let told = || {
        let events = systems.near.array.events().since(0);
        events
            .iter()
            .any(|record| record.event.to_string().contains("took over in epoch 2"))
    };
    while !told() {
        tokio::task::yield_now().await;
    }
    assert!(pair_at(&systems.near).leads && pair_at(&systems.far).leads);
    assert_eq!(systems.near.media(1).await[512..512 + 4096], pattern(8, 4096)[..]);
}

/// What either side could lose with its power would be different on the two, and unmarked, for the side that led has no marks for it any more. So both
/// are stable before the other leads, or the swap is none.
#[tokio::test(flavor = "multi_thread")]
async fn both_sides_are_stable_before_the_other_leads() {
    for (mode, is_near) in [
        (CopyMode::Sync, true),
        (CopyMode::Sync, false),
        (CopyMode::Async, true),
        (CopyMode::Async, false),
    ] {
        let systems = Systems::remote(mode).await;
        let (near, far) = (&systems.near, &systems.far);
        near.write(1, 0, pattern(3, 8192)).await.unwrap();
        let faults = if is_near { &near.faults[0] } else { &far.faults[0] };
        faults.fail_flushes(true);
        let swap = near.out(OutVerb::Swap, Flags::default(), &[(1, 1)]).await;
        swap.unwrap_err();
        assert!(pair_at(near).leads, "{mode:?} {is_near}");
        assert!(!pair_at(far).leads, "{mode:?} {is_near}");
    }
}
