//! What becomes of hosts' writes while the far side is away.

use target_core::scsi_model::control::OnLinkLoss;

use super::*;

async fn set(rig: &Rig, policy: OnLinkLoss) -> Result<Reply, Refusal> {
    rig.out(OutVerb::OnLinkLoss(policy), Flags::default(), &[(1, 1)])
        .await
}

/// S58: a pair that refuses: what hosts were told is done is on both sides, and nothing is written without the far one until the link
/// is back, or the policy is another.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_do_not_write_without_the_far_side() {
    let systems = Systems::remote(CopyMode::Sync).await;
    set(&systems.near, OnLinkLoss::Refuse).await.unwrap();
    assert_eq!(
        systems.near.pair((1, 1)).await.on_link_loss,
        Some(OnLinkLoss::Refuse)
    );
    assert_eq!(
        systems.far.pair((1, 1)).await.on_link_loss,
        Some(OnLinkLoss::Refuse),
        "the far side knows it, for the day on which it leads"
    );
    systems.near.write(1, 0, pattern(2, 8192)).await.unwrap();
    systems.link(false);
    let away = Err(IoError::MirrorAway);
    assert_eq!(systems.near.write(1, 0, pattern(3, 8192)).await, away);
    assert_eq!(systems.near.volume(1).flush().await, away);
    assert_eq!(systems.near.volume(1).zero(8192, 8192, true, false).await, away);
    assert_eq!(systems.near.read(1, 0, 8192).await.unwrap(), pattern(2, 8192));
    systems.check_equal().await;
    systems.link(true);
    systems.near.await_state((1, 1), PairState::Duplex).await;
    systems.near.write(1, 0, pattern(4, 8192)).await.unwrap();
    systems.check_equal().await;

    systems.link(false);
    assert_eq!(systems.near.write(1, 0, pattern(5, 8192)).await, away);
    set(&systems.near, OnLinkLoss::Mark).await.unwrap();
    systems.near.write(1, 0, pattern(5, 8192)).await.unwrap();
    systems.link(true);
    systems.near.await_state((1, 1), PairState::Duplex).await;
    systems.check_equal().await;
    systems.far.await_state((1, 1), PairState::Duplex).await;
    assert_eq!(
        systems.far.pair((1, 1)).await.on_link_loss,
        Some(OnLinkLoss::Mark)
    );
}

/// Writes that are on their way when the link is lost are not acknowledged, unless the far side has them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_on_both_sides() {
    for hot in [false, true] {
        let systems = Systems::remote(CopyMode::Sync).await;
        set(&systems.near, OnLinkLoss::Refuse).await.unwrap();
        if hot {
            systems.near.write(1, 0, pattern(1, 512)).await.unwrap();
        }
        let writes: Vec<_> = (0..64_u64)
            .map(|track| {
                let volume = systems.near.volume(1);
                let data = Bytes::from(pattern(track as u8 + 2, 8192));
                tokio::spawn(volume.write(track * 8192, data, false))
            })
            .collect();
        tokio::task::yield_now().await;
        systems.link(false);
        let there = systems.far.media(1).await;
        for (track, write) in writes.into_iter().enumerate() {
            let place = track * 8192..(track + 1) * 8192;
            match write.await.unwrap() {
                Ok(()) => assert!(there[place] == pattern(track as u8 + 2, 8192)[..]),
                Err(error) => assert_eq!(error, IoError::MirrorAway),
            }
        }
        systems.link(true);
        systems.near.await_state((1, 1), PairState::Duplex).await;
        systems.check_equal().await;
    }
}

/// The policy outlives a restart, and a takeover ends it: that is how one goes on without the other side.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_kept_until_a_takeover() {
    let mut systems = Systems::remote(CopyMode::Sync).await;
    set(&systems.near, OnLinkLoss::Refuse).await.unwrap();
    systems.near.restart().await;
    let write = systems.near.write(1, 0, pattern(3, 8192)).await;
    assert_eq!(write, Err(IoError::MirrorAway));
    systems.link(false);
    let force = Flags {
        force: true,
        ..Flags::default()
    };
    systems.far.out(OutVerb::Swap, force, &[(1, 1)]).await.unwrap();
    systems.far.write(1, 0, pattern(9, 8192)).await.unwrap();
    assert_eq!(
        systems.far.pair((1, 1)).await.on_link_loss,
        Some(OnLinkLoss::Mark)
    );
}

/// Who cannot refuse, and where it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn only_sync_pairs_refuse_and_their_leader_is_asked() {
    let systems = Systems::remote(CopyMode::Async).await;
    let refused = set(&systems.near, OnLinkLoss::Refuse).await.unwrap_err();
    assert!(refused.message.contains("only sync pairs"), "{refused:?}");
    let refused = set(&systems.far, OnLinkLoss::Refuse).await.unwrap_err();
    assert!(refused.message.contains("HF-A leads"), "{refused:?}");
    let local = Rig::duplex(2).await;
    let pair = [(1, 2)];
    let refused = local
        .out(OutVerb::OnLinkLoss(OnLinkLoss::Refuse), Flags::default(), &pair)
        .await
        .unwrap_err();
    assert!(refused.message.contains("remote pairs"), "{refused:?}");
}
