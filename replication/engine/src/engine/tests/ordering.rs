//! The ordering rules: what must be durable before what is issued or answered.

use super::{
    mirrors::{duplex, pair, split, tracks},
    *,
};
use crate::{effects::Effect, journal::Record, track::TrackRange};

fn is_write(effect: &Effect) -> bool {
    matches!(effect, Effect::Write { .. })
}

fn is_journal(effect: &Effect) -> bool {
    matches!(effect, Effect::Journal { .. })
}

fn is_flush_of(volume: u32) -> impl Fn(&Effect) -> bool {
    move |effect| matches!(effect, Effect::Flush { volume: of, .. } if of.0 == volume)
}

fn clears(record: &Record, track: u64) -> bool {
    match record {
        Record::Cleared { runs, .. } => runs.iter().any(|run| run.overlaps(TrackRange::single(track))),
        _ => false,
    }
}

fn cleared(room: &Room, track: u64) -> bool {
    room.durable.iter().any(|record| clears(record, track))
}

/// O1: nothing is issued to a cold region before its record is durable; a hot one costs no record. So when the pair is equal, and when
/// either side of it is written apart.
#[test]
fn a_region_is_hot_before_it_is_written() {
    for (mut room, volume) in [(duplex(80, 2), 1), (split(80, 2), 1), (split(80, 2), 2)] {
        let op = room.begin(volume, HostIo::Write, (0, 8), 9);
        assert_eq!((room.waiting(is_write), room.waiting(is_journal)), (0, 1));
        room.perform_all(is_journal);
        assert!(matches!(room.durable.last(), Some(Record::Hot(_))));
        assert!(room.waiting(is_write) > 0);
        room.finish(op).unwrap();
        let records = room.durable.len();
        room.write(volume, (20, 30), 9).unwrap();
        assert_eq!(room.durable.len(), records, "the region is hot");
    }
}

/// O2: a track is cleared only after a flush of the copy's destination that began after the copy had ended.
#[test]
fn a_copy_is_stable_before_its_track_is_cleared() {
    let mut room = Room::new(81, 2);
    room.command(pair(ESTABLISH));
    room.perform_all(|effect| is_journal(effect) || matches!(effect, Effect::Copy { .. }));
    for _ in 0..10 {
        room.tick();
        room.perform_all(|effect| is_journal(effect) || matches!(effect, Effect::Copy { .. }));
    }
    assert!(room.waiting(is_flush_of(2)) > 0, "it settles");
    assert_eq!(room.disks[&VolumeId(2)], all(1), "everything is copied");
    assert!((0..71).all(|track| !cleared(&room, track)), "nothing is flushed");
    room.settle();
    assert!((0..71).all(|track| cleared(&room, track)));
}

/// O2: a region cools only after every volume its writes went to is flushed.
#[test]
fn a_region_cools_after_its_legs_are_flushed() {
    let mut room = duplex(82, 2);
    room.write(1, (0, 8), 9).unwrap();
    for _ in 0..10 {
        room.tick();
        room.perform_all(is_journal);
    }
    assert!(room.waiting(is_flush_of(2)) > 0);
    assert_eq!(room.engine.hot_regions(), 1);
    room.settle_effects();
    assert_eq!(room.engine.hot_regions(), 0);
}

/// O3, S93: FUA and SYNCHRONIZE CACHE are answered after every leg is flushed.
#[test]
fn a_promise_of_stability_waits_for_every_leg() {
    let mut room = duplex(83, 3);
    room.verb(ESTABLISH, &[(1, 3)]).unwrap();
    room.settle();
    room.write(1, (0, 8), 8).unwrap();
    let fua = room.begin_fua(1, (0, 8), 9);
    let flush = room.begin(1, HostIo::Flush, (0, 0), 0);
    room.perform_all(|effect| is_write(effect) || is_journal(effect));
    for op in [fua, flush] {
        assert!(!room.replies.contains_key(&op));
    }
    for volume in 1..=3 {
        assert_eq!(room.waiting(is_flush_of(volume)), 2, "volume {volume}");
        assert!(!room.replies.contains_key(&fua) && !room.replies.contains_key(&flush));
        room.perform_all(is_flush_of(volume));
    }
    assert!(room.replies.contains_key(&fua) && room.replies.contains_key(&flush));
}

/// O3, O5: during a protected restore a flush covers the mirror as well, for the standard's content is still there; and the write that took
/// a track off the list is answered when its mark is durable, which is after its data is.
#[test]
fn a_write_is_answered_after_the_mark_it_took_off() {
    let mut room = split(84, 2);
    room.write(1, (0, BYTES), 50).unwrap();
    room.command(pair(PROTECTED));
    room.perform_all_but_copies();
    let flush = room.begin(1, HostIo::Flush, (0, 0), 0);
    assert!(room.waiting(is_flush_of(1)) > 0 && room.waiting(is_flush_of(2)) > 0);
    room.finish_without_copies(flush).unwrap();
    let (start, end) = tracks(60, 61);
    let op = room.begin(1, HostIo::Write, (start, end), 60);
    room.perform_all(|effect| is_write(effect) || is_journal(effect));
    assert!(!cleared(&room, 60), "its data is in a cache");
    assert!(
        !room.replies.contains_key(&op),
        "after a crash it would be copied over"
    );
    room.finish(op).unwrap();
    assert!(cleared(&room, 60));
}

/// O5: the restored data is stable on the standard before its mark "restored" is written.
#[test]
fn restored_data_is_stable_before_its_mark() {
    let mut room = split(85, 2);
    room.write(1, (0, BYTES), 50).unwrap();
    room.command(pair(PROTECTED));
    room.perform_all_but_copies();
    for _ in 0..10 {
        room.perform_all(|effect| is_journal(effect) || matches!(effect, Effect::Copy { .. }));
        room.tick();
    }
    assert_eq!(room.disks[&VolumeId(1)], all(1), "everything is copied");
    assert!((0..71).all(|track| !cleared(&room, track)));
    // The copies read the mirror, whose bytes may be in a cache too.
    assert!(room.waiting(is_flush_of(1)) > 0 && room.waiting(is_flush_of(2)) > 0);
    room.settle();
    assert!((0..71).all(|track| cleared(&room, track)));
}

/// O6: the push of a split is stable and marked before the standard's new data is issued.
#[test]
fn a_push_is_stable_before_the_new_data() {
    let mut room = Room::new(86, 2);
    room.command(pair(ESTABLISH));
    room.command(pair(INSTANT));
    room.perform_all(is_journal);
    let op = room.begin(1, HostIo::Write, (481, 483), 9);
    while room.waiting(is_write) == 0 {
        if !room.perform_one() {
            room.tick();
        }
    }
    assert!(cleared(&room, 60));
    assert_eq!(room.disks[&VolumeId(2)][480..488], [1; 8]);
    room.finish(op).unwrap();
    room.settle();
    assert_eq!(room.disks[&VolumeId(2)], all(1));
}

/// O8, O9: a command is answered after its record is durable, a split after its image is stable too.
#[test]
fn a_split_is_answered_when_its_image_is_stable() {
    let mut room = duplex(87, 2);
    let id = room.command(pair(SPLIT));
    room.perform_all(is_journal);
    assert!(!room.answers.contains_key(&id), "the mirror is not flushed");
    room.perform_all(is_flush_of(2));
    assert!(room.answers.contains_key(&id));
}
