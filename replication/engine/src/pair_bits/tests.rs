use super::{Change, PairBits, Which};
use crate::{bitmap::Bitmap, ids::Region, track::TrackRange};
use proptest::prelude::*;

const TRACKS: u64 = 64;

/// Four words: primary changed, mirror changed, todo, unsettled.
fn bits(words: [u64; 4]) -> PairBits {
    let mut bits = PairBits::new(TRACKS);
    bits.primary_changed.set_word(Region(0), words[0]);
    bits.mirror_changed.set_word(Region(0), words[1]);
    bits.todo.set_word(Region(0), words[2]);
    bits.unsettled.set_word(Region(0), words[3]);
    bits
}

fn words(bits: &PairBits) -> [u64; 4] {
    [
        &bits.primary_changed,
        &bits.mirror_changed,
        &bits.todo,
        &bits.unsettled,
    ]
    .map(|map| map.word(Region(0)))
}

/// S9, S14, S27, S35, decision 2: the tables of tracks, as whole bitmaps.
#[test]
fn each_change_moves_what_its_name_says() {
    const START: [u64; 4] = [0b0001, 0b0010, 0b0100, 0b1000];
    let cases = [
        (Change::Keep, START),
        (Change::OweAll, [0, 0, u64::MAX, 0]),
        (Change::OweUnion, [0, 0, 0b1111, 0]),
        (Change::Part, [0, 0, 0b0100, 0b1000]),
        (Change::StopIntoPrimary, [0b1101, 0b0010, 0, 0]),
        (Change::StopIntoMirror, [0b0001, 0b1110, 0, 0]),
        (Change::Equal, [0; 4]),
        (Change::OwePrimaryChanged, [0, 0, 0b0001, 0]),
    ];
    assert_eq!(cases.map(|(change, _)| change), Change::ALL);
    for (change, expected) in cases {
        let mut bits = bits(START);
        let mut changes = Bitmap::new(TRACKS);
        for more in [0, 0b10_0001] {
            changes.set_word(Region(0), more);
            let mut with = bits.clone();
            with.primary_changed.union(&changes);
            with.apply(change);
            assert_eq!(bits.todo_after(change, &changes), with.todo.count(), "{change:?}");
        }
        bits.apply(change);
        assert_eq!(words(&bits), expected, "{change:?}");
    }
}

#[test]
fn what_was_copied_is_owed_until_it_is_settled() {
    let mut bits = bits([0, 0, 0b1110, 0]);
    bits.copied(TrackRange::new(0, 2));
    assert_eq!(words(&bits), [0, 0, 0b1100, 0b0010]);
    assert_eq!(bits.word(Which::Owed, Region(0)), 0b1110);
    bits.settled(TrackRange::new(1, 2));
    assert_eq!(bits.word(Which::Owed, Region(0)), 0b1100);
}

/// The bits as the journal knows them.
fn as_journaled(live: &PairBits) -> PairBits {
    PairBits {
        todo: live.owed(),
        unsettled: PairBits::new(TRACKS).todo,
        ..live.clone()
    }
}

proptest! {
    /// Replay, which does not know of `unsettled`, comes to the same as the live engine after any change.
    #[test]
    fn live_and_replay_agree(mut start in any::<[u64; 4]>(), changes in prop::collection::vec(0..Change::ALL.len(), 1..6)) {
        start[3] &= !start[2];
        let mut live = bits(start);
        let mut replayed = as_journaled(&live);
        for change in changes {
            live.apply(Change::ALL[change]);
            replayed.apply(Change::ALL[change]);
            prop_assert_eq!(&as_journaled(&live), &replayed);
        }
    }
}
