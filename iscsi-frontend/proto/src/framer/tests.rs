use std::io::IoSlice;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::bhs::{DataOut, Header, NopOut, ScsiCommand};

fn framer(header_digest: bool, data_digest: bool) -> Framer {
    Framer {
        header_digest,
        data_digest,
        max_data_segment: 4096,
        max_ahs: MAX_AHS,
    }
}

#[derive(Debug, Clone)]
struct Sent {
    tag: u32,
    ahs: Vec<u8>,
    data: Vec<u8>,
    in_place: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let ahs = (0_usize..8, any::<u8>()).prop_map(|(words, byte)| vec![byte; words * 4]);
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        (500_usize..1500, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    (any::<u32>(), ahs, data, any::<bool>()).prop_map(|(tag, ahs, data, in_place)| Sent {
        tag,
        ahs,
        data,
        in_place,
    })
}

fn push(outbound: &mut Outbound, pdu: &Sent) {
    let mut header = ScsiCommand::new();
    header.initiator_task_tag = pdu.tag.into();
    if pdu.ahs.is_empty() && pdu.in_place {
        let room = outbound.room(pdu.data.len()).unwrap();
        room.copy_from_slice(&pdu.data);
        outbound.push_in_place(&header, pdu.data.len());
    } else if pdu.ahs.is_empty() {
        outbound.push(&header, Bytes::from(pdu.data.clone()));
    } else {
        outbound.push_with_ahs(&header, &pdu.ahs, &pdu.data);
    }
}

proptest! {
    /// Whatever is sent arrives, however the bytes are cut on either side.
    #[test]
    fn round_trip_at_any_split(
        pdus in proptest::collection::vec(sent(), 1..8),
        cuts in proptest::collection::vec(1_usize..700, 1..40),
        header_digest: bool,
        data_digest: bool,
    ) {
        let mut outbound = Outbound::new();
        outbound.set_digests(header_digest, data_digest);
        for pdu in &pdus {
            push(&mut outbound, pdu);
        }

        let framer = framer(header_digest, data_digest);
        let mut received = Vec::new();
        let mut seen = 0;
        let mut cuts = cuts.into_iter().cycle();
        while !outbound.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = outbound.slices(&mut slices);
            let there: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            let count = there.len().min(cuts.next().unwrap());
            outbound.advance(count);
            received.extend_from_slice(&there[..count]);

            let survey = framer.survey(&received).unwrap();
            prop_assert!(survey.whole + survey.next > received.len());
            let mut at = 0;
            while at < survey.whole {
                let frame = framer.open(&received[at..]).unwrap();
                let expected = &pdus[seen];
                prop_assert_eq!(frame.bhs.initiator_task_tag(), expected.tag);
                prop_assert_eq!(frame.ahs, &expected.ahs[..]);
                prop_assert_eq!(&received[at..][frame.data.clone()], &expected.data[..]);
                prop_assert!(frame.data_intact);
                at += frame.length;
                seen += 1;
            }
            prop_assert_eq!(at, survey.whole);
            received.drain(..at);
        }
        prop_assert_eq!(seen, pdus.len());
        prop_assert!(received.is_empty());
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), digests: bool) {
        let framer = framer(digests, digests);
        if let Ok(survey) = framer.survey(&bytes) {
            let mut at = 0;
            while at < survey.whole {
                at += framer.open(&bytes[at..]).unwrap().length;
            }
        }
        let _ = framer.open(&bytes);
    }

    /// One flipped bit anywhere in a PDU with both digests is noticed.
    #[test]
    fn a_flipped_bit_is_noticed(data in proptest::collection::vec(any::<u8>(), 1..64), place: prop::sample::Index, bit in 0..8) {
        let mut outbound = Outbound::new();
        outbound.set_digests(true, true);
        outbound.push_copied(&DataOut::new(), &data);
        let mut bytes = outbound.take();
        let place = place.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        let framer = framer(true, true);
        match framer.survey(&bytes) {
            Ok(survey) if survey.whole == 0 => prop_assert!(place < 8, "a length that hides the digest"),
            Ok(_) => prop_assert!(!framer.open(&bytes).unwrap().data_intact),
            Err(_) => {}
        }
    }
}

#[test]
fn too_long_is_refused_from_the_header_alone() {
    let mut header = NopOut::new();
    header.data_segment_length = crate::bhs::U24::new(4097);
    let framer = framer(false, false);
    assert_eq!(
        framer.survey(header.bytes()),
        Err(FrameError::DataSegmentTooLong {
            length: 4097,
            limit: 4096
        })
    );
    header.total_ahs_length = 255;
    assert_eq!(
        framer.survey(header.bytes()),
        Err(FrameError::AhsTooLong {
            length: 1020,
            limit: MAX_AHS
        })
    );
}

#[test]
fn a_wrong_header_digest_comes_before_the_lengths_in_it() {
    let mut header = NopOut::new();
    header.data_segment_length = crate::bhs::U24::new(0xff_ffff);
    let mut bytes = header.bytes().to_vec();
    assert_eq!(
        framer(true, false).survey(&bytes),
        Ok(Survey { whole: 0, next: 52 })
    );
    bytes.extend_from_slice(&[1, 2, 3, 4]);
    assert_eq!(framer(true, false).survey(&bytes), Err(FrameError::HeaderDigest));
}

#[test]
fn short_responses_back_to_back_are_one_slice() {
    let mut outbound = Outbound::new();
    for _ in 0..32 {
        outbound.push_copied(&NopOut::new(), b"sense");
    }
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(outbound.slices(&mut slices), 1);
    assert_eq!(outbound.pending(), 32 * 56);
}

#[test]
fn data_in_place_is_one_slice_with_its_headers() {
    let mut outbound = Outbound::new();
    for _ in 0..32 {
        outbound.room(4096).unwrap().fill(7);
        outbound.push_in_place(&NopOut::new(), 4096);
    }
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(outbound.slices(&mut slices), 1);
    assert_eq!(slices[0].len(), 32 * (48 + 4096));
}

/// A room that is not used leaves nothing behind, and a shorter read than asked for sends no more than it has.
#[test]
fn what_is_not_pushed_is_not_sent() {
    let mut outbound = Outbound::new();
    outbound.room(4096).unwrap().fill(9);
    assert!(outbound.is_empty());
    outbound.push_copied(&NopOut::new(), b"ping");
    outbound.room(4096).unwrap().fill(8);
    outbound.push_in_place(&NopOut::new(), 5);
    let sent = outbound.take();
    assert_eq!(sent.len(), 48 + 4 + 48 + 8);
    assert_eq!(sent[48..52], *b"ping");
    assert_eq!(sent[100..], [8, 8, 8, 8, 8, 0, 0, 0]);
}

/// A peer that never quite catches up: what has been sent is used again, and the order stays.
#[test]
fn a_queue_that_never_empties_stays_small() {
    let mut outbound = Outbound::new();
    let (mut pushed, mut seen) = (0_u8, 0_u8);
    let mut received = Vec::new();
    for _ in 0..100 {
        while outbound.pending() < 80_000 {
            let Some(room) = outbound.room(4096) else { break };
            room.fill(pushed);
            outbound.push_in_place(&NopOut::new(), 4096);
            pushed = pushed.wrapping_add(1);
        }
        assert!(outbound.pending() > 40_000, "there always is room for what fits");
        let mut slices = [IoSlice::new(&[]); 3];
        let used = outbound.slices(&mut slices);
        let there = slices[..used].iter().flat_map(|slice| slice.iter().copied());
        received.extend(there.take(30_011));
        let count = outbound.pending().min(30_011);
        outbound.advance(count);
        while received.len() >= 4144 {
            assert!(received[48..4144].iter().all(|byte| *byte == seen));
            received.drain(..4144);
            seen = seen.wrapping_add(1);
        }
    }
}
