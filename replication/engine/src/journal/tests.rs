use super::*;
use crate::{
    bitmap::Bitmap,
    command::VolumeSpec,
    ids::{PairId, Region, VolumeId},
    pair_bits::{Change, PairBits, Which},
    state::PairState,
    track::TrackRange,
};
use proptest::prelude::*;
use std::fmt::Write as _;

const P: VolumeId = VolumeId(1);
const M: VolumeId = VolumeId(2);
const PAIR: PairId = PairId(M);

fn header() -> Header {
    Header {
        epoch: 7,
        system_id: *b"HOLDFAST-1      ",
        track_size: 65536,
    }
}

fn meta(state: PairState) -> PairMeta {
    PairMeta {
        primary: P,
        state,
        mirror_ready: true,
        full: false,
        inconsistent: true,
        reason: 4,
        resumes: false,
        split_at_ms: 0x0000_019A_0102_0304,
    }
}

fn mark(which: Which) -> MarkWord {
    MarkWord {
        pair: PAIR,
        which,
        region: Region(1),
        bits: 0x8000_0000_0000_0001,
    }
}

/// One record of each type.
fn samples() -> Vec<Record> {
    let spec = VolumeSpec {
        bytes: 100 * 65536,
        block_size: 512,
    };
    let mut bits = PairBits::new(100);
    bits.primary_changed.fill();
    let config = VolumeConfig {
        volume: M,
        hold: Hold::Own,
        not_ready: true,
        inconsistent: false,
    };
    vec![
        Record::SnapshotBegin {
            at_ms: 0x0000_019A_0000_0001,
        },
        Record::Volume { volume: P, spec },
        Record::Volume { volume: M, spec },
        Record::Config(config),
        Record::Pair {
            pair: PAIR,
            meta: meta(PairState::Split),
            bits: Box::new(bits),
        },
        Record::SnapshotEnd,
        Record::Hot(vec![(P, Region(1))]),
        Record::StateChange(StateChange {
            at_ms: 0x0000_019A_0000_0002,
            marks: vec![mark(Which::MirrorChanged)],
            members: vec![Member {
                pair: PAIR,
                meta: meta(PairState::Restoring),
                change: Change::OweUnion,
            }],
            configs: vec![VolumeConfig {
                hold: Hold::Strict,
                not_ready: false,
                inconsistent: true,
                ..config
            }],
        }),
        Record::Cleared {
            pair: PAIR,
            runs: vec![TrackRange::new(3, 9), TrackRange::new(64, 65)],
        },
        Record::Cold {
            regions: vec![(P, Region(1))],
            marks: vec![mark(Which::Owed)],
        },
    ]
}

/// The file, and where each record begins and ends. All but the last three were durable in time.
fn file(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header().encode().to_vec();
    let mut writer = Writer::new(&header());
    let mut edges = vec![bytes.len()];
    for record in records {
        let seq = writer.append(record, &mut bytes);
        writer.synced(seq.saturating_sub(3));
        edges.push(bytes.len());
    }
    (bytes, edges)
}

fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, bytes) in bytes.chunks(32).enumerate() {
        let _ = write!(text, "    {:04x} ", line * 32);
        for group in bytes.chunks(4) {
            text.push(' ');
            for byte in group {
                let _ = write!(text, "{byte:02x}");
            }
        }
        text.push('\n');
    }
    text
}

fn records(journal: &Journal) -> Vec<Record> {
    journal.entries.iter().map(|entry| entry.record.clone()).collect()
}

#[test]
fn the_bytes_are_those_of_the_documentation() {
    const TITLE: &str = "## A small journal\n\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/journal.md");
    let page = std::fs::read_to_string(path).unwrap();
    let prose = page.find(TITLE).unwrap() + TITLE.len();
    let expected = dump(&file(&samples()).0);
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{}{expected}", &page[..prose])).unwrap();
    } else {
        assert!(
            page[prose..] == expected,
            "docs/journal.md shows other bytes than the code writes:\n{expected}"
        );
    }
}

#[test]
fn a_file_is_read_back() {
    let (bytes, edges) = file(&samples());
    let journal = parse(&bytes).unwrap();
    assert_eq!((journal.header.clone(), records(&journal)), (header(), samples()));
    assert_eq!((journal.valid_len, journal.torn), (bytes.len() as u64, false));
    let offsets: Vec<usize> = journal
        .entries
        .iter()
        .map(|entry| entry.offset as usize)
        .collect();
    assert_eq!(offsets, edges[..samples().len()]);
}

#[test]
fn zeros_end_a_file() {
    let (mut bytes, edges) = file(&samples());
    bytes.resize(bytes.len() + 4096, 0);
    let journal = parse(&bytes).unwrap();
    assert_eq!(
        (journal.valid_len as usize, journal.torn),
        (edges[samples().len()], false)
    );
}

/// O14: every byte of the last record is a place to tear it.
#[test]
fn a_torn_end_counts_as_not_written_wherever_it_is_torn() {
    let (bytes, edges) = file(&samples());
    for cut in HEADER_BYTES..bytes.len() {
        let journal = parse(&bytes[..cut]).unwrap();
        let whole = edges.iter().filter(|edge| **edge <= cut).count() - 1;
        assert_eq!(
            (journal.entries.len(), journal.valid_len as usize),
            (whole, edges[whole]),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_hole_in_what_was_not_durable_is_a_torn_end() {
    let (mut bytes, edges) = file(&samples());
    let last = samples().len();
    bytes[edges[last - 2]..edges[last - 1]].fill(0);
    let journal = parse(&bytes).unwrap();
    assert_eq!((journal.entries.len(), journal.torn), (last - 2, true));
}

#[test]
fn a_bad_byte_in_what_was_durable_is_damage() {
    let (bytes, edges) = file(&samples());
    // The last record says that three before it, and all earlier ones, were durable.
    let durable = samples().len() - 4;
    for record in 0..durable {
        for at in edges[record]..edges[record + 1] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            match parse(&bytes) {
                Err(JournalError::Damaged { offset, seq, .. }) => {
                    assert_eq!(
                        (offset as usize, seq as usize),
                        (edges[record], record + 1),
                        "byte {at}"
                    );
                }
                other => panic!("byte {at} of record {record}: {other:?}"),
            }
        }
    }
}

#[test]
fn leftovers_of_another_epoch_are_no_records() {
    let (mut bytes, _) = file(&samples()[..6]);
    let len = bytes.len();
    let mut old = Writer::new(&Header { epoch: 6, ..header() });
    for record in samples() {
        let seq = old.append(&record, &mut bytes);
        old.synced(seq);
    }
    let journal = parse(&bytes).unwrap();
    assert_eq!(
        (journal.entries.len(), journal.valid_len as usize, journal.torn),
        (6, len, true)
    );
}

#[test]
fn headers_are_refused_by_name() {
    let edit = |at: usize, value: u8| {
        let mut bytes = header().encode();
        bytes[at] = value;
        Header::decode(&bytes).unwrap_err()
    };
    assert_eq!(edit(0, b'h'), JournalError::NotAJournal);
    assert_eq!(edit(8, 2), JournalError::Version(2));
    assert_eq!(edit(17, 1), JournalError::Header);
    assert_eq!(edit(50, 1), JournalError::Header);
    assert_eq!(
        Header::decode(&header().encode()[..63]),
        Err(JournalError::NotAJournal)
    );
    assert_eq!(parse(&[]), Err(JournalError::NotAJournal));
}

#[test]
fn whole_records_that_mean_nothing_are_refused_by_name() {
    let decode = |code: u16, payload: &[u8]| codec::decode(code, payload).unwrap_err();
    assert_eq!(decode(99, &[]), RecordError::Type(99));
    assert_eq!(decode(1, &[0; 7]), RecordError::Short);
    assert_eq!(decode(2, &[0]), RecordError::Long);
    assert_eq!(
        decode(4, &[1, 0, 0, 0, 3, 0, 0, 0]),
        RecordError::Code {
            field: "hold",
            code: 3
        }
    );
    assert_eq!(decode(4, &[1, 0, 0, 0, 0, 4, 0, 0]), RecordError::Reserved);
    assert_eq!(decode(4, &[1, 0, 0, 0, 0, 0, 1, 0]), RecordError::Reserved);
    assert_eq!(decode(7, &[255, 255, 255, 255, 0, 0, 0, 0]), RecordError::Short);
    let mut run = vec![2, 0, 0, 0, 1, 0, 0, 0];
    run.extend([0; 16]);
    assert_eq!(decode(9, &run), RecordError::Run);
    let mut odd = PairBits::new(10);
    odd.todo = Bitmap::new(11);
    odd.unsettled = Bitmap::new(11);
    let mut payload = Vec::new();
    codec::encode(
        &Record::Pair {
            pair: PAIR,
            meta: meta(PairState::Copy),
            bits: Box::new(odd),
        },
        &mut payload,
    );
    assert_eq!(decode(5, &payload), RecordError::Lengths);
}

#[test]
fn replay_gives_the_image_and_a_snapshot_of_it_gives_it_again() {
    let (bytes, _) = file(&samples());
    let image = Image::replay(65536, &parse(&bytes).unwrap().entries).unwrap();
    let pair = &image.pairs[&PAIR];
    assert_eq!(pair.meta, meta(PairState::Restoring));
    assert!(pair.bits.primary_changed.is_empty() && pair.bits.mirror_changed.is_empty());
    // The union was everything; six tracks were cleared; the cold word of region 1 has two tracks, of which 127 does not exist.
    assert_eq!(
        pair.bits.todo.runs().collect::<Vec<_>>(),
        [TrackRange::new(0, 3), TrackRange::new(9, 65)]
    );
    assert!(image.hot.is_empty());
    assert_eq!(image.volumes[&M].config.hold, Hold::Strict);

    let (bytes, _) = file(&image.records(5));
    assert_eq!(
        Image::replay(65536, &parse(&bytes).unwrap().entries).unwrap(),
        image
    );
}

#[test]
fn a_history_that_does_not_fit_is_refused_by_name() {
    let replay = |records: &[Record]| Image::replay(65536, &parse(&file(records).0).unwrap().entries);
    let good = samples();
    assert_eq!(replay(&[]), Err(JournalError::NoSnapshot));
    assert_eq!(replay(&good[..5]), Err(JournalError::NoSnapshot));
    assert_eq!(replay(&good[1..]), Err(JournalError::NoSnapshot));
    let mut stranger = good[..6].to_vec();
    stranger.push(Record::Cleared {
        pair: PairId(P),
        runs: vec![],
    });
    assert!(matches!(
        replay(&stranger),
        Err(JournalError::Replay {
            seq: 7,
            why: ReplayError::NoPair(_),
            ..
        })
    ));
    let mut short = good[..6].to_vec();
    short[4] = Record::Pair {
        pair: PAIR,
        meta: meta(PairState::Split),
        bits: Box::new(PairBits::new(99)),
    };
    assert!(matches!(
        replay(&short),
        Err(JournalError::Replay {
            seq: 5,
            why: ReplayError::Tracks(_),
            ..
        })
    ));
}

#[test]
fn hot_regions_become_marks_where_the_state_wants_them() {
    let spec = VolumeSpec {
        bytes: 200 * 65536,
        block_size: 512,
    };
    let region = |region: u64| TrackRange::new(region * 64, (region * 64 + 64).min(200));
    for state in PairState::ALL.into_iter().skip(1) {
        let mut image = Image::new(65536);
        for record in [
            Record::Volume { volume: P, spec },
            Record::Volume { volume: M, spec },
            Record::Pair {
                pair: PAIR,
                meta: meta(state),
                bits: Box::new(PairBits::new(200)),
            },
            Record::Hot(vec![(P, Region(0)), (M, Region(3)), (VolumeId(9), Region(1))]),
        ] {
            image.apply(&record).unwrap();
        }
        let changed = image.after_crash();
        assert!(image.hot.is_empty());
        let PairImage { meta, bits, .. } = &image.pairs[&PAIR];
        let shown = [&bits.primary_changed, &bits.mirror_changed, &bits.todo]
            .map(|map| map.runs().collect::<Vec<_>>());
        let both = vec![region(0), region(3)];
        match state {
            PairState::Copy => assert_eq!((meta.state, shown), (state, [vec![], vec![], both])),
            PairState::Duplex | PairState::Restored => {
                assert_eq!(
                    (meta.state, meta.reason, shown),
                    (PairState::Copy, 4, [vec![], vec![], both])
                );
                assert_eq!(changed, [(PAIR, state)]);
            }
            PairState::Restoring => assert_eq!((meta.state, shown), (state, [both, vec![], vec![]])),
            _ => assert_eq!(
                (meta.state, shown),
                (state, [vec![region(0)], vec![region(3)], vec![]])
            ),
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read_without_panic(noise in prop::collection::vec(any::<u8>(), 0..300), code in 0u16..12) {
        let _ = codec::decode(code, &noise);
        let mut bytes = header().encode().to_vec();
        bytes.extend(&noise);
        let _ = parse(&bytes);
        let _ = parse(&noise);
    }

    #[test]
    fn a_payload_with_a_changed_byte_never_panics(record in 0usize..10, at in any::<usize>(), value in any::<u8>()) {
        let record = &samples()[record];
        let mut payload = Vec::new();
        codec::encode(record, &mut payload);
        prop_assert_eq!(codec::decode(codec::type_code(record), &payload), Ok(record.clone()));
        if !payload.is_empty() {
            let at = at % payload.len();
            payload[at] = value;
            if let Ok(record) = codec::decode(codec::type_code(record), &payload) {
                let _ = Image::new(65536).apply(&record);
            }
        }
    }
}
