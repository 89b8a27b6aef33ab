//! Restore and protected restore: the figures one by one.

use super::{
    mirrors::{duplex, pair, split, tracks},
    *,
};
use crate::{
    command::Side,
    effects::{Effect, Outcome},
    ids::ByteRange,
    journal::Record,
    track::TrackRange,
};

const MIRROR: PairId = PairId(VolumeId(2));

/// SPLIT, and the primary has changed everything since: a restore has all tracks to bring.
fn changed(seed: u64, volumes: u32) -> Room {
    let mut room = split(seed, volumes);
    room.write(1, (0, BYTES), 50).unwrap();
    room.issued.clear();
    room
}

/// The restore has begun, durably, and nothing is copied.
fn restoring(seed: u64, verb: Verb) -> Room {
    let mut room = changed(seed, 2);
    room.command(pair(verb));
    room.perform_all_but_copies();
    room
}

fn is_copy(effect: &Effect) -> bool {
    matches!(effect, Effect::Copy { .. })
}

fn owed(room: &Room) -> Vec<ByteRange> {
    room.engine.pending(MIRROR, Side::Remaining)
}

/// S13: all of it comes back, and writes go to both sides, during it and after it.
#[test]
fn a_full_restore_makes_the_mirror_active_again() {
    let full = Verb::Restore {
        full: true,
        protected: false,
    };
    let mut room = split(40, 2);
    room.write(1, tracks(3, 4), 50).unwrap();
    let command = room.command(pair(full));
    room.perform_all_but_copies();
    assert_eq!(room.finish_command(command).unwrap().tracks, 71);
    assert_eq!(room.state(2), PairState::Restoring);
    room.write(1, (9, 30), 60).unwrap();
    room.settle();
    assert_eq!(room.state(2), PairState::Restored);
    room.write(1, (100, 103), 70).unwrap();
    let mut expected = all(1);
    expected[9..30].fill(60);
    expected[100..103].fill(70);
    assert_eq!(room.disks[&VolumeId(1)], expected);
    assert_eq!(room.disks[&VolumeId(2)], expected);
}

/// S14, S27, decision 2: the union goes back, and is a rollback when the mirror has no changes.
#[test]
fn an_incremental_restore_brings_the_union() {
    for (verb, on_the_mirror) in [
        (RESTORE, false),
        (RESTORE, true),
        (PROTECTED, false),
        (PROTECTED, true),
    ] {
        let mut room = split(41, 2);
        room.write(1, (17, 18), 50).unwrap();
        let mut expected = vec![ByteRange { start: 16, end: 24 }];
        if on_the_mirror {
            room.write(2, (49, 50), 60).unwrap();
            expected.push(ByteRange { start: 48, end: 56 });
        }
        let image = room.disks[&VolumeId(2)].clone();
        room.issued.clear();
        let command = room.command(pair(verb));
        room.perform_all_but_copies();
        assert_eq!(owed(&room), expected);
        room.finish_command(command).unwrap();
        room.settle();
        assert_eq!(room.written(1), expected, "nothing else is copied");
        assert_eq!(room.disks[&VolumeId(1)], image);
        assert_eq!(room.disks[&VolumeId(2)], image);
    }
}

/// S15, S21: the image is there at once, whatever is copied.
#[test]
fn restored_data_is_there_before_it_is_copied() {
    for verb in [RESTORE, PROTECTED, FULL_PROTECTED] {
        let mut room = restoring(42, verb);
        let op = room.begin(1, HostIo::Read, (103, 190), 0);
        room.perform_all(|effect| matches!(effect, Effect::Read { .. }));
        assert_eq!(room.replies.remove(&op), Some(Ok(vec![1; 87])));
        assert_eq!(room.disks[&VolumeId(1)], all(50), "nothing is copied yet");
    }
}

/// S16, O10, decision 7: what a restore brings is a write for every other pair: of the primary, of the mirrors below that are kept
/// equal to it, and of the pair above.
#[test]
fn a_restore_is_a_write_for_every_other_pair() {
    for verb in [RESTORE, PROTECTED, FULL_PROTECTED] {
        // 5 -> 1 split; 1 -> 2 restores; 1 -> 3 established with 3 -> 6 established and 3 -> 7 split; 1 -> 4 split.
        let mut room = Room::new(43, 7);
        room.verb(ESTABLISH, &[(5, 1)]).unwrap();
        room.settle();
        room.verb(ESTABLISH, &[(1, 2), (1, 3), (1, 4)]).unwrap();
        room.settle();
        room.verb(ESTABLISH, &[(3, 6), (3, 7)]).unwrap();
        room.settle();
        room.verb(SPLIT, &[(1, 2)]).unwrap();
        room.write(5, tracks(2, 5), 50).unwrap();
        room.verb(SPLIT, &[(5, 1), (1, 4), (3, 7)]).unwrap();
        room.settle();
        assert_eq!(room.disks[&VolumeId(6)][17], 50);
        room.verb(verb, &[(1, 2)]).unwrap();
        // Everything stays usable while it runs.
        room.write(1, (400, 401), 60).unwrap();
        room.settle();
        let mut expected = all(5);
        expected[400] = 60;
        for equal in [1, 3, 6] {
            assert_eq!(room.disks[&VolumeId(equal)], expected, "{verb:?}: volume {equal}");
        }
        for generation in [4, 7] {
            assert_eq!(room.read(generation, tracks(2, 5)).unwrap(), [50; 24]);
        }
        room.check_at_rest();
        let marked = |mirror: u32, side| {
            let extents = room.engine.pending(PairId(VolumeId(mirror)), side);
            extents
                .iter()
                .any(|extent| extent.start <= 16 && extent.end >= 40)
        };
        assert!(marked(4, Side::Primary), "the split generation");
        assert!(marked(7, Side::Primary), "the one below an established mirror");
        assert!(marked(1, Side::Mirror), "the pair above");
        // So each can be brought up to date by what is marked.
        room.verb(ESTABLISH, &[(1, 4), (3, 7)]).unwrap();
        room.settle();
        assert_eq!(room.disks[&VolumeId(4)], expected);
        assert_eq!(room.disks[&VolumeId(7)], expected);
    }
}

/// S17, S18, S19, S20, S34, decision 9: full or not, nothing is ever written to the mirror, whatever hosts do with the standard
/// during it and after it; and it gives the image again.
#[test]
fn a_protected_restore_never_writes_to_the_mirror() {
    for verb in [PROTECTED, FULL_PROTECTED] {
        let mut room = changed(44, 2);
        for round in 0..3_u64 {
            room.command(pair(verb));
            room.perform_all_but_copies();
            room.write(1, (3 + round, 90), 60).unwrap();
            let update = room.begin(1, HostIo::Update, (130, 140), 61);
            room.finish(update).unwrap();
            let fua = room.begin_fua(1, tracks(30, 40), 62);
            room.finish(fua).unwrap();
            room.settle();
            assert_eq!(room.state(2), PairState::Split);
            room.write(1, (200, 300), 63).unwrap();
            assert_eq!(room.disks[&VolumeId(2)], all(1));
        }
        assert_eq!(room.written(2), []);
        room.verb(verb, &[(1, 2)]).unwrap();
        room.settle();
        assert_eq!(room.disks[&VolumeId(1)], all(1));
    }
}

/// S21, S22, S28 (Fig. 7): a read of a track that is not restored comes from the mirror, the track is what the copier restores next, and
/// then reads find it on the standard.
#[test]
fn what_is_read_on_the_standard_is_restored_next() {
    reads_restore(1);
}

/// S30 (Fig. 9): a read of the mirror too is answered by the mirror, and has its track restored next.
#[test]
fn what_is_read_on_the_mirror_is_restored_next() {
    reads_restore(2);
}

fn reads_restore(volume: u32) {
    let mut room = restoring(45, PROTECTED);
    let wanted = ByteRange { start: 480, end: 488 };
    let read = |room: &mut Room, volume: u32| {
        let op = room.begin(volume, HostIo::Read, (wanted.start, wanted.end), 0);
        let from = room.pending.iter().find_map(|effect| match effect {
            Effect::Read { from, op: of, .. } if *of == op => Some(*from),
            _ => None,
        });
        room.perform_all(|effect| matches!(effect, Effect::Read { .. }));
        assert_eq!(room.replies.remove(&op), Some(Ok(vec![1; 8])));
        from.expect("a read")
    };
    assert_eq!(read(&mut room, volume), VolumeId(2));
    // As soon as one of the copies under way has ended.
    let under_way = room.waiting(is_copy);
    let first = room.pending.iter().position(is_copy).unwrap();
    let Effect::Copy { range: first, .. } = room.pending[first].clone() else {
        unreachable!()
    };
    room.perform_all(|effect| matches!(effect, Effect::Copy { range, .. } if *range == first));
    assert_eq!(room.waiting(is_copy), under_way);
    let next = room.issued.iter().rfind(|effect| is_copy(effect)).unwrap();
    assert!(
        matches!(next, Effect::Copy { range, .. } if *range == wanted),
        "{next:?}"
    );
    room.perform_all(|effect| matches!(effect, Effect::Copy { range, .. } if *range == wanted));
    assert_eq!(read(&mut room, 1), VolumeId(1), "restored");
    assert_eq!(read(&mut room, 2), VolumeId(2));
}

/// S23, S29 (Fig. 8): a write of whole tracks takes them off the list, in a full restore too, and needs no copy.
#[test]
fn a_write_of_whole_tracks_takes_them_off_the_list() {
    for verb in [PROTECTED, FULL_PROTECTED] {
        let mut room = restoring(46, verb);
        let (start, end) = tracks(60, 64);
        let op = room.begin(1, HostIo::Write, (start, end), 60);
        room.finish_without_copies(op).unwrap();
        assert!(
            owed(&room)
                .iter()
                .all(|extent| extent.end <= start || extent.start >= end)
        );
        room.settle();
        let copied = |effect: &Effect| matches!(effect, Effect::Copy { range, .. } if range.start < end && range.end > start);
        assert!(!room.issued.iter().any(copied), "it was copied for nothing");
        assert_eq!(room.read(1, (start, end)).unwrap(), [60; 32]);
    }
}

/// S24, S29, S93, O7, decision 3: anything smaller brings the mirror's track first and lies over it; an update of whole tracks too, for it
/// looks at what is there.
#[test]
fn a_smaller_write_merges_with_the_mirrors_track() {
    let (start, end) = tracks(60, 62);
    for (io, from, to) in [
        (HostIo::Write, start + 1, end - 1),
        (HostIo::Write, start, end - 3),
        (HostIo::Update, start + 2, start + 4),
        (HostIo::Update, start, end),
    ] {
        let mut room = restoring(47, PROTECTED);
        let op = room.begin(1, io, (from, to), 60);
        assert_eq!(room.finish(op).map(|_| ()), Ok(()));
        let copy = room.issued.iter().position(
            |effect| matches!(effect, Effect::Copy { range, .. } if range.start < end && range.end > start),
        );
        let write = room
            .issued
            .iter()
            .position(|effect| matches!(effect, Effect::Write { .. } | Effect::Prepare { .. }));
        assert!(copy.unwrap() < write.unwrap(), "{io:?} {from}..{to}");
        let mut expected = all(1);
        expected[from as usize..to as usize].fill(60);
        assert_eq!(room.read(1, (0, BYTES)).unwrap(), expected);
        room.settle();
        assert_eq!(room.disks[&VolumeId(1)], expected);
    }
}

/// S25, S26: which tracks are restored is a table of one bit a track, can be shown, and survives a crash.
#[test]
fn what_is_restored_is_known_track_by_track() {
    let mut room = restoring(48, FULL_PROTECTED);
    let whole = ByteRange { start: 0, end: BYTES };
    assert_eq!(owed(&room), [whole]);
    let op = room.begin(1, HostIo::Write, tracks(60, 61), 60);
    room.finish_without_copies(op).unwrap();
    let known = [(0, 480), (488, BYTES)].map(|(start, end)| ByteRange { start, end });
    assert_eq!(owed(&room), known);
    assert_eq!(room.engine.pair(MIRROR).unwrap().remaining, 70);
    // The answer said that the mark is durable.
    room.pending.clear();
    room.crash();
    assert_eq!(room.state(2), PairState::ProtectedRestoring);
    assert_eq!(owed(&room), known);
    room.settle();
    let mut expected = all(1);
    expected[480..488].fill(60);
    assert_eq!(room.disks[&VolumeId(1)], expected);
}

/// S31 (Fig. 10), O6, decision 9: the old track is on the standard and its mark durable before the mirror's new data is issued.
#[test]
fn a_write_to_the_mirror_pushes_the_old_track_first() {
    let mut room = restoring(49, PROTECTED);
    let (start, end) = tracks(60, 61);
    let op = room.begin(2, HostIo::Write, (start + 1, start + 2), 70);
    while room.waiting(|effect| matches!(effect, Effect::Write { .. })) == 0 {
        assert!(
            room.perform_one() || {
                room.tick();
                true
            }
        );
    }
    assert_eq!(room.disks[&VolumeId(1)][start as usize..end as usize], [1; 8]);
    let cleared = room.durable.iter().any(|record| match record {
        Record::Cleared { runs, .. } => runs.iter().any(|run| run.overlaps(TrackRange::single(60))),
        _ => false,
    });
    assert!(cleared, "a crash now would copy the mirror's new data");
    room.finish(op).unwrap();
    room.settle();
    assert_eq!(room.disks[&VolumeId(1)], all(1));
    assert_eq!(room.read(2, (start, start + 3)).unwrap(), [1, 70, 1]);
    // The mirror has changed since: the next restore brings it.
    assert_eq!(room.verb(PROTECTED, &[(1, 2)]).unwrap().tracks, 1);
}

/// S32 (Fig. 11): the background copy reads the mirror, writes the standard, and marks, until nothing is left; the mirror answers hosts
/// all the time.
#[test]
fn the_background_copy_ends_in_split() {
    let mut room = restoring(50, PROTECTED);
    let mut left = 71;
    while room.state(2) == PairState::ProtectedRestoring {
        assert!(room.engine.ready(VolumeId(2)));
        let remaining = room.engine.pair(MIRROR).unwrap().remaining;
        assert!(remaining <= left, "a track came back on the list");
        left = remaining;
        if !room.perform_one() {
            room.tick();
        }
    }
    assert_eq!((left, room.state(2)), (0, PairState::Split));
    let ours = |effect: &Effect| match effect {
        Effect::Copy { from, to, .. } => *from == VolumeId(2) && to[..] == [VolumeId(1)],
        _ => true,
    };
    assert!(room.issued.iter().all(ours));
}

/// S33, decision 4: a copy that waited for its lock looks at the marks again, and leaves out what a host has written meanwhile.
#[test]
fn a_copy_that_waited_looks_at_the_marks_again() {
    let mut room = changed(51, 2);
    room.command(pair(PROTECTED));
    // It has its lock, and waits for the command to be durable; the copier comes after it.
    let (start, end) = tracks(1, 2);
    let op = room.begin(1, HostIo::Write, (start, end), 60);
    room.perform_all(|effect| matches!(effect, Effect::Journal { .. }));
    room.finish(op).unwrap();
    room.settle();
    let mut expected = all(1);
    expected[start as usize..end as usize].fill(60);
    assert_eq!(room.disks[&VolumeId(1)], expected);
    let copied = |effect: &Effect| matches!(effect, Effect::Copy { range, .. } if range.start < end && range.end > start);
    assert!(!room.issued.iter().any(copied));
}

/// S35: what a stopped restore has left stays marked, with what either side has changed since.
#[test]
fn a_stopped_restore_leaves_the_rest_marked() {
    let mut room = restoring(52, PROTECTED);
    let op = room.begin(1, HostIo::Write, tracks(50, 51), 60);
    room.finish_without_copies(op).unwrap();
    let left = room.engine.pair(MIRROR).unwrap().remaining;
    assert_eq!(left, 70);
    let op = room.begin(2, HostIo::Write, (480, 481), 70);
    let pushes = |e: &Effect| matches!(e, Effect::Copy { range, .. } if range.start == 480);
    while !room.replies.contains_key(&op) {
        room.perform_all(|effect| !is_copy(effect) || pushes(effect));
        room.tick();
    }
    let refused = room.verb(SPLIT, &[(1, 2)]).unwrap_err();
    assert!(matches!(refused.why, Why::State { .. }), "only with FORCE");
    room.verb(FORCE_SPLIT, &[(1, 2)]).unwrap();
    room.settle();
    assert_eq!(room.state(2), PairState::Split);
    room.check_at_rest();
    let mut image = all(1);
    image[480] = 70;
    assert_eq!(room.disks[&VolumeId(2)], image);
    let marked = |at: u64| {
        let union = room.engine.pending(MIRROR, Side::Union);
        union.iter().any(|extent| extent.start <= at && at < extent.end)
    };
    assert!(marked(400) && marked(480), "both sides' changes");
    room.verb(PROTECTED, &[(1, 2)]).unwrap();
    room.settle();
    assert_eq!(room.disks[&VolumeId(1)], image);
}

/// Not a cell of the table: a protected restore from a SUSPENDED pair whose mirror answers nobody keeps it so while it runs.
#[test]
fn a_protected_restore_does_not_show_a_mirror_that_a_fault_hid() {
    let mut room = duplex(53, 2);
    room.unwritable.insert(VolumeId(2));
    room.write(1, tracks(0, 4), 50).unwrap();
    room.unwritable.clear();
    assert_eq!(room.state(2), PairState::Suspended);
    assert!(!room.engine.ready(VolumeId(2)));
    let command = room.command(pair(PROTECTED));
    room.perform_all_but_copies();
    assert_eq!(room.finish_command(command).unwrap().tracks, 4);
    assert!(!room.engine.ready(VolumeId(2)), "it stays hidden");
    room.settle();
    assert_eq!(room.state(2), PairState::Split);
    assert!(room.engine.ready(VolumeId(2)), "and is whole now");
    assert_eq!(room.disks[&VolumeId(1)], all(1));
}

/// Not a cell of the table: a write error of the primary suspends PROTECTED-RESTORING; the rest stays marked, the mirror's image whole.
#[test]
fn a_primary_that_fails_suspends_its_protected_restore() {
    let mut room = restoring(54, PROTECTED);
    room.unwritable.insert(VolumeId(1));
    while room.state(2) == PairState::ProtectedRestoring {
        assert!(room.perform_one());
    }
    room.unwritable.clear();
    room.settle_effects();
    let view = room.engine.pair(MIRROR).unwrap();
    assert_eq!((view.state, view.reason), (PairState::Suspended, 3));
    assert!(view.mirror_ready, "its image is whole");
    assert_eq!(room.disks[&VolumeId(2)], all(1));
    room.check_at_rest();
    room.verb(PROTECTED, &[(1, 2)]).unwrap();
    room.settle();
    assert_eq!(room.disks[&VolumeId(1)], all(1));
}

/// An outcome that nobody asked for changes nothing: an effect ends once.
#[test]
fn an_effect_that_ends_twice_counts_once() {
    let mut room = restoring(55, PROTECTED);
    let first = room.pending.iter().position(is_copy).unwrap();
    let Effect::Copy { token, .. } = room.pending[first].clone() else {
        unreachable!()
    };
    room.perform_one_at(first);
    room.feed(Input::Done {
        token,
        outcome: Outcome::ReadFailed,
    });
    room.settle();
    assert_eq!(room.state(2), PairState::Split);
}

/// O5: what a restore has brought to the primary's other mirror may be lost with power after that mirror was split.
#[test]
fn a_split_beside_a_restore_outlives_the_loss_of_caches() {
    let mut room = Room::new(6, 3);
    room.verb(ESTABLISH, &[(1, 2), (1, 3)]).unwrap();
    room.settle();
    room.verb(SPLIT, &[(1, 3)]).unwrap();
    room.write(1, (0, BYTES), 50).unwrap();
    room.settle();
    room.verb(PROTECTED, &[(1, 3)]).unwrap();
    let before = room.disks.clone();
    room.perform_without_flushes();
    assert_ne!(
        room.disks[&VolumeId(2)],
        before[&VolumeId(2)],
        "the restore is at work"
    );
    room.command(pair(SPLIT));
    room.perform_without_flushes();
    room.crash();
    // Nothing that was not flushed is left.
    room.disks = before;
    assert_eq!(room.read(1, (0, BYTES)).unwrap(), all(1));
    room.settle();
    assert_eq!(room.state(2), PairState::Split);
    assert_eq!(room.read(2, (0, BYTES)).unwrap(), all(1));
}

/// O5: what a restore brings is a part of that image, and after a crash it is brought again: so it must be stable where it comes from.
#[test]
fn a_split_beside_a_restore_waits_until_what_is_restored_is_stable() {
    let mut room = Room::new(6, 3);
    room.verb(ESTABLISH, &[(1, 2), (1, 3)]).unwrap();
    room.settle();
    room.verb(SPLIT, &[(1, 3)]).unwrap();
    room.settle();
    room.write(3, (0, 4), 50).unwrap();
    room.verb(RESTORE, &[(1, 3)]).unwrap();
    let split = room.command(pair(SPLIT));
    let of_source =
        |effect: &Effect| matches!(effect, Effect::Flush { volume, .. } if *volume == VolumeId(3));
    room.perform_all(|effect| !of_source(effect));
    assert!(!room.answers.contains_key(&split), "the source is not stable yet");
    room.finish_command(split).unwrap();
    room.settle();
    assert_eq!(room.read(2, (0, 4)).unwrap(), [50; 4]);
}
