//! Remote pairs: the leader's engine, the follower's, links that come and go, and parts that change.

use super::{mirrors::tracks, *};
use crate::{
    command::{Refused, RemoteAct, Side, Summary},
    effects::Effect,
    journal::Record,
    passage::Passage,
    track::TrackRange,
};

/// The far volume.
const FAR: u32 = VolumeId::FIRST_FOREIGN;

fn link(room: &mut Room, up: bool) {
    room.feed(Input::Link {
        volume: VolumeId(FAR),
        up,
    });
}

fn remote(room: &mut Room, (primary, mirror): (u32, u32), act: RemoteAct) -> Result<Summary, Refused> {
    let id = room.command(Command::Remote {
        pair: (VolumeId(primary), VolumeId(mirror)),
        act,
        dry_run: false,
    });
    room.finish_command(id)
}

/// Pair 1 -> far is DUPLEX.
fn leader(seed: u64) -> Room {
    let mut room = Room::new(seed, 2);
    room.add_volume(FAR);
    link(&mut room, true);
    room.verb(ESTABLISH, &[(1, FAR)]).unwrap();
    room.settle();
    assert_eq!(room.state(FAR), PairState::Duplex);
    room
}

/// Pair far -> 1 is COPY, and 1 -> 2 is DUPLEX.
fn follower(seed: u64) -> Room {
    let mut room = Room::new(seed, 2);
    room.add_volume(FAR);
    room.verb(ESTABLISH, &[(1, 2)]).unwrap();
    room.settle();
    room.verb(ESTABLISH, &[(FAR, 1)]).unwrap();
    room
}

fn by_link(room: &mut Room, range: (u64, u64), byte: u8) -> Result<Vec<u8>, HostError> {
    let op = room.begin_by_link(1, range, byte);
    room.finish(op)
}

/// S50, S51, S58: writes go to both systems; a lost link suspends the pair, which goes on marking; the union is copied when it is back.
#[test]
fn a_lost_link_suspends_with_marks_and_the_union_is_copied() {
    let mut room = leader(200);
    room.write(1, tracks(3, 5), 50).unwrap();
    assert_eq!(room.disks[&VolumeId(FAR)][24..40], [50; 16]);
    link(&mut room, false);
    let view = room.engine.pair(PairId(VolumeId(FAR))).unwrap();
    assert_eq!((view.state, view.reason), (PairState::Suspended, 1));
    room.write(1, tracks(66, 67), 51).unwrap();
    assert_eq!(room.disks[&VolumeId(FAR)][528..536], [1; 8]);
    for _ in 0..20 {
        room.tick();
        room.settle_effects();
    }
    assert_eq!(
        room.state(FAR),
        PairState::Suspended,
        "it is resumed by whoever knows both sides"
    );
    // The far side was written at track 9.
    room.disks.get_mut(&VolumeId(FAR)).unwrap()[72..80].fill(99);
    remote(
        &mut room,
        (1, FAR),
        RemoteAct::Adopt(vec![TrackRange::new(9, 10)]),
    )
    .unwrap();
    assert!(
        room.engine
            .pending(PairId(VolumeId(FAR)), Side::Mirror)
            .iter()
            .any(|extent| extent.start == 72)
    );
    room.crash();
    link(&mut room, true);
    room.verb(ESTABLISH, &[(1, FAR)]).unwrap();
    room.settle();
    assert_eq!(room.state(FAR), PairState::Duplex);
    assert_eq!(room.disks[&VolumeId(1)], room.disks[&VolumeId(FAR)]);
}

/// A pair that a fault has parted a moment ago holds no image of now: the command that did not see that coming is refused.
#[test]
fn a_suspended_remote_pair_is_not_split() {
    let mut room = leader(211);
    link(&mut room, false);
    let refused = room.verb(SPLIT, &[(1, FAR)]).unwrap_err();
    assert!(matches!(refused.why, Why::Conflict { .. }), "{refused:?}");
    assert_eq!(room.state(FAR), PairState::Suspended);
}

/// A leg over a link that is gone fails like any other, and is the link's fault.
#[test]
fn a_write_that_finds_no_link_is_answered_and_marked() {
    let mut room = leader(201);
    room.engine.linked.clear();
    room.unwritable.insert(VolumeId(FAR));
    room.write(1, tracks(1, 2), 50).unwrap();
    let view = room.engine.pair(PairId(VolumeId(FAR))).unwrap();
    assert_eq!((view.state, view.reason), (PairState::Suspended, 1));
}

fn pass_write(room: &mut Room, range: (u64, u64), by_link: bool) -> Option<Passage> {
    let (start, end) = range;
    let range = ByteRange { start, end };
    room.engine.pass(VolumeId(1), HostIo::Write, range, by_link)
}

fn end(room: &mut Room, write: &Passage, failed: &[VolumeId]) -> bool {
    let mut out = Vec::new();
    room.engine.passed(write, failed, &mut out).answer
}

/// What passes goes to the other system's mirror as well; when the link is lost meanwhile all that was written there is marked.
#[test]
fn a_write_passes_to_a_mirror_of_another_system() {
    for needed in [false, true] {
        let mut room = leader(203);
        if needed {
            room.engine.set_needed([VolumeId(FAR)].into());
        }
        room.write(1, tracks(0, 1), 50).unwrap();
        let write = pass_write(&mut room, (0, 4), false).expect("DUPLEX and hot");
        assert_eq!(write.mirrors(), [VolumeId(FAR)]);
        let beside = pass_write(&mut room, (8, 12), false).expect("another track");
        assert!(end(&mut room, &write, &[]) && end(&mut room, &beside, &[]));

        let write = pass_write(&mut room, (0, 4), false).expect("DUPLEX and hot");
        link(&mut room, false);
        room.settle_effects();
        let view = room.engine.pair(PairId(VolumeId(FAR))).unwrap();
        assert_eq!((view.state, view.reason), (PairState::Suspended, 1));
        let marked = room.engine.pending(PairId(VolumeId(FAR)), Side::Primary);
        assert_eq!((marked[0].start, marked[0].end), tracks(0, 64));
        // The far side may have it all the same; a host that needs the mirror is told by the long way.
        assert_eq!(end(&mut room, &write, &[]), !needed);
    }
}

/// What comes over the link passes as well, on to the volume's own mirrors and generations, and leaves no mark of its own pair.
#[test]
fn what_comes_over_a_link_passes_into_a_volume_that_follows() {
    let mut room = follower(204);
    remote(&mut room, (FAR, 1), RemoteAct::Arrive).unwrap();
    assert_eq!(pass_write(&mut room, (0, 4), true), None, "the region is cold");
    by_link(&mut room, (0, 4), 50).unwrap();
    assert_eq!(pass_write(&mut room, (0, 4), false), None, "it answers no host");
    let write = pass_write(&mut room, (0, 4), true).expect("it follows");
    assert_eq!(write.mirrors(), [VolumeId(2)]);
    assert!(end(&mut room, &write, &[]));
    room.verb(SPLIT, &[(1, 2)]).unwrap();
    room.settle_effects();
    let write = pass_write(&mut room, (8, 12), true).expect("it follows");
    assert!(write.mirrors().is_empty());
    assert!(end(&mut room, &write, &[]));
    let marked = room.engine.pending(PairId(VolumeId(2)), Side::Primary);
    assert!(marked.iter().any(|run| run.start <= 8 && run.end >= 16));
    assert_eq!(room.engine.pending(PairId(VolumeId(1)), Side::Union), []);
    room.verb(SPLIT, &[(FAR, 1)]).unwrap();
    room.settle_effects();
    assert_eq!(pass_write(&mut room, (0, 4), true), None, "it is its hosts' now");
}

/// A protected restore from the far mirror, of which nothing has been copied.
fn restoring(seed: u64) -> Room {
    let mut room = leader(seed);
    room.verb(SPLIT, &[(1, FAR)]).unwrap();
    room.settle();
    room.write(1, tracks(0, 60), 50).unwrap();
    room.command(Command::Pair {
        verb: PROTECTED,
        members: vec![(VolumeId(1), VolumeId(FAR))],
        dry_run: false,
    });
    room.perform_all_but_copies();
    room
}

/// S84: a protected restore over a link that is lost goes on where it was.
#[test]
fn a_protected_restore_waits_for_the_link() {
    let mut room = restoring(202);
    link(&mut room, false);
    assert_eq!(room.state(FAR), PairState::ProtectedRestoring);
    room.unreadable.insert(VolumeId(FAR));
    room.settle_effects();
    for _ in 0..10 {
        room.tick();
        room.settle_effects();
    }
    assert_eq!(room.state(FAR), PairState::ProtectedRestoring);
    assert_eq!(
        room.read(1, tracks(58, 59)),
        Err(HostError::Read),
        "never the stale bytes"
    );
    room.unreadable.clear();
    link(&mut room, true);
    room.settle();
    assert_eq!(room.state(FAR), PairState::Split);
    assert_eq!(room.read(1, tracks(0, 60)).unwrap(), vec![1; 480]);
}

/// S84: so does one whose link is lost while what it has brought is made stable.
#[test]
fn a_protected_restore_waits_for_the_link_with_a_flush_under_way() {
    let mut room = restoring(203);
    while room.waiting(is_far_flush) == 0 {
        let mut effects = room.pending.iter();
        let next = effects.position(|effect| !matches!(effect, Effect::Flush { .. }));
        room.perform_one_at(next.expect("copies are under way"));
    }
    link(&mut room, false);
    room.unreadable.insert(VolumeId(FAR));
    room.unwritable.insert(VolumeId(FAR));
    for _ in 0..10 {
        room.settle_effects();
        room.tick();
    }
    assert_eq!(room.state(FAR), PairState::ProtectedRestoring);
    assert_eq!(room.read(1, tracks(0, 1)).unwrap(), vec![1; 8], "it was brought");
    assert_eq!(
        room.read(1, tracks(58, 59)),
        Err(HostError::Read),
        "never the stale bytes"
    );
    room.write(1, tracks(0, 1), 60).unwrap();
    room.unreadable.clear();
    room.unwritable.clear();
    link(&mut room, true);
    room.settle();
    assert_eq!(room.state(FAR), PairState::Split);
    assert_eq!(room.read(1, tracks(0, 1)).unwrap(), vec![60; 8]);
    assert_eq!(room.read(1, tracks(1, 60)).unwrap(), vec![1; 472]);
}

/// S52, S53: a follower answers its leader and no host, copies nothing itself, and carries its own mirrors along.
#[test]
fn a_follower_takes_writes_from_the_link_only() {
    let mut room = follower(203);
    assert_eq!(room.state(1), PairState::Copy);
    for _ in 0..5 {
        room.tick();
    }
    assert_eq!(room.waiting(|effect| matches!(effect, Effect::Copy { .. })), 0);
    assert_eq!(room.write(1, tracks(3, 4), 50), Err(HostError::NotReady));
    by_link(&mut room, tracks(3, 5), 60).unwrap();
    for volume in [1, 2] {
        assert_eq!(room.disks[&VolumeId(volume)][24..40], [60; 16]);
    }
    let refused = room.verb(SPLIT, &[(1, 2)]).unwrap_err();
    assert!(matches!(refused.why, Why::Conflict { .. }), "{refused:?}");
    remote(&mut room, (FAR, 1), RemoteAct::Arrive).unwrap();
    assert_eq!(room.state(1), PairState::Duplex);
    room.verb(SPLIT, &[(1, 2)]).unwrap();
    by_link(&mut room, tracks(3, 4), 61).unwrap();
    assert_eq!(room.read(2, tracks(3, 4)).unwrap(), [60; 8]);
    room.verb(SPLIT, &[(FAR, 1)]).unwrap();
    let op = room.begin_by_link(1, tracks(3, 4), 62);
    assert_eq!(room.finish(op), Err(HostError::NotReady), "not any more");
    room.write(1, tracks(9, 10), 70).unwrap();
    let changed = room.engine.pending(PairId(VolumeId(1)), Side::Mirror);
    assert_eq!(changed.len(), 1, "{changed:?}");
}

/// A follower that lost power tells its leader what it may have lost.
#[test]
fn a_follower_marks_what_a_crash_may_have_taken() {
    let mut room = follower(204);
    remote(&mut room, (FAR, 1), RemoteAct::Arrive).unwrap();
    by_link(&mut room, tracks(3, 4), 60).unwrap();
    room.crash();
    assert_eq!(room.state(1), PairState::Copy);
    assert!(!room.engine.pending(PairId(VolumeId(1)), Side::Union).is_empty());
    by_link(&mut room, tracks(4, 5), 61).unwrap();
}

/// A follower that is split has nowhere to read its image again: what a crash may have taken is marked.
#[test]
fn a_split_follower_stays_split_through_a_crash() {
    let mut room = follower(209);
    remote(&mut room, (FAR, 1), RemoteAct::Arrive).unwrap();
    by_link(&mut room, tracks(3, 4), 60).unwrap();
    room.verb(SPLIT, &[(FAR, 1)]).unwrap();
    room.crash();
    assert_eq!(room.state(1), PairState::Split);
    room.write(1, tracks(3, 4), 61).unwrap();
    let changed = room.engine.pending(PairId(VolumeId(1)), Side::Mirror);
    assert_eq!(changed.first().map(|extent| extent.start), Some(0), "{changed:?}");
}

/// SWAP, together: both sides DUPLEX before and after, the other volume ready.
#[test]
fn parts_change() {
    let mut room = follower(205);
    let early = remote(&mut room, (FAR, 1), RemoteAct::Swap { alone: false });
    assert!(early.is_err());
    remote(&mut room, (FAR, 1), RemoteAct::Arrive).unwrap();
    let swap = RemoteAct::Swap { alone: false };
    remote(&mut room, (FAR, 1), swap.clone()).unwrap();
    assert_eq!(
        (room.state(1), room.state(FAR)),
        (PairState::Simplex, PairState::Duplex)
    );
    link(&mut room, true);
    room.write(1, tracks(3, 4), 50).unwrap();
    assert_eq!(room.disks[&VolumeId(FAR)][24..32], [50; 8]);

    let mut room = leader(206);
    remote(&mut room, (1, FAR), swap).unwrap();
    assert_eq!(
        (room.state(1), room.state(FAR)),
        (PairState::Duplex, PairState::Simplex)
    );
    assert_eq!(room.write(1, tracks(3, 4), 50), Err(HostError::NotReady));
    by_link(&mut room, tracks(3, 4), 51).unwrap();
}

/// SWAP without the other system: only one that was equal may, and it marks what its hosts write.
#[test]
fn a_follower_takes_over_alone() {
    let mut room = follower(207);
    let alone = RemoteAct::Swap { alone: true };
    let early = remote(&mut room, (FAR, 1), alone.clone()).unwrap_err();
    assert!(matches!(early.why, Why::Conflict { .. }), "{early:?}");
    remote(&mut room, (FAR, 1), RemoteAct::Arrive).unwrap();
    remote(&mut room, (FAR, 1), alone).unwrap();
    room.write(1, tracks(3, 4), 50).unwrap();
    let view = room.engine.pair(PairId(VolumeId(FAR))).unwrap();
    assert_eq!((view.state, view.mirror_invalid), (PairState::Suspended, 1));
    room.crash();
    assert_eq!(room.state(FAR), PairState::Suspended);
    assert_eq!(room.read(1, tracks(3, 4)).unwrap(), [50; 8]);
}

/// A takeover of a volume with hot regions, which is two changes of a pair that is new, is read again after a crash.
#[test]
fn a_takeover_with_hot_regions_is_replayed() {
    let mut room = follower(210);
    remote(&mut room, (FAR, 1), RemoteAct::Arrive).unwrap();
    by_link(&mut room, tracks(3, 4), 49).unwrap();
    assert!(room.engine.hot_regions() > 0);
    remote(&mut room, (FAR, 1), RemoteAct::Swap { alone: true }).unwrap();
    room.write(1, tracks(3, 4), 50).unwrap();
    room.crash();
    assert_eq!(room.state(FAR), PairState::Suspended);
    assert_eq!(room.read(1, tracks(3, 4)).unwrap(), [50; 8]);
}

/// Who has handed over asks no flush of the new leader, who would refuse it: that would suspend the new pair.
#[test]
fn regions_cool_without_a_flush_at_the_new_leader() {
    let mut room = leader(211);
    room.write(1, tracks(3, 4), 50).unwrap();
    assert!(room.engine.hot_regions() > 0);
    remote(&mut room, (1, FAR), RemoteAct::Swap { alone: false }).unwrap();
    room.engine.has_arrived(VolumeId(FAR));
    room.unwritable.insert(VolumeId(FAR));
    for _ in 0..100 {
        room.tick();
        room.settle_effects();
    }
    assert_eq!((room.engine.hot_regions(), room.state(1)), (0, PairState::Duplex));
}

/// S67: what has not arrived when the parts change back is marked, however long it was waited for.
#[test]
fn what_is_on_its_way_at_a_swap_stays_hot() {
    let mut room = leader(212);
    room.write(1, tracks(3, 4), 50).unwrap();
    let swap = RemoteAct::Swap { alone: false };
    remote(&mut room, (1, FAR), swap.clone()).unwrap();
    for _ in 0..100 {
        room.tick();
        room.settle_effects();
    }
    remote(&mut room, (FAR, 1), swap).unwrap();
    link(&mut room, false);
    let view = room.engine.pair(PairId(VolumeId(FAR))).unwrap();
    assert_eq!(view.state, PairState::Suspended);
    assert!(view.mirror_invalid > 0, "{view:?}");
}

fn is_far_flush(effect: &Effect) -> bool {
    matches!(effect, Effect::Flush { volume, .. } if volume.0 == FAR)
}

/// Time passes until the far side is asked to make stable what was written; that is not done yet.
fn until_it_cools(room: &mut Room) {
    while room.waiting(is_far_flush) == 0 {
        room.perform_without_flushes();
        room.tick();
    }
}

fn is_cold(room: &Room) -> bool {
    let mut records = room.durable.iter();
    records.any(|record| matches!(record, Record::Cold { .. }))
}

/// O2, O3: what makes a host's writes stable does not wait for a mirror that trails behind, and counts for nothing there: the region stays hot,
/// and a crash copies it, until the flush before it cools has ended.
#[test]
fn a_host_s_flush_leaves_out_a_mirror_that_trails() {
    let mut room = leader(206);
    room.engine.set_trailing([VolumeId(FAR)].into());
    let before = room.issued.len();
    room.write(1, tracks(3, 5), 50).unwrap();
    let flush = room.begin(1, HostIo::Flush, (0, 0), 0);
    room.finish(flush).unwrap();
    let fua = room.begin_fua(1, tracks(4, 5), 51);
    room.finish(fua).unwrap();
    assert!(!room.issued[before..].iter().any(is_far_flush));
    until_it_cools(&mut room);
    room.perform_without_flushes();
    assert!(!is_cold(&room));
    room.crash();
    let owed = room.engine.pending(PairId(VolumeId(FAR)), Side::Union);
    assert_eq!((owed[0].start, owed[0].end), tracks(0, 64));
}

/// The flush before cooling may take minutes: hosts write to these regions meanwhile, and what they write keeps its region hot.
#[test]
fn a_region_is_written_while_its_far_side_is_flushed() {
    let mut room = leader(207);
    room.engine.set_trailing([VolumeId(FAR)].into());
    room.write(1, tracks(3, 5), 50).unwrap();
    until_it_cools(&mut room);
    assert!(
        pass_write(&mut room, (0, 4), false).is_none(),
        "its flush may have begun"
    );
    let op = room.begin(1, HostIo::Write, tracks(3, 5), 51);
    room.perform_without_flushes();
    assert!(room.replies.contains_key(&op), "nobody waits for the flush");
    let write = pass_write(&mut room, (0, 4), false).expect("it does not cool any more");
    assert!(end(&mut room, &write, &[]));
    room.settle_effects();
    assert!(!is_cold(&room), "a write came behind the flush");
    until_it_cools(&mut room);
    room.settle_effects();
    assert!(is_cold(&room));
}

/// O3: of a restore from a mirror that trails, what this volume would be read from again after a crash is made stable there too.
#[test]
fn a_flush_covers_what_a_restore_still_reads() {
    let mut room = restoring(208);
    room.engine.set_trailing([VolumeId(FAR)].into());
    room.begin(1, HostIo::Flush, (0, 0), 0);
    assert_eq!(room.waiting(is_far_flush), 1);
}

/// A restore from a mirror here does not wait for one that trails behind, and so no host does that writes meanwhile.
#[test]
fn a_local_restore_does_not_wait_for_a_mirror_that_trails() {
    let mut room = leader(209);
    room.engine.set_trailing([VolumeId(FAR)].into());
    room.verb(ESTABLISH, &[(1, 2)]).unwrap();
    room.settle();
    room.verb(SPLIT, &[(1, 2)]).unwrap();
    room.write(1, tracks(0, 60), 50).unwrap();
    room.command(Command::Pair {
        verb: PROTECTED,
        members: vec![(VolumeId(1), VolumeId(2))],
        dry_run: false,
    });
    room.perform_all_but_copies();
    let op = room.begin(1, HostIo::Write, tracks(7, 8), 60);
    for _ in 0..200 {
        room.perform_all(|effect| !is_far_flush(effect));
        room.tick();
    }
    assert!(room.replies.contains_key(&op));
    assert_eq!(room.state(2), PairState::Split, "the restore has ended");
    room.settle();
    assert_eq!(room.disks[&VolumeId(1)], room.disks[&VolumeId(FAR)]);
}

/// A leader that has stopped, and died: what its crash marked is marked when it leads again, and found so after one more crash.
#[test]
fn who_leads_again_keeps_what_a_crash_has_marked() {
    let mut room = leader(213);
    room.write(1, tracks(3, 4), 50).unwrap();
    remote(&mut room, (1, FAR), RemoteAct::Swap { alone: false }).unwrap();
    room.engine.has_arrived(VolumeId(FAR));
    room.crash();
    assert_eq!(room.state(1), PairState::Copy);
    let swap = remote(&mut room, (FAR, 1), RemoteAct::Swap { alone: false }).unwrap_err();
    assert!(matches!(swap.why, Why::Conflict { .. }), "{swap:?}");
    remote(&mut room, (FAR, 1), RemoteAct::Regain).unwrap();
    for _ in 0..2 {
        let view = room.engine.pair(PairId(VolumeId(FAR))).unwrap();
        assert_eq!((view.primary, view.state), (VolumeId(1), PairState::Suspended));
        assert_eq!(view.mirror_invalid + view.primary_invalid, 64, "{view:?}");
        room.crash();
    }
    let again = remote(&mut room, (1, FAR), RemoteAct::Regain).unwrap_err();
    assert!(matches!(again.why, Why::Conflict { .. }), "{again:?}");
}

/// Likewise, in what the journal gives: before all had arrived.
#[test]
fn a_pair_that_is_turned_back_is_copied_where_it_was_hot() {
    let mut room = leader(214);
    room.write(1, tracks(3, 4), 50).unwrap();
    remote(&mut room, (1, FAR), RemoteAct::Swap { alone: false }).unwrap();
    let mut image = crate::journal::Image::new(room.engine.config.track_size);
    for record in room.engine.snapshot() {
        image.apply(&record).unwrap();
    }
    image.turn_back(VolumeId(FAR), VolumeId(1));
    image.after_crash();
    let turned = &image.pairs[&PairId(VolumeId(FAR))];
    assert_eq!(image.pairs.len(), 1);
    assert_eq!(
        (turned.meta.primary, turned.meta.state),
        (VolumeId(1), PairState::Copy)
    );
    assert_eq!(turned.bits.todo.count(), 64);
}
