//! Backups whose image is not there in time.

use target_core::scsi_model::control::{Refusal, RefusalKind};
use tokio::sync::watch;

use super::*;
use crate::control::{BackupMember, BackupTerms};

const MEMBERS: [BackupMember; 1] = [BackupMember {
    primary: VolumeNumber(1),
    mirror: Some(VolumeNumber(2)),
    peer: None,
}];

/// The far disk hangs, and lacks what was written last: by a copy, or as writes on their way.
async fn hanging(mode: CopyMode, copies: bool) -> Systems {
    let systems = Systems::remote(mode).await;
    systems.beside.store(true, Ordering::Release);
    let (near, far) = (&systems.near, &systems.far);
    far.establish((1, 2)).await;
    far.await_state((1, 2), PairState::Duplex).await;
    if copies {
        near.split((1, 1)).await;
        far.await_state((1, 1), PairState::Split).await;
        near.write(1, 0, pattern(7, 1 << 20)).await.unwrap();
    }
    far.faults[0].hold_writes(true);
    if copies {
        systems.again().await;
    } else {
        near.write(1, 0, pattern(7, 1 << 20)).await.unwrap();
    }
    systems
}

/// The disk goes on: there is no image, the pair goes on, and a backup that is given time is one.
async fn goes_on(systems: &Systems) {
    let (near, far) = (&systems.near, &systems.far);
    let release = async { far.faults[0].hold_writes(false) };
    let (written, ()) = tokio::join!(near.write(1, 2 << 20, pattern(8, 8192)), release);
    written.unwrap();
    near.await_state((1, 1), PairState::Duplex).await;
    far.await_state((1, 1), PairState::Duplex).await;
    near.arrived(1).await;
    systems.check_equal().await;
    assert_eq!(
        far.pair((1, 2)).await.state,
        PairState::Duplex.code(),
        "it was not split"
    );
    let terms = BackupTerms::default();
    near.array.back_up(&MEMBERS, &terms, false).await.unwrap();
}

async fn backs_up(systems: &Systems, terms: BackupTerms) -> Refusal {
    let taken = systems.near.array.back_up(&MEMBERS, &terms, false);
    let taken = tokio::time::timeout(SOON, taken);
    taken.await.expect("it waits for the far disk").unwrap_err()
}

/// S68: writes are held back for so long and no longer. There is no image then, the pair goes on, and what was held back arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_takes_too_long_holds_nothing_back() {
    for (mode, copies) in [
        (CopyMode::Sync, true),
        (CopyMode::Async, true),
        (CopyMode::Async, false),
    ] {
        let systems = hanging(mode, copies).await;
        let terms = BackupTerms {
            deadline: Duration::ZERO,
            ..BackupTerms::default()
        };
        let late = backs_up(&systems, terms).await;
        assert_eq!(late.kind, RefusalKind::State, "{late:?}");
        assert!(
            late.message.contains("HF-B did not have the image within 0 s"),
            "{late:?}"
        );
        goes_on(&systems).await;
    }
}

/// S68: one that waits for what is on its way can be cancelled as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_cancelled_while_it_waits_for_the_far_disk() {
    for copies in [true, false] {
        let systems = hanging(CopyMode::Async, copies).await;
        let (cancel, cancelled) = watch::channel(false);
        let terms = BackupTerms {
            deadline: Duration::MAX / 4,
            cancelled: Some(cancelled),
        };
        let cancelling = async {
            let begins = |event: &str| event.contains("begins");
            let has_begun = || {
                let events = systems.near.array.events().since(0);
                events.iter().any(|record| begins(&record.event.to_string()))
            };
            while !has_begun() {
                tokio::task::yield_now().await;
            }
            cancel.send(true).unwrap();
        };
        let (refused, ()) = tokio::join!(backs_up(&systems, terms), cancelling);
        assert!(
            refused
                .message
                .contains("was cancelled before the image was there"),
            "{refused:?}"
        );
        goes_on(&systems).await;
    }
}
