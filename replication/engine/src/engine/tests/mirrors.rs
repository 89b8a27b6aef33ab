//! Establish, split, hold, and what hosts see of them.

use super::*;
use crate::{
    Limits,
    command::Side,
    effects::Effect,
    engine::harness::{TRACK, limits},
    journal::Record,
};

/// Tracks as bytes.
pub(super) fn tracks(start: u64, end: u64) -> (u64, u64) {
    (start * u64::from(TRACK), end * u64::from(TRACK))
}

/// Pair 1 -> 2 is DUPLEX, and nothing is under way.
pub(super) fn duplex(seed: u64, volumes: u32) -> Room {
    let mut room = Room::new(seed, volumes);
    room.verb(ESTABLISH, &[(1, 2)]).unwrap();
    room.settle();
    room.rotate_journal();
    room
}

/// Pair 1 -> 2 is SPLIT.
pub(super) fn split(seed: u64, volumes: u32) -> Room {
    let mut room = duplex(seed, volumes);
    room.verb(SPLIT, &[(1, 2)]).unwrap();
    room
}

/// S1, S52: any number of mirrors, each with the image of its own instant, and any of them can be restored.
#[test]
fn a_standard_has_many_mirrors_and_each_its_own_image() {
    let mut room = Room::new(20, 7);
    for mirror in 2..=7 {
        room.verb(ESTABLISH, &[(1, mirror)]).unwrap();
    }
    room.settle();
    for mirror in 2..=7 {
        room.verb(SPLIT, &[(1, mirror)]).unwrap();
        room.write(1, (3, 20), 100 + mirror as u8).unwrap();
    }
    let image = |mirror: u32| if mirror == 2 { 1 } else { 99 + mirror as u8 };
    for mirror in [4, 2, 7] {
        room.verb(RESTORE, &[(1, mirror)]).unwrap();
        assert_eq!(room.read(1, (3, 20)).unwrap(), [image(mirror); 17]);
        room.settle();
        room.verb(SPLIT, &[(1, mirror)]).unwrap();
        for mirror in 2..=7 {
            assert_eq!(room.read(mirror, (3, 20)).unwrap(), [image(mirror); 17]);
        }
        room.check_at_rest();
    }
}

/// S1: as many as the limit says, and the refusal names it.
#[test]
fn one_pair_too_many_is_refused() {
    let limits = Limits {
        pairs_per_volume: 3,
        ..limits()
    };
    let mut room = Room::with_limits(20, 5, limits);
    room.verb(ESTABLISH, &[(1, 2), (1, 3), (1, 4)]).unwrap();
    let refused = room.verb(ESTABLISH, &[(1, 5)]).unwrap_err();
    let volume = VolumeId(1);
    assert_eq!(refused.why, Why::TooManyPairs { volume, limit: 3 });
}

/// S3: not directly, not over other pairs, not in a group, and no pair twice.
#[test]
fn a_volume_is_never_its_own_mirror() {
    let mut room = Room::new(21, 3);
    let refuse = |room: &mut Room, members: &[(u32, u32)], member: usize| {
        let records = room.durable.len();
        let refused = room.verb(ESTABLISH, members).unwrap_err();
        assert_eq!(refused.member, member);
        assert!(matches!(refused.why, Why::Conflict { .. }), "{:?}", refused.why);
        assert_eq!(room.durable.len(), records, "a refusal changes nothing");
    };
    refuse(&mut room, &[(1, 1)], 0);
    refuse(&mut room, &[(1, 2), (1, 2)], 1);
    refuse(&mut room, &[(1, 2), (2, 3), (3, 1)], 2);
    room.verb(ESTABLISH, &[(1, 2)]).unwrap();
    room.verb(ESTABLISH, &[(2, 3)]).unwrap();
    refuse(&mut room, &[(2, 1)], 0);
    refuse(&mut room, &[(3, 1)], 0);
}

/// S4, S5: the mirror answers nobody while it is established or restored, and everybody once it is split.
#[test]
fn a_mirror_answers_only_in_its_own_states() {
    fn answers(room: &mut Room) -> bool {
        let answers = room.engine.ready(VolumeId(2));
        let kinds = [HostIo::Read, HostIo::Write, HostIo::Update, HostIo::Flush];
        for io in kinds.into_iter().filter(|_| !answers) {
            let op = room.begin(2, io, (0, 4), 7);
            assert_eq!(room.finish(op), Err(HostError::NotReady));
        }
        answers
    }
    let mut room = Room::new(22, 2);
    room.command(pair(ESTABLISH));
    room.perform_all_but_copies();
    assert_eq!((room.state(2), answers(&mut room)), (PairState::Copy, false));
    room.command(pair(SPLIT));
    room.perform_all_but_copies();
    assert_eq!((room.state(2), answers(&mut room)), (PairState::Splitting, false));
    room.settle();
    assert_eq!((room.state(2), answers(&mut room)), (PairState::Split, true));
    room.write(2, (0, 99), 5).unwrap();
    room.command(pair(RESTORE));
    room.perform_all_but_copies();
    assert_eq!((room.state(2), answers(&mut room)), (PairState::Restoring, false));
    room.settle();
    assert_eq!((room.state(2), answers(&mut room)), (PairState::Restored, false));
    room.verb(SPLIT, &[(1, 2)]).unwrap();
    room.write(1, (0, 99), 6).unwrap();
    room.command(pair(PROTECTED));
    room.perform_all_but_copies();
    assert_eq!(
        (room.state(2), answers(&mut room)),
        (PairState::ProtectedRestoring, true)
    );
    room.settle();
    room.verb(ESTABLISH, &[(1, 2)]).unwrap();
    room.settle();
    assert_eq!((room.state(2), answers(&mut room)), (PairState::Duplex, false));
    room.verb(Verb::Establish { full: true }, &[(1, 2)]).unwrap();
    room.command(pair(INSTANT));
    room.perform_all_but_copies();
    assert_eq!((room.state(2), answers(&mut room)), (PairState::Splitting, true));
}

pub(super) fn pair(verb: Verb) -> Command {
    Command::Pair {
        verb,
        members: vec![(VolumeId(1), VolumeId(2))],
        dry_run: false,
    }
}

/// S8: every track is copied, and what is written from the command on is the mirror's too, wherever the copy is.
#[test]
fn an_establish_copies_all_and_takes_every_update_along() {
    let mut room = Room::new(23, 2);
    room.command(pair(ESTABLISH));
    room.perform_all(|effect| matches!(effect, Effect::Journal { .. }));
    // Half of it is copied; one write to what is, one to what is not.
    for _ in 0..12 {
        let next = room.pending.iter().position(|e| matches!(e, Effect::Copy { .. }));
        let Effect::Copy { range, .. } = room.pending[next.unwrap()].clone() else {
            unreachable!()
        };
        room.perform_all(|effect| matches!(effect, Effect::Copy { range: r, .. } if *r == range));
    }
    room.write(1, (0, 5), 8).unwrap();
    room.write(1, (BYTES - 9, BYTES), 9).unwrap();
    room.settle();
    let copied: u64 = room
        .issued
        .iter()
        .filter_map(|effect| match effect {
            Effect::Copy { range, .. } => Some(range.end - range.start),
            _ => None,
        })
        .sum();
    assert!(copied >= BYTES);
    assert_eq!(room.disks[&VolumeId(1)], room.disks[&VolumeId(2)]);
    assert_eq!(room.disks[&VolumeId(2)][2], 8);
}

/// S9, S27, S56, decision 2: what either side changed since the split, and nothing else, is copied; what the mirror changed is gone.
#[test]
fn establishing_again_copies_the_union() {
    let mut room = duplex(24, 2);
    // Not a change of a side: the pair is established.
    room.write(1, tracks(40, 42), 3).unwrap();
    room.verb(SPLIT, &[(1, 2)]).unwrap();
    room.write(1, (17, 18), 50).unwrap();
    room.write(2, (41, 42), 60).unwrap();
    let id = PairId(VolumeId(2));
    let extents = |room: &Room, side| room.engine.pending(id, side);
    let extent = |start, end| ByteRange { start, end };
    assert_eq!(extents(&room, Side::Primary), [extent(16, 24)]);
    assert_eq!(extents(&room, Side::Mirror), [extent(40, 48)]);
    assert_eq!(extents(&room, Side::Union), [extent(16, 24), extent(40, 48)]);
    room.issued.clear();
    assert_eq!(room.verb(ESTABLISH, &[(1, 2)]).unwrap().tracks, 2);
    room.settle();
    assert_eq!(room.written(2), [extent(16, 24), extent(40, 48)]);
    assert_eq!(room.disks[&VolumeId(1)], room.disks[&VolumeId(2)]);
    assert_eq!(room.disks[&VolumeId(2)][41], 1);
}

/// S10, S38, S39, decision 6: a mirror held for its standard goes to another one after RELEASE only, with a full copy; the old pair is gone.
#[test]
fn a_held_mirror_is_given_to_another_standard_after_its_release() {
    let mut room = split(25, 4);
    room.write(2, (0, 4), 9).unwrap();
    let standard = VolumeId(1);
    let mirror = VolumeId(2);
    assert_eq!(
        room.verb(ESTABLISH, &[(3, 2)]).unwrap_err().why,
        Why::OtherStandard { mirror, standard }
    );
    // Its own standard may have it, held or not.
    room.verb(PROTECTED, &[(1, 2)]).unwrap();
    room.settle();
    room.configure(Condition::Release, 2).unwrap();
    assert_eq!(room.verb(ESTABLISH, &[(3, 2)]).unwrap().tracks, 71);
    room.settle();
    assert_eq!(room.disks[&mirror], all(3));
    assert_eq!(room.engine.pairs().len(), 1);
    for verb in [SPLIT, RESTORE, CANCEL] {
        let primary = standard;
        assert_eq!(
            room.verb(verb, &[(1, 2)]).unwrap_err().why,
            Why::NoSuchPair { primary, mirror }
        );
    }
    assert!(!room.members.contains(&standard), "the old standard is free");
    // An established mirror is not to be had.
    assert!(matches!(
        room.verb(ESTABLISH, &[(4, 2)]).unwrap_err().why,
        Why::OtherStandard { .. }
    ));
}

/// S6, S12, O8: from the command on writes go to the standard and its other mirrors only. They wait for one record, and reads do not.
#[test]
fn writes_after_a_split_never_reach_the_mirror() {
    let mut room = duplex(26, 3);
    room.verb(ESTABLISH, &[(1, 3)]).unwrap();
    room.settle();
    room.issued.clear();
    room.command(pair(SPLIT));
    let write = room.begin(1, HostIo::Write, (0, 8), 9);
    let read = room.begin(1, HostIo::Read, (8, 16), 0);
    assert_eq!(room.waiting(|e| matches!(e, Effect::Write { .. })), 0);
    room.perform_all(|effect| matches!(effect, Effect::Read { .. }));
    assert!(room.replies.contains_key(&read), "reads go on");
    room.finish(write).unwrap();
    assert_eq!(
        (
            room.written(1).len(),
            room.written(2).len(),
            room.written(3).len()
        ),
        (1, 0, 1)
    );
    assert_eq!(room.state(3), PairState::Duplex);
    assert_eq!(room.disks[&VolumeId(3)][0], 9);
    assert_eq!(room.read(2, (0, 8)).unwrap(), [1; 8]);
}

/// S11, S12, decision 1: the image is that of the command although the pair was still copying; a track that is owed is pushed before
/// the first new write to it.
#[test]
fn a_split_while_copying_has_the_image_of_the_command() {
    for verb in [SPLIT, INSTANT] {
        let mut room = Room::new(27, 2);
        room.command(pair(ESTABLISH));
        room.command(pair(verb));
        room.perform_all(|effect| matches!(effect, Effect::Journal { .. }));
        let op = room.begin(1, HostIo::Write, (2, 30), 9);
        room.finish(op).unwrap();
        let write = |effect: &Effect| matches!(effect, Effect::Write { to: VolumeId(1), .. });
        let written = room.issued.iter().position(write).unwrap();
        let pushed: u64 = room.issued[..written]
            .iter()
            .filter_map(|effect| match effect {
                Effect::Copy { to, range, .. } if to[..] == [VolumeId(2)] => {
                    Some(range.end.min(32) - range.start.min(32))
                }
                _ => None,
            })
            .sum();
        assert!(pushed >= 32, "four tracks were owed: {pushed}");
        if room.engine.ready(VolumeId(2)) {
            assert_eq!(room.read(2, (0, BYTES)).unwrap(), all(1));
        }
        room.settle();
        assert_eq!(room.state(2), PairState::Split);
        assert_eq!(room.disks[&VolumeId(2)], all(1));
        assert_eq!(room.disks[&VolumeId(1)][2..30], [9; 28]);
    }
}

/// S92, decision 1: a write over many tracks that is in flight at the split is wholly in the image, one that comes later not at all.
#[test]
fn a_write_over_many_tracks_is_before_or_after_a_split() {
    let mut room = duplex(28, 2);
    room.write(1, (0, 1), 1).unwrap();
    let before = room.begin(1, HostIo::Write, (3, 300), 40);
    let split = room.command(pair(SPLIT));
    let after = room.begin(1, HostIo::Write, (3, 300), 50);
    room.finish_command(split).unwrap();
    room.finish(before).unwrap();
    room.finish(after).unwrap();
    room.settle();
    assert_eq!(room.disks[&VolumeId(1)][3..300], [50; 297]);
    assert_eq!(room.disks[&VolumeId(2)][3..300], [40; 297]);
}

/// S57, O8: a group is one record, or nothing at all.
#[test]
fn a_group_is_split_by_one_record() {
    let mut room = duplex(29, 4);
    room.verb(ESTABLISH, &[(3, 4)]).unwrap();
    room.settle();
    let changes = |room: &Room| {
        let records = room.durable.iter();
        records
            .filter_map(|record| match record {
                Record::StateChange(change) => Some(change.members.len()),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let before = changes(&room).len();
    room.verb(SPLIT, &[(1, 2), (1, 3)]).unwrap_err();
    assert_eq!(changes(&room).len(), before);
    assert_eq!(room.state(2), PairState::Duplex);
    room.verb(SPLIT, &[(1, 2), (3, 4)]).unwrap();
    assert_eq!(changes(&room)[before..], [2]);
}

/// S53: an update reaches the mirrors of mirrors, and leaves a mark where a pair below is apart.
#[test]
fn a_cascade_carries_updates_all_the_way() {
    let mut room = duplex(30, 4);
    room.verb(ESTABLISH, &[(2, 3)]).unwrap();
    room.settle();
    room.verb(ESTABLISH, &[(3, 4)]).unwrap();
    room.settle();
    room.write(1, (5, 21), 9).unwrap();
    for mirror in 2..=4 {
        assert_eq!(room.disks[&VolumeId(mirror)][5..21], [9; 16]);
    }
    // The middle is split off: the mark is at the last pair that is apart.
    room.verb(SPLIT, &[(3, 4)]).unwrap();
    room.write(1, (64, 65), 8).unwrap();
    assert_eq!(room.disks[&VolumeId(3)][64], 8);
    assert_eq!(room.disks[&VolumeId(4)][64], 1);
    assert_eq!(room.verb(ESTABLISH, &[(3, 4)]).unwrap().tracks, 1);
    room.settle();
    assert_eq!(room.disks[&VolumeId(4)][64], 8);
    room.check_at_rest();
}

/// S47: a mirror of another size or block size is refused, and nothing changes.
#[test]
fn a_mirror_must_have_the_same_geometry() {
    use crate::command::VolumeSpec;
    let mut room = Room::new(31, 2);
    for (number, bytes, block_size, what) in [(8, BYTES - 4, 4, "capacity"), (9, BYTES, 2, "block size")] {
        room.engine
            .define_volume(VolumeId(number), VolumeSpec { bytes, block_size });
        let (a, b) = (VolumeId(1), VolumeId(number));
        assert_eq!(
            room.verb(ESTABLISH, &[(1, number)]).unwrap_err().why,
            Why::Geometry { a, b, what }
        );
    }
    assert!(room.members.is_empty());
}
