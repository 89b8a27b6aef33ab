use super::{Bitmap, BitmapError, CHUNK_TRACKS, Chunk};
use crate::{ids::Region, track::TrackRange};
use bitvec::prelude::*;
use proptest::prelude::*;

/// Two chunks and a short third.
const TRACKS: u64 = 2 * CHUNK_TRACKS + 100;

fn range(start: u64, end: u64) -> TrackRange {
    TrackRange::new(start, end)
}

#[test]
fn a_16_tib_volume_is_filled_and_cleared_without_bits() {
    let mut bitmap = Bitmap::new(1 << 28);
    let bare = bitmap.heap_bytes();
    assert!(bare <= 128 * 1024);
    bitmap.fill();
    assert_eq!((bitmap.count(), bitmap.heap_bytes()), (1 << 28, bare));
    bitmap.clear(range(12_345, 12_346));
    assert_eq!(bitmap.heap_bytes(), bare + 4096);
    bitmap.set(range(12_345, 12_346));
    assert_eq!((bitmap.heap_bytes(), bitmap.is_full()), (bare, true));
    bitmap.clear(range(1, (1 << 28) - 1));
    assert_eq!(
        bitmap.runs().collect::<Vec<_>>(),
        [range(0, 1), range((1 << 28) - 1, 1 << 28)]
    );
}

#[test]
fn tracks_that_do_not_exist_are_never_in() {
    let mut bitmap = Bitmap::new(100);
    assert_eq!(bitmap.set(range(90, 5000)), 10);
    bitmap.set_word(Region(1), u64::MAX);
    assert_eq!(bitmap.word(Region(1)), u64::MAX >> 28);
    assert_eq!(
        (bitmap.count(), bitmap.word(Region(7)), bitmap.test(100)),
        (36, 0, false)
    );
    assert!(bitmap.all(range(64, 100)) && !bitmap.all(range(64, 101)));
    bitmap.set(range(0, 64));
    assert_eq!(bitmap, Bitmap::full(100));
    assert_eq!(Bitmap::new(0), Bitmap::full(0));
}

#[test]
fn runs_are_limited_and_clipped() {
    let mut bitmap = Bitmap::new(TRACKS);
    bitmap.set(range(CHUNK_TRACKS - 3, CHUNK_TRACKS + 5));
    assert_eq!(
        bitmap.next_run(0, 4),
        Some(range(CHUNK_TRACKS - 3, CHUNK_TRACKS + 1))
    );
    assert_eq!(
        bitmap.next_run(CHUNK_TRACKS, 99),
        Some(range(CHUNK_TRACKS, CHUNK_TRACKS + 5))
    );
    assert_eq!(bitmap.next_run(CHUNK_TRACKS + 5, 99), None);
    assert_eq!(
        bitmap.runs_in(range(0, CHUNK_TRACKS)).collect::<Vec<_>>(),
        [range(CHUNK_TRACKS - 3, CHUNK_TRACKS)]
    );
}

#[test]
fn encoding_is_byte_exact() {
    let mut bitmap = Bitmap::new(3 * CHUNK_TRACKS);
    bitmap.set(range(0, CHUNK_TRACKS));
    bitmap.set(range(2 * CHUNK_TRACKS + 8, 2 * CHUNK_TRACKS + 9));
    let mut bytes = Vec::new();
    bitmap.encode(&mut bytes);
    let mut expected = vec![0, 0x80, 1, 0, 0, 0, 0, 0];
    expected.extend([1, 0, 0, 0, 1, 0, 0, 0]);
    expected.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    expected.extend([2, 0, 0, 0, 1, 0, 0, 0]);
    expected.extend((0..4096).map(|byte| u8::from(byte == 1)));
    assert_eq!(bytes, expected);
}

#[test]
fn damaged_bytes_are_refused_by_name() {
    let mut bitmap = Bitmap::new(100);
    bitmap.set(range(3, 4));
    let mut good = Vec::new();
    bitmap.encode(&mut good);
    let refuse = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        edit(&mut bytes);
        Bitmap::decode(&mut bytes.as_slice()).unwrap_err()
    };
    assert_eq!(refuse(&|b| b.truncate(500)), BitmapError::Short);
    assert_eq!(refuse(&|b| b.truncate(7)), BitmapError::Short);
    assert_eq!(refuse(&|b| b[7] = 0x80), BitmapError::TooLong);
    assert_eq!(refuse(&|b| b[8] = 3), BitmapError::Kind);
    assert_eq!(refuse(&|b| b[9] = 1), BitmapError::Kind);
    assert_eq!(refuse(&|b| b[12] = 2), BitmapError::Chunks);
    assert_eq!(refuse(&|b| b[12] = 0), BitmapError::Chunks);
    assert_eq!(refuse(&|b| b[16] = 0), BitmapError::NotNormal);
    assert_eq!(refuse(&|b| b[16 + 13] = 0x10), BitmapError::NotNormal);
}

#[derive(Debug, Clone)]
enum Step {
    Set(u64, u64),
    Clear(u64, u64),
    Word(u64, u64),
    Fill,
    Reset,
    Union(Vec<(u64, u64)>),
}

/// Positions near the borders of words and chunks, and anywhere.
fn at() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0u64..4, 0u64..5).prop_map(|(chunk, off)| (chunk * CHUNK_TRACKS + off).saturating_sub(2)),
        (0u64..40, 0u64..5).prop_map(|(word, off)| (word * 64 + off).saturating_sub(2)),
        0..TRACKS + 70,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (at(), at()).prop_map(|(a, b)| Step::Set(a.min(b), a.max(b))),
        4 => (at(), at()).prop_map(|(a, b)| Step::Clear(a.min(b), a.max(b))),
        2 => (at(), any::<u64>()).prop_map(|(a, word)| Step::Word(a / 64, word)),
        1 => Just(Step::Fill),
        1 => Just(Step::Reset),
        1 => prop::collection::vec((at(), at()), 0..4).prop_map(Step::Union),
    ]
}

fn put(oracle: &mut BitVec, start: u64, end: u64, value: bool) {
    let end = end.min(TRACKS);
    if start < end {
        oracle[start as usize..end as usize].fill(value);
    }
}

fn invariants(bitmap: &Bitmap) {
    for (index, chunk) in bitmap.chunks.iter().enumerate() {
        if let Chunk::Mixed { ones, words } = chunk {
            assert_eq!(*ones, super::count_ones(words));
            assert!(*ones > 0 && u64::from(*ones) < bitmap.chunk_range(index).len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_does_what_bitvec_does(steps in prop::collection::vec(step(), 1..24), probe in at(), limit in 1u64..200) {
        let mut bitmap = Bitmap::new(TRACKS);
        let mut oracle: BitVec = bitvec![0; TRACKS as usize];
        for step in steps {
            let before = oracle.count_ones() as u64;
            match step {
                Step::Set(start, end) => {
                    put(&mut oracle, start, end, true);
                    prop_assert_eq!(bitmap.set(range(start, end)), oracle.count_ones() as u64 - before);
                }
                Step::Clear(start, end) => {
                    put(&mut oracle, start, end, false);
                    prop_assert_eq!(bitmap.clear(range(start, end)), before - oracle.count_ones() as u64);
                }
                Step::Word(region, word) => {
                    bitmap.set_word(Region(region), word);
                    for bit in 0..64 {
                        put(&mut oracle, region * 64 + bit, region * 64 + bit + 1, word >> bit & 1 == 1);
                    }
                }
                Step::Fill => {
                    bitmap.fill();
                    oracle.fill(true);
                }
                Step::Reset => {
                    bitmap.reset();
                    oracle.fill(false);
                }
                Step::Union(ranges) => {
                    let mut other = Bitmap::new(TRACKS);
                    for (a, b) in ranges {
                        other.set(range(a.min(b), a.max(b)));
                        put(&mut oracle, a.min(b), a.max(b), true);
                    }
                    let mut absorbing = bitmap.clone();
                    prop_assert_eq!(Bitmap::union_count(&[&bitmap, &other]), oracle.count_ones() as u64);
                    bitmap.union(&other);
                    absorbing.absorb(other);
                    prop_assert_eq!(&absorbing, &bitmap);
                }
            }
            invariants(&bitmap);
            prop_assert_eq!(bitmap.count(), oracle.count_ones() as u64);
        }
        let ones: Vec<u64> = bitmap.runs().flat_map(TrackRange::iter).collect();
        prop_assert_eq!(&ones, &oracle.iter_ones().map(|bit| bit as u64).collect::<Vec<_>>());
        prop_assert_eq!(bitmap.test(probe), oracle.get(probe as usize).is_some_and(|bit| *bit));
        let run = bitmap.next_run(probe, limit);
        let start = ones.iter().copied().find(|bit| *bit >= probe);
        prop_assert_eq!(run.map(|run| run.start), start);
        if let Some(run) = run {
            prop_assert!(run.len() <= limit && bitmap.all(run));
            prop_assert!(run.len() == limit || !bitmap.test(run.end));
        }
        prop_assert_eq!(bitmap.any(range(probe, probe + limit)), run.is_some_and(|run| run.start < probe + limit));
        let mut bytes = Vec::new();
        bitmap.encode(&mut bytes);
        bytes.push(7);
        let mut rest = bytes.as_slice();
        prop_assert_eq!(Bitmap::decode(&mut rest), Ok(bitmap));
        prop_assert_eq!(rest, [7]);
    }
}
