//! Checks: tracks that differ without a mark are found, under whatever load, and nothing else is.

use super::{mirrors::tracks, *};
use crate::{
    command::{RemoteAct, Side},
    effects::{Effect, Found},
    ids::CheckId,
    track::TrackRange,
};

fn check(room: &mut Room, mirror: u32, track: u64) {
    room.feed(Input::Check {
        id: CheckId(1),
        pair: PairId(VolumeId(mirror)),
        tracks: TrackRange::single(track),
    });
}

fn checked(room: &mut Room, mirror: u32, track: u64) -> Found {
    check(room, mirror, track);
    room.settle_effects();
    room.found.pop().expect("an answer")
}

fn act(room: &mut Room, mirror: u32, act: RemoteAct) {
    let id = room.command(Command::Remote {
        pair: (VolumeId(1), VolumeId(mirror)),
        act,
        dry_run: false,
    });
    room.finish_command(id).unwrap();
}

fn duplex(seed: u64) -> Room {
    let mut room = Room::new(seed, 2);
    room.verb(ESTABLISH, &[(1, 2)]).unwrap();
    room.settle();
    room
}

/// The mirror's disk lies about track 9.
fn damage(room: &mut Room) {
    room.disks.get_mut(&VolumeId(2)).unwrap()[72..80].fill(99);
}

#[test]
fn what_differs_without_a_mark_is_found() {
    let mut room = duplex(300);
    assert_eq!(checked(&mut room, 2, 9), Found::Equal);
    damage(&mut room);
    assert_eq!(checked(&mut room, 2, 8), Found::Equal);
    assert_eq!(checked(&mut room, 2, 9), Found::Different);
    room.unreadable.insert(VolumeId(2));
    assert_eq!(checked(&mut room, 2, 9), Found::Unreadable);
    room.unreadable.clear();
    room.verb(SPLIT, &[(1, 2)]).unwrap();
    room.settle();
    assert_eq!(checked(&mut room, 2, 9), Found::Different);
    room.write(1, tracks(9, 10), 50).unwrap();
    assert_eq!(checked(&mut room, 2, 9), Found::Marked);
    assert_eq!(checked(&mut room, 7, 9), Found::Marked, "no such pair");
}

/// A write of the track that came before the check has ended on both sides when they are compared, and one that comes later waits.
#[test]
fn a_check_stands_between_writes() {
    let mut room = duplex(301);
    for seed in 0..40 {
        let first = room.begin(1, HostIo::Write, tracks(9, 10), 10 + seed);
        if seed % 2 == 0 {
            room.perform_one();
        }
        check(&mut room, 2, 9);
        let second = room.begin(1, HostIo::Write, tracks(9, 10), 60 + seed);
        room.finish(first).unwrap();
        room.finish(second).unwrap();
        assert_eq!(room.found.pop(), Some(Found::Equal));
    }
    check(&mut room, 2, 9);
    let write = room.begin(1, HostIo::Write, tracks(9, 10), 1);
    let writes = |effect: &Effect| matches!(effect, Effect::Write { .. });
    assert_eq!(room.waiting(writes), 0, "the lock is the check's");
    let read = room.begin(1, HostIo::Read, tracks(9, 10), 0);
    let reads = |effect: &Effect| matches!(effect, Effect::Read { .. });
    room.perform_all(reads);
    room.finish(write).unwrap();
    room.finish(read).unwrap();
}

/// What an established pair is found to owe is copied, also after a crash.
#[test]
fn what_differs_is_copied() {
    for crash in [false, true] {
        let mut room = duplex(302);
        damage(&mut room);
        act(&mut room, 2, RemoteAct::Owe(vec![TrackRange::single(9)]));
        assert_eq!(room.state(2), PairState::Copy);
        if crash {
            room.crash();
        }
        room.settle();
        assert_eq!(room.state(2), PairState::Duplex);
        room.check_at_rest();
        assert_eq!(checked(&mut room, 2, 9), Found::Equal);
    }
}

/// In a pair that is apart it is marked, and the next copy brings it, in whichever direction.
#[test]
fn what_differs_in_a_split_pair_is_marked() {
    let mut room = duplex(303);
    room.verb(SPLIT, &[(1, 2)]).unwrap();
    room.settle();
    damage(&mut room);
    let refused = room.command(Command::Remote {
        pair: (VolumeId(1), VolumeId(2)),
        act: RemoteAct::Owe(vec![TrackRange::single(9)]),
        dry_run: false,
    });
    assert!(room.finish_command(refused).is_err());
    act(&mut room, 2, RemoteAct::Adopt(vec![TrackRange::single(9)]));
    room.crash();
    let marked = room.engine.pending(PairId(VolumeId(2)), Side::Union);
    assert!(marked.iter().any(|range| range.start <= 72 && range.end >= 80));
    assert_eq!(checked(&mut room, 2, 9), Found::Marked);
    room.verb(ESTABLISH, &[(1, 2)]).unwrap();
    room.settle();
    room.check_at_rest();
}
