//! Orders whose answers do not come, commands that are cut in two, and what was begun by another: whatever is lost, both sides end in the same
//! state, with all their marks.

use link_proto::Action;
use target_core::scsi_model::control::OnLinkLoss;

use super::*;
use crate::remote::{Parts, RemotePair};

impl Systems {
    /// Orders of this kind come to nothing; or, if they are `delivered`, their answers do.
    pub(super) fn swallow(&self, action: Action, delivered: bool) {
        lock(&self.swallows).push((action, !delivered));
    }

    pub(super) fn swallow_nothing(&self) {
        lock(&self.swallows).clear();
        for rig in [&self.near, &self.far] {
            rig.array.link_found();
        }
    }

    /// Does the far side lead? `None`: not both sides say the same of a pair that is equal.
    fn far_leads(&self) -> Option<bool> {
        let side = |rig: &Rig| {
            let pair = rig.array.remote_pairs().into_iter().next()?;
            let views = rig.array.pairs();
            let mut views = views.iter();
            let view = views.find(|view| (view.primary, view.mirror) == pair.volumes())?;
            (view.state == PairState::Duplex && !pair.handing_over).then_some(pair.leads)
        };
        let (near, far) = (side(&self.near)?, side(&self.far)?);
        (near != far).then_some(far)
    }

    /// Both sides come to be equal, and to agree who leads.
    pub(super) async fn until_one_leads(&self) -> bool {
        let agreed = async {
            loop {
                if let Some(far) = self.far_leads() {
                    return far;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let agreed = tokio::time::timeout(SOON, agreed).await;
        agreed.unwrap_or_else(|_| {
            panic!(
                "{:?} {:?}",
                self.near.array.remote_pairs(),
                self.far.array.remote_pairs()
            )
        })
    }
}

pub(super) fn pair_at(rig: &Rig) -> RemotePair {
    rig.array.remote_pairs()[0].clone()
}

/// A backup was cut short, and a command has the pair go on before anybody looks at it: a SPLIT after that is a split.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_cut_short_undoes_no_split() {
    let systems = Systems::remote(CopyMode::Sync).await;
    let (near, pair) = (&systems.near.array, pair_at(&systems.near));
    near.change_registry(&pair, |known| known.in_backup = true)
        .unwrap();
    systems.near.split((1, 1)).await;
    systems.far.await_state((1, 1), PairState::Split).await;
    systems.near.await_state((1, 1), PairState::Split).await;
    assert!(!pair_at(&systems.near).in_backup);
    systems.again().await;
    systems.near.await_state((1, 1), PairState::Duplex).await;
    near.change_registry(&pair, |known| known.in_backup = true)
        .unwrap();
    systems
        .near
        .out(OutVerb::Suspend, Flags::default(), &[(1, 1)])
        .await
        .unwrap();
    assert!(!pair_at(&systems.near).in_backup);
    assert_eq!(systems.near.pair((1, 1)).await.state, PairState::Suspended.code());
}

/// S56, S74: the follower follows, and its leader does not hear so: the pair is apart, and what the far hosts wrote stays marked.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_costs_no_marks() {
    let protected = Flags {
        protected: true,
        ..Flags::default()
    };
    let establish = OutVerb::Establish { remote: None };
    for (action, verb, flags) in [
        (Action::Establish, establish, Flags::default()),
        (Action::Restore, OutVerb::Restore, Flags::default()),
        (Action::RestoreProtected, OutVerb::Restore, protected),
    ] {
        let systems = Systems::remote(CopyMode::Sync).await;
        systems.near.split((1, 1)).await;
        systems.far.await_state((1, 1), PairState::Split).await;
        systems.far.write(1, 65_536, pattern(9, 8192)).await.unwrap();
        systems.swallow(action, true);
        systems.near.out(verb, flags, &[(1, 1)]).await.unwrap_err();
        systems.swallow_nothing();
        systems.near.await_state((1, 1), PairState::Split).await;
        systems.far.await_state((1, 1), PairState::Split).await;
        systems.far.write(1, 131_072, pattern(10, 8192)).await.unwrap();
        systems.again().await;
        systems.near.await_state((1, 1), PairState::Duplex).await;
        systems.check_equal().await;
    }
}

/// S58: SWAP, given on either side, whose order or answer is lost: one side leads in the end, by itself.
#[tokio::test(flavor = "multi_thread")]
async fn parts_change_whatever_is_lost() {
    for delivered in [false, true] {
        let systems = Systems::remote(CopyMode::Sync).await;
        systems.swallow(Action::Swap, delivered);
        systems
            .near
            .out(OutVerb::Swap, Flags::default(), &[(1, 1)])
            .await
            .unwrap_err();
        assert_eq!(systems.near.write(1, 0, pattern(2, 512)).await, Err(NOT_READY));
        systems.swallow_nothing();
        assert!(systems.until_one_leads().await);
        systems.far.write(1, 0, pattern(3, 8192)).await.unwrap();
        systems.check_equal().await;

        systems.swallow(Action::Swap, delivered);
        let back = systems.near.out(OutVerb::Swap, Flags::default(), &[(1, 1)]).await;
        back.unwrap_err();
        systems.swallow_nothing();
        // Far stopped leading, if it heard of it.
        assert_eq!(systems.until_one_leads().await, !delivered);
        let leader = if delivered { &systems.near } else { &systems.far };
        leader.write(1, 0, pattern(4, 8192)).await.unwrap();
        systems.check_equal().await;
    }
}

/// A system that stopped leading and was killed goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn parts_change_through_a_kill() {
    let mut systems = Systems::remote(CopyMode::Sync).await;
    systems.swallow(Action::Swap, false);
    let swapped = systems.near.out(OutVerb::Swap, Flags::default(), &[(1, 1)]).await;
    swapped.unwrap_err();
    systems.link(false);
    systems.near.restart().await;
    systems.connect_near();
    systems.swallow_nothing();
    systems.link(true);
    assert!(systems.until_one_leads().await);
    systems.far.write(1, 0, pattern(3, 8192)).await.unwrap();
    systems.check_equal().await;
}

/// The far side copied, and has not heard that it is equal: no side stops leading for one that cannot begin.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_has_not_heard_does_not_lead() {
    let systems = Systems::new();
    systems.swallow(Action::Finished, false);
    systems.establish(CopyMode::Sync).await.unwrap();
    systems.near.await_state((1, 1), PairState::Duplex).await;
    let swapped = systems.near.out(OutVerb::Swap, Flags::default(), &[(1, 1)]).await;
    let message = swapped.unwrap_err().message;
    assert!(message.contains("does not know yet"), "{message}");
    systems.near.write(1, 0, pattern(3, 8192)).await.unwrap();
    systems.swallow_nothing();
    systems.far.await_state((1, 1), PairState::Duplex).await;
    systems
        .near
        .out(OutVerb::Swap, Flags::default(), &[(1, 1)])
        .await
        .unwrap();
    assert!(systems.until_one_leads().await);
}

/// Killed when it was written down that the parts change, and before they did.
#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_dies_before_its_part_changes_has_the_part_it_had() {
    let mut systems = Systems::remote(CopyMode::Sync).await;
    let pair = pair_at(&systems.near);
    let follows = Parts {
        epoch: pair.epoch + 1,
        leads: false,
        taken_over: false,
        handing_over: true,
        draining: false,
    };
    systems.near.array.abandon().await;
    systems
        .near
        .array
        .change_registry(&pair, |known| known.set_parts(follows))
        .unwrap();
    // What is dropped at the first start is missing at the second.
    for _ in 0..2 {
        systems.link(false);
        systems.near.restart().await;
        systems.connect_near();
        systems.link(true);
        assert_eq!(pair_at(&systems.near).parts(), pair.parts());
        systems.near.await_state((1, 1), PairState::Duplex).await;
        systems.near.write(1, 0, pattern(3, 8192)).await.unwrap();
        systems.check_equal().await;
    }
    let policy = pair_at(&systems.near).on_link_loss;
    assert_eq!(policy, OnLinkLoss::Mark);
}
