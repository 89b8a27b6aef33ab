//! What a pair is to SCSI hosts: unit attentions, identities, reservations, aborts, and the time commands take.

use super::{
    hosts::{BLOCK, Host, Hosts, cdb16, control, sense, slow_duplex},
    *,
};
use crate::control::HostUse;
use target_core::{logical_unit::LogicalUnit, scsi_model::control::PendingSide, target::Execution};

const CHANGED: Option<(u8, u8, u8)> = Some((6, 0x28, 0));
const NOT_READY: Option<(u8, u8, u8)> = Some((2, 0x04, 3));

/// S4, S40, S41, S90: every nexus hears 28h/00h once when a mirror becomes ready or a standard's content is replaced, and NOT READY while
/// the mirror is established, restored, or CONFIG NOT READY.
#[tokio::test]
async fn every_host_hears_of_what_changed() {
    let hosts = Hosts::on(Rig::duplex(3).await);
    let both = [hosts.host("iqn.a").await, hosts.host("iqn.b").await];
    let hear = async |lun: u8, what: Option<(u8, u8, u8)>, then: Option<(u8, u8, u8)>| {
        for host in &both {
            assert_eq!(host.hears(lun).await, what, "LUN {lun}");
            assert_eq!(host.hears(lun).await, then, "LUN {lun}: once");
        }
    };
    let rig = &hosts.rig;
    hear(2, NOT_READY, NOT_READY).await;
    rig.split((1, 2)).await;
    hear(2, CHANGED, None).await;
    hear(1, None, None).await;
    rig.write(1, 0, pattern(7, 4096)).await.unwrap();
    let protected = Flags {
        protected: true,
        ..Flags::default()
    };
    rig.out(OutVerb::Restore, protected, &[(1, 2)]).await.unwrap();
    hear(1, CHANGED, None).await;
    rig.await_state((1, 2), PairState::Split).await;
    // The mirror was ready all the time, and its content is what it was.
    hear(2, None, None).await;
    rig.out(OutVerb::Restore, Flags::default(), &[(1, 2)])
        .await
        .unwrap();
    hear(1, CHANGED, None).await;
    rig.await_state((1, 2), PairState::Restored).await;
    hear(2, NOT_READY, NOT_READY).await;
    let instant = Flags {
        instant: true,
        ..Flags::default()
    };
    rig.out(OutVerb::Split, instant, &[(1, 2)]).await.unwrap();
    hear(2, CHANGED, None).await;
    // CONFIG, in band.
    for host in &both {
        let not_ready = [0xc1, 3, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
        host.good(1, &not_ready, &[]).await;
        for cdb in [
            cdb16(0x88, 0, 0, 1),
            cdb16(0x8a, 0, 0, 1),
            vec![0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(sense(&host.run(2, &cdb, &[0; BLOCK]).await), NOT_READY);
        }
        assert_eq!(
            sense(&host.out(2, 0, 1, 2).await),
            NOT_READY,
            "nor any pair command"
        );
        let ready = [0xc1, 3, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
        host.good(1, &ready, &[]).await;
        for host in &both {
            assert_eq!(host.hears(2).await, CHANGED);
        }
    }
}

/// S91: a mirror's VPD 83h is its own, whatever the pair does, and shares no designator with the standard's.
#[tokio::test]
async fn a_mirror_keeps_its_own_identity() {
    let hosts = Hosts::on(Rig::duplex(2).await);
    let host = hosts.host("iqn.a").await;
    let page = async |lun: u8, page: u8| host.good(lun, &[0x12, 1, page, 4, 0, 0], &[]).await;
    let designators = |page: &[u8]| {
        let (mut rest, mut found) = (&page[4..], Vec::new());
        while let [_, kind, _, length, tail @ ..] = rest {
            let (designator, next) = tail.split_at(usize::from(*length));
            // Association 00b: the logical unit itself.
            if kind & 0x30 == 0 {
                found.push(designator.to_vec());
            }
            rest = next;
        }
        assert!(!found.is_empty());
        found
    };
    let pages = async || (page(1, 0x83).await, page(2, 0x83).await, page(2, 0x80).await);
    let duplex = pages().await;
    let (standard, mirror) = (designators(&duplex.0), designators(&duplex.1));
    assert!(mirror.iter().all(|designator| !standard.contains(designator)));
    hosts.rig.split((1, 2)).await;
    assert_eq!(host.hears(2).await, CHANGED);
    assert_eq!(pages().await, duplex);
    hosts
        .rig
        .out(OutVerb::Restore, Flags::default(), &[(1, 2)])
        .await
        .unwrap();
    assert_eq!(host.hears(1).await, CHANGED);
    assert_eq!(pages().await, duplex);
}

struct Reserved(Vec<Arc<LogicalUnit>>);

impl HostUse for Reserved {
    fn in_use(&self, volume: VolumeNumber) -> Option<String> {
        let unit = &self.0[volume.0 as usize - 1];
        unit.is_reserved().then(|| "it is reserved".to_owned())
    }
}

async fn persistent_reserve(host: &Host, lun: u8, action: u8, key: u64, new: u64) {
    let mut list = key.to_be_bytes().to_vec();
    list.extend(new.to_be_bytes());
    list.extend([0; 8]);
    // EXCLUSIVE ACCESS.
    let cdb = [0x5f, action, 0x03, 0, 0, 0, 0, 0, 24, 0];
    host.good(lun, &cdb, &list).await;
}

/// S94: a standard that a host has reserved, persistently or not, is copied and restored all the same; other hosts are kept out
/// of it, and the commands' host needs no reservation.
#[tokio::test]
async fn reservations_do_not_block_copies() {
    for persistent in [true, false] {
        let hosts = Hosts::on(Rig::new(2));
        let rig = &hosts.rig;
        rig.array.set_host_use(Arc::new(Reserved(hosts.units.clone())));
        let (owner, other) = (hosts.host("iqn.owner").await, hosts.host("iqn.other").await);
        if persistent {
            persistent_reserve(&owner, 1, 0, 0, 0xabc).await;
            persistent_reserve(&owner, 1, 1, 0xabc, 0).await;
        } else {
            owner.good(1, &[0x16, 0, 0, 0, 0, 0], &[]).await;
        }
        let write = async |host: &Host, byte: u8| {
            let data = vec![byte; 64 * BLOCK];
            host.run(1, &cdb16(0x8a, 0, 100, 64), &data).await.status
        };
        assert_eq!((write(&owner, 1).await, write(&other, 9).await), (0, 0x18));
        assert_eq!(other.out(0, 0, 1, 2).await.status, 0, "ESTABLISH");
        rig.await_state((1, 2), PairState::Duplex).await;
        assert_eq!(other.out(1, 0, 1, 2).await.status, 0, "SPLIT");
        rig.await_state((1, 2), PairState::Split).await;
        assert_eq!((write(&owner, 2).await, write(&other, 9).await), (0, 0x18));
        assert_eq!(other.out(2, 0x04, 1, 2).await.status, 0, "RESTORE PROTECTED");
        rig.await_state((1, 2), PairState::Split).await;
        assert_eq!(rig.read(1, 100 * 512, 512).await.unwrap(), [1; 512]);
        assert_eq!(rig.media(1).await, rig.media(2).await);
        assert!(hosts.units[0].is_reserved());
        assert_eq!(other.hears(1).await, CHANGED);
        assert_eq!(write(&other, 9).await, 0x18);
    }
}

/// S95: the write of an aborted task, and one that a kill cuts off, may be there or not: in both cases its tracks are marked before data
/// can be, and the mirror's image does not change.
#[tokio::test]
async fn an_aborted_write_is_marked() {
    for kill in [false, true] {
        let mut hosts = Hosts::on(Rig::duplex(2).await);
        hosts.rig.split((1, 2)).await;
        hosts.rig.await_state((1, 2), PairState::Split).await;
        let image = hosts.rig.media(2).await;
        let host = hosts.host("iqn.a").await;
        hosts.rig.faults[0].be_slow(true);
        let data = vec![9; 40 * BLOCK];
        let Execution::Later(write) = host.begin(1, &cdb16(0x8a, 0, 20, 40), &data) else {
            panic!("it is slow")
        };
        let task = tokio::spawn(write);
        host.0.abort_task_set([0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        if kill {
            tokio::task::yield_now().await;
            hosts.rig.faults[0].be_slow(false);
            hosts.rig.restart().await;
        } else {
            task.await.unwrap();
            hosts.rig.faults[0].be_slow(false);
        }
        let pending = Request::ReadPendingMap {
            pair: VolumePair {
                primary: VolumeNumber(1),
                mirror: Some(VolumeNumber(2)),
            },
            side: PendingSide::Union,
        };
        let Reply::Pending(extents) = hosts.rig.array.execute(pending).await.unwrap() else {
            panic!("no map")
        };
        let (primary, mirror) = (hosts.rig.media(1).await, hosts.rig.media(2).await);
        assert_eq!(mirror, image);
        for lba in 0..SIZE / 512 {
            let at = lba as usize * BLOCK;
            let marked = extents.iter().any(|e| e.lba <= lba && lba < e.lba + e.blocks);
            assert!(
                marked || primary[at..at + BLOCK] == mirror[at..at + BLOCK],
                "{lba}"
            );
        }
        if !kill {
            assert!(
                extents
                    .iter()
                    .any(|extent| extent.lba <= 20 && extent.lba + extent.blocks >= 60)
            );
        }
    }
}

/// S96: every command of C1h is answered while all of its copy is still to be done; the answers of C0h do not wait either.
#[tokio::test]
async fn no_command_waits_for_its_copy() {
    let hosts = slow_duplex(3).await;
    let rig = &hosts.rig;
    let host = hosts.host("iqn.a").await;
    let left = async |state: PairState| {
        let pair = rig.pair((1, 2)).await;
        assert_eq!(pair.state, state.code());
        assert!(pair.remaining > 64, "{} tracks left", pair.remaining);
        // VERIFY counts and does not wait.
        let verify = host.good(1, &control(0xc0, 1, 2, (1, 2), 32), &[]).await;
        assert_eq!(verify[28], 2, "none is DUPLEX");
    };
    host.good(1, &control(0xc1, 0, 0x01, (1, 2), 0), &[]).await;
    left(PairState::Copy).await;
    host.good(1, &control(0xc1, 1, 0x02, (1, 2), 0), &[]).await;
    left(PairState::Splitting).await;
    host.good(1, &control(0xc1, 4, 0x20, (1, 2), 0), &[]).await;
    assert!(rig.array.pairs().is_empty(), "CANCEL with FORCE");

    let hosts = slow_duplex(2).await;
    let rig = &hosts.rig;
    let host = hosts.host("iqn.a").await;
    let remaining = async |state: PairState| {
        let pair = rig.pair((1, 2)).await;
        assert_eq!(pair.state, state.code());
        assert!(pair.remaining > 64, "{} tracks left", pair.remaining);
    };
    for (flags, state) in [
        (0x05, PairState::ProtectedRestoring),
        (0x01, PairState::Restoring),
    ] {
        rig.out(
            OutVerb::Split,
            Flags {
                force: true,
                ..Flags::default()
            },
            &[(1, 2)],
        )
        .await
        .unwrap();
        rig.await_state((1, 2), PairState::Split).await;
        // That of a restore that was stopped half way.
        while host.hears(1).await == CHANGED {}
        host.good(1, &control(0xc1, 2, flags, (1, 2), 0), &[]).await;
        remaining(state).await;
        while host.hears(1).await.is_some() || host.hears(2).await == CHANGED {}
    }
}
