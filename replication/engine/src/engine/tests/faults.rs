//! Faults: what cannot be read or written, what a flush loses, what is cut off half-way.

use super::{
    mirrors::{duplex, pair, split, tracks},
    *,
};
use crate::{
    Limits, command::Side, effects::Effect, engine::harness::limits, events::Event, ids::ByteRange,
    journal::Record,
};
use std::collections::BTreeSet;

const MIRROR: PairId = PairId(VolumeId(2));

fn marked(room: &Room, side: Side, at: u64) -> bool {
    let extents = room.engine.pending(MIRROR, side);
    extents.iter().any(|extent| extent.start <= at && at < extent.end)
}

/// S7: a split mirror's own reads are served from its standard where neither has changed, and the bad range is written again. What only
/// the mirror holds cannot be read.
#[test]
fn a_bad_mirror_is_read_from_the_primary_and_written_again() {
    let mut room = split(60, 2);
    room.write(2, tracks(9, 10), 70).unwrap();
    room.write(1, tracks(11, 12), 50).unwrap();
    room.disks.get_mut(&VolumeId(2)).unwrap()[10] = 99;
    room.unreadable.insert(VolumeId(2));
    assert_eq!(room.read(2, tracks(1, 3)).unwrap(), vec![1; 16]);
    for only_there in [tracks(9, 10), tracks(11, 12), tracks(8, 13)] {
        assert_eq!(room.read(2, only_there), Err(HostError::Read));
    }
    room.settle();
    assert_eq!(room.disks[&VolumeId(2)][8..24], [1; 16]);
    room.check_at_rest();
}

/// S7: a standard whose mirrors are all split is read from a generation, where it is the same.
#[test]
fn a_bad_primary_is_read_from_a_split_generation() {
    let mut room = split(61, 3);
    room.write(1, tracks(0, 64), 50).unwrap();
    room.disks.get_mut(&VolumeId(1)).unwrap()[525] = 99;
    room.unreadable.insert(VolumeId(1));
    assert_eq!(room.read(1, tracks(65, 67)).unwrap(), vec![1; 16]);
    assert_eq!(room.read(1, tracks(63, 66)), Err(HostError::Read));
    room.settle();
    assert_eq!(room.disks[&VolumeId(1)][525], 1);
}

/// S7 and decision 9: the mirror of a protected restore is not written to, not even its own bytes.
#[test]
fn a_bad_mirror_is_not_mended_by_a_protected_restore() {
    let mut room = split(62, 2);
    room.write(1, tracks(0, 64), 50).unwrap();
    room.command(pair(PROTECTED));
    room.perform_all_but_copies();
    room.issued.clear();
    room.unreadable.insert(VolumeId(2));
    let op = room.begin(2, HostIo::Read, tracks(66, 68), 0);
    room.perform_all(|effect| matches!(effect, Effect::Read { .. }));
    assert_eq!(room.replies.remove(&op), Some(Ok(vec![1; 16])));
    room.unreadable.clear();
    room.settle();
    assert_eq!(room.written(2), []);
}

/// S58, O9: the write that a mirror missed is answered when it is durable that the pair is suspended, and the host sees no error.
#[test]
fn a_write_that_a_mirror_missed_waits_for_the_suspension() {
    let mut room = duplex(63, 2);
    room.write(1, (0, 1), 1).unwrap();
    room.unwritable.insert(VolumeId(2));
    let op = room.begin(1, HostIo::Write, (0, 30), 4);
    room.perform_all(|effect| matches!(effect, Effect::Write { .. }));
    assert_eq!(room.state(2), PairState::Suspended);
    assert!(
        !room.replies.contains_key(&op),
        "a crash would undo the suspension"
    );
    room.perform_all(|effect| matches!(effect, Effect::Journal { .. }));
    assert_eq!(room.replies.remove(&op).map(|reply| reply.is_ok()), Some(true));
    assert!(marked(&room, Side::Primary, 29));
    let told = room.events.iter().any(|event| {
        matches!(
            event,
            Event::State {
                to: PairState::Suspended,
                reason: 2,
                ..
            }
        )
    });
    assert!(told, "decision 10: never silent");
    // The host goes on, and all of it is marked.
    room.write(1, (200, 210), 5).unwrap();
    room.check_at_rest();
}

/// S95: whatever became of a write that nobody was answered for, the marks cover it, in a pair that is apart and in one that is equal.
#[test]
fn a_write_cut_short_is_marked_either_way() {
    for seed in 0..40 {
        let mut room = split(seed, 3);
        room.verb(ESTABLISH, &[(1, 3)]).unwrap();
        room.settle();
        for (volume, at) in [(1, 20), (2, 100)] {
            room.begin(volume, HostIo::Write, (at, at + 60), 90);
        }
        for _ in 0..room.dice.below(6) {
            room.perform_one();
        }
        // The process dies; some of what was under way still reaches the disks.
        room.crash();
        assert_eq!(room.state(2), PairState::Split);
        room.settle();
        assert_eq!(room.state(3), PairState::Duplex);
        assert_eq!(room.disks[&VolumeId(1)], room.disks[&VolumeId(3)]);
        room.check_at_rest();
    }
}

/// S95: a host write that fails may or may not be there: it is marked.
#[test]
fn a_failed_write_is_marked() {
    let mut room = split(64, 2);
    room.unwritable.insert(VolumeId(1));
    assert_eq!(room.write(1, tracks(4, 6), 90), Err(HostError::Write));
    assert!(marked(&room, Side::Primary, 33));
    room.unwritable.clear();
    room.unwritable.insert(VolumeId(2));
    assert_eq!(room.write(2, tracks(7, 8), 90), Err(HostError::Write));
    assert!(marked(&room, Side::Mirror, 57));
    assert_eq!(room.state(2), PairState::Split);
}

/// What a flush lost of a volume whose pairs are all apart is marked in each of them, and told; a region that was hot before the
/// split counts too.
#[test]
fn a_lost_cache_is_marked_in_pairs_that_are_apart() {
    let mut room = duplex(65, 3);
    room.write(1, tracks(3, 4), 9).unwrap();
    room.verb(SPLIT, &[(1, 2)]).unwrap();
    assert!(!marked(&room, Side::Union, 24));
    room.unwritable.insert(VolumeId(1));
    let op = room.begin(1, HostIo::Flush, (0, 0), 0);
    assert_eq!(room.finish(op), Err(HostError::Write));
    assert_eq!(room.state(2), PairState::Split);
    assert!(marked(&room, Side::Primary, 24), "the primary may have lost it");
    let volume = VolumeId(1);
    assert!(room.events.contains(&Event::CacheLost { volume }));
}

/// Likewise the image of a split whose flush fails: the mirror may lack what was written to it while it was equal.
#[test]
fn a_lost_image_is_marked() {
    let mut room = duplex(66, 2);
    room.write(1, tracks(3, 4), 9).unwrap();
    room.unwritable.insert(VolumeId(2));
    let volume = VolumeId(2);
    assert_eq!(
        room.verb(SPLIT, &[(1, 2)]).unwrap_err().why,
        Why::Unstable { volume }
    );
    assert!(marked(&room, Side::Primary, 24));
    assert!(room.events.contains(&Event::CacheLost { volume }));
}

/// Decision 10: it is known after a restart too that the primary is right; a pair that was split waits for its command.
#[test]
fn a_suspended_pair_resumes_after_a_restart() {
    let mut room = duplex(67, 2);
    room.unwritable.insert(VolumeId(2));
    room.write(1, (0, 30), 4).unwrap();
    assert_eq!(room.state(2), PairState::Suspended);
    room.crash();
    assert_eq!(room.state(2), PairState::Suspended);
    room.unwritable.clear();
    for _ in 0..20 {
        room.tick();
    }
    room.settle();
    assert_eq!(room.state(2), PairState::Duplex);
    assert_eq!(room.disks[&VolumeId(1)], room.disks[&VolumeId(2)]);
}

/// Decision 10: resuming can be left to commands, for all pairs or for some.
#[test]
fn a_pair_can_be_left_to_wait_for_a_command() {
    let manual = Limits {
        auto_resume: false,
        ..limits()
    };
    for (limits, by_command) in [(manual, vec![]), (limits(), vec![VolumeId(2)])] {
        let mut room = Room::with_limits(68, 3, limits);
        room.engine
            .set_resumed_by_command(by_command.into_iter().collect::<BTreeSet<_>>());
        room.verb(ESTABLISH, &[(1, 2), (1, 3)]).unwrap();
        room.settle();
        room.unwritable.extend([VolumeId(2), VolumeId(3)]);
        room.write(1, (0, 30), 4).unwrap();
        room.unwritable.clear();
        for _ in 0..200 {
            room.tick();
            room.settle_effects();
        }
        assert_eq!(room.state(2), PairState::Suspended);
        let other = if limits.auto_resume {
            PairState::Duplex
        } else {
            PairState::Suspended
        };
        assert_eq!(room.state(3), other);
        room.verb(ESTABLISH, &[(1, 2)]).unwrap();
        room.settle();
        assert_eq!(room.state(2), PairState::Duplex);
    }
}

/// A mirror that a fault left half copied is part old and part new: no restore puts that in the place of the primary, not even
/// after a SPLIT has given it to hosts.
#[test]
fn a_half_copied_mirror_is_not_restored_from() {
    let manual = Limits {
        auto_resume: false,
        ..limits()
    };
    let mut room = Room::with_limits(71, 2, manual);
    room.unwritable.insert(VolumeId(2));
    room.verb(ESTABLISH, &[(1, 2)]).unwrap();
    room.settle_effects();
    assert_eq!(room.state(2), PairState::Suspended);
    room.unwritable.clear();
    let before = room.disks[&VolumeId(1)].clone();
    for state in [PairState::Suspended, PairState::Split] {
        assert_eq!(room.state(2), state);
        for verb in [RESTORE, PROTECTED, FULL_PROTECTED] {
            let refused = room.verb(verb, &[(1, 2)]).unwrap_err();
            assert!(refused.why.to_string().contains("no image"), "{refused:?}");
        }
        room.crash();
        room.verb(SPLIT, &[(1, 2)]).unwrap();
    }
    assert_eq!(room.disks[&VolumeId(1)], before);
    room.verb(ESTABLISH, &[(1, 2)]).unwrap();
    room.settle();
    room.verb(SPLIT, &[(1, 2)]).unwrap();
    room.settle();
    room.verb(RESTORE, &[(1, 2)]).unwrap();
}

/// S48: the second of two equal commands changes nothing and writes nothing.
#[test]
fn a_no_op_writes_nothing() {
    let mut room = split(69, 2);
    for verb in [SPLIT, INSTANT] {
        let (records, effects) = (room.durable.len(), room.issued.len());
        room.verb(verb, &[(1, 2)]).unwrap();
        assert_eq!((room.durable.len(), room.issued.len()), (records, effects));
    }
}

/// O1, O4: after a crash the hot region of an equal pair is copied again, the primary wins; one that has cooled is not.
#[test]
fn a_crash_copies_hot_regions_again() {
    let mut room = duplex(70, 2);
    room.write(1, (3, 4), 9).unwrap();
    assert_eq!(room.engine.hot_regions(), 1);
    // The mirror's leg is lost with its cache.
    room.disks.get_mut(&VolumeId(2)).unwrap()[3] = 1;
    room.crash();
    let view = room.engine.pair(MIRROR).unwrap();
    assert_eq!(
        (view.state, view.reason, view.remaining),
        (PairState::Copy, 4, 64)
    );
    room.settle();
    assert_eq!(room.disks[&VolumeId(2)][3], 9);
    room.write(1, (3, 4), 10).unwrap();
    for _ in 0..10 {
        room.tick();
        room.settle_effects();
    }
    assert_eq!(room.engine.hot_regions(), 0);
    let cooled = |record: &Record| matches!(record, Record::Cold { .. });
    assert!(room.durable.iter().any(cooled));
    room.crash();
    assert_eq!(room.state(2), PairState::Duplex);
}

/// A range that is read over several volumes is told apart: only the part that failed is asked of the twin.
#[test]
fn only_the_part_that_failed_is_read_again() {
    let mut room = duplex(71, 2);
    room.unreadable.insert(VolumeId(1));
    let op = room.begin(1, HostIo::Read, (5, 50), 0);
    room.finish(op).unwrap();
    let reads: Vec<(VolumeId, ByteRange)> = room
        .issued
        .iter()
        .filter_map(|effect| match effect {
            Effect::Read { from, range, .. } => Some((*from, *range)),
            _ => None,
        })
        .collect();
    let range = ByteRange { start: 5, end: 50 };
    assert_eq!(reads, [(VolumeId(1), range), (VolumeId(2), range)]);
}
