//! Pairs that are about to be made when something is lost: both systems have the pair in the end, or neither, by themselves.

use link_proto::{FailureCode, PairOrder};

use super::{answers::pair_at, *};
use crate::remote::RemotePair;

impl Systems {
    /// The follower makes the pair, and the leader does not hear so, nor the follower that it is withdrawn.
    async fn with_half_a_pair() -> Self {
        let systems = Self::new();
        systems.swallow(Action::Create, true);
        systems.swallow(Action::Cancel, false);
        let refused = systems.establish(CopyMode::Sync).await.unwrap_err();
        assert!(refused.message.contains("no pair is made"), "{refused:?}");
        systems.half_is_there().await;
        systems
    }

    async fn half_is_there(&self) {
        assert!(has_none(&self.near) && !has_none(&self.far));
        assert_eq!(self.far.write(1, 0, pattern(3, 512)).await, Err(NOT_READY));
    }

    /// Neither side has any of it any more, and a pair can be made.
    async fn until_none_is_left(&self) {
        until(self, || {
            has_none(&self.far) && has_none(&self.near) && proposed(&self.near).is_empty()
        })
        .await;
        self.far.write(1, 0, pattern(3, 512)).await.unwrap();
        self.establish(CopyMode::Sync).await.unwrap();
        self.near.await_state((1, 1), PairState::Duplex).await;
        self.far.await_state((1, 1), PairState::Duplex).await;
        self.check_equal().await;
    }
}

async fn until(systems: &Systems, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(SOON, waiting).await.is_err() {
        let pairs = [&systems.near, &systems.far].map(|rig| rig.array.remote_pairs());
        panic!("{pairs:?}, proposed {:?}", proposed(&systems.near));
    }
}

fn has_none(rig: &Rig) -> bool {
    rig.array.remote_pairs().is_empty() && rig.array.pairs().is_empty()
}

fn proposed(rig: &Rig) -> Vec<RemotePair> {
    rig.array.remote.proposed()
}

/// S49: the order or its answer is lost, and the link stays: when the command has failed neither side has anything of the pair.
#[tokio::test(flavor = "multi_thread")]
async fn a_pair_whose_making_is_lost_is_withdrawn_at_once() {
    for delivered in [false, true] {
        let systems = Systems::new();
        systems.swallow(Action::Create, delivered);
        systems.establish(CopyMode::Sync).await.unwrap_err();
        assert!(has_none(&systems.near) && has_none(&systems.far));
        assert!(proposed(&systems.near).is_empty());
        systems.swallow_nothing();
        systems.until_none_is_left().await;
    }
}

/// S49: the withdrawal is lost as well, or its answer: it is repeated.
#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_is_repeated_until_it_is_answered() {
    let systems = Systems::with_half_a_pair().await;
    systems.swallow_nothing();
    systems.until_none_is_left().await;

    let systems = Systems::new();
    systems.swallow(Action::Create, true);
    systems.swallow(Action::Cancel, true);
    systems.establish(CopyMode::Sync).await.unwrap_err();
    assert!(has_none(&systems.far) && !proposed(&systems.near).is_empty());
    systems.swallow_nothing();
    systems.until_none_is_left().await;
}

/// A command for a new pair withdraws what is left of the last one itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_pair_does_not_wait_for_the_withdrawal_of_the_last() {
    let systems = Systems::with_half_a_pair().await;
    lock(&systems.swallows).clear();
    systems.establish(CopyMode::Async).await.unwrap();
    systems.far.await_state((1, 1), PairState::Duplex).await;
    assert_eq!(pair_at(&systems.near).pair, pair_at(&systems.far).pair);
    assert!(proposed(&systems.near).is_empty());
}

/// S49: either side is killed when the follower has the pair and the leader does not.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_pair_goes_through_a_kill_of_either_side() {
    for near in [true, false] {
        let mut systems = Systems::with_half_a_pair().await;
        systems.link(false);
        if near {
            systems.near.restart().await;
            systems.connect_near();
        } else {
            systems.far.array.abandon().await;
            let state = systems.far.state.path().join("b");
            systems.far.array = Array::open(&state, id("HF-B"), TRACK, systems.far.plain.clone()).unwrap();
            systems.connect_far();
        }
        systems.half_is_there().await;
        systems.swallow_nothing();
        systems.link(true);
        systems.until_none_is_left().await;
    }
}

/// The leader was killed when its journal had the pair, and before it was crossed out: the pair stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_came_to_be_is_not_withdrawn() {
    let mut systems = Systems::new();
    systems.establish(CopyMode::Sync).await.unwrap();
    systems.far.await_state((1, 1), PairState::Duplex).await;
    let pair = pair_at(&systems.near);
    // What is proposed is looked at as long as the link is there.
    systems.link(false);
    systems.near.array.propose(&pair).unwrap();
    systems.near.restart().await;
    systems.connect_near();
    assert_eq!(proposed(&systems.near), std::slice::from_ref(&pair));
    systems.link(true);
    until(&systems, || proposed(&systems.near).is_empty()).await;
    systems.near.await_state((1, 1), PairState::Duplex).await;
    systems.far.await_state((1, 1), PairState::Duplex).await;
    assert_eq!(pair_at(&systems.far).pair, pair.pair);
    systems.check_equal().await;
}

/// A leader that lost its state directory withdraws nothing: what the follower has of its pairs is a person's to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_its_state_withdraws_nothing() {
    let mut systems = Systems::with_half_a_pair().await;
    systems.link(false);
    systems.near.array.abandon().await;
    systems.near.array = open(&systems.near.state.path().join("new"), &systems.near.plain);
    systems.connect_near();
    systems.swallow_nothing();
    systems.link(true);
    let remote = Some((id("HF-B"), CopyMode::Sync));
    let establish = OutVerb::Establish { remote };
    let near = &systems.near;
    near.out(establish, Flags::default(), &[(2, 2)]).await.unwrap();
    near.await_state((2, 2), PairState::Duplex).await;
    assert_eq!(systems.far.array.remote_pairs().len(), 2);
    let force = Flags {
        force: true,
        ..Flags::default()
    };
    systems.far.out(OutVerb::Cancel, force, &[(1, 1)]).await.unwrap();
    systems.establish(CopyMode::Sync).await.unwrap();
}

/// The leader's state directory is one of the moment before the pair came to be: the follower keeps what was equal, and the leader says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_was_equal_is_not_withdrawn() {
    let systems = Systems::remote(CopyMode::Sync).await;
    let pair = pair_at(&systems.near);
    systems.link(false);
    let force = Flags {
        force: true,
        ..Flags::default()
    };
    systems.near.out(OutVerb::Cancel, force, &[(1, 1)]).await.unwrap();
    systems.near.array.propose(&pair).unwrap();
    systems.link(true);
    let is_said = || {
        let events = systems.near.array.events().since(0);
        let mut events = events.iter().map(|record| record.event.to_string());
        events.any(|event| event.contains("was equal once"))
    };
    until(&systems, is_said).await;
    assert!(proposed(&systems.near).is_empty());
    assert_eq!(pair_at(&systems.far).pair, pair.pair);
    assert_eq!(systems.far.pair((1, 1)).await.state, PairState::Duplex.code());
}

/// An order that is carried out after its withdrawal makes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_is_not_made_later() {
    let systems = Systems::new();
    let order = |action, flags| {
        Request::Pair(PairOrder {
            pair: 77,
            epoch: 1,
            action,
            flags,
            primary: 1,
            mirror: 1,
            mode: CopyMode::Sync,
            bytes: SIZE,
            track_size: TRACK,
            from: 0,
        })
    };
    let ask = |request| systems.far.array.serve(&id("HF-A"), 7, request);
    for request in [
        order(Action::Cancel, PairOrder::NEVER_MADE),
        order(Action::Create, 0),
        order(Action::Cancel, PairOrder::NEVER_MADE),
    ] {
        let answer = ask(request).await;
        let none = matches!(
            &answer,
            Response::Failed {
                code: FailureCode::NoSuchPair,
                ..
            }
        );
        assert!(none && has_none(&systems.far), "{answer:?}");
    }
}
