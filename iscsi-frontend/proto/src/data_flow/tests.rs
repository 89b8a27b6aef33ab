use proptest::prelude::*;

use super::*;

const LIMITS: TransferLimits = TransferLimits {
    initial_r2t: false,
    immediate_data: true,
    first_burst: 1000,
    max_burst: 700,
    max_outstanding_r2t: 2,
    recovers: false,
};

fn out(tag: u32, data_sn: u32, offset: u32, length: u32, is_final: bool) -> DataOutFacts {
    DataOutFacts {
        target_transfer_tag: tag,
        data_sn,
        offset,
        length,
        is_final,
        is_intact: true,
    }
}

#[test]
fn immediate_unsolicited_solicited() {
    let mut flow = WriteFlow::begin(3000, 300, false, &LIMITS).unwrap();
    assert_eq!(flow.next_r2t(1), None, "unsolicited data is still coming");
    flow.data_out(&out(RESERVED_TAG, 0, 300, 400, false)).unwrap();
    flow.data_out(&out(RESERVED_TAG, 1, 700, 300, true)).unwrap();
    let first = R2t {
        target_transfer_tag: 1,
        r2t_sn: 0,
        offset: 1000,
        length: 700,
    };
    let second = R2t {
        target_transfer_tag: 2,
        r2t_sn: 1,
        offset: 1700,
        length: 700,
    };
    assert_eq!(flow.next_r2t(1), Some(first));
    assert_eq!(flow.next_r2t(2), Some(second));
    assert_eq!(flow.next_r2t(3), None, "two are open");
    flow.data_out(&out(1, 0, 1000, 700, true)).unwrap();
    let third = R2t {
        target_transfer_tag: 3,
        r2t_sn: 2,
        offset: 2400,
        length: 600,
    };
    assert_eq!(flow.next_r2t(3), Some(third));
    assert_eq!(flow.next_r2t(4), None);
    flow.data_out(&out(2, 0, 1700, 700, true)).unwrap();
    assert!(!flow.is_complete());
    flow.data_out(&out(3, 0, 2400, 600, true)).unwrap();
    assert!(flow.is_complete());
    assert_eq!(flow.r2ts_sent(), 3);
}

#[test]
fn the_command_itself_is_checked() {
    let begin = |expected, immediate, is_final, limits: &TransferLimits| {
        WriteFlow::begin(expected, immediate, is_final, limits).err()
    };
    let strict = TransferLimits {
        initial_r2t: true,
        immediate_data: false,
        ..LIMITS
    };
    assert_eq!(
        begin(500, 1, true, &strict),
        Some(Misbehaviour::ImmediateDataNotAgreed)
    );
    assert_eq!(
        begin(500, 0, false, &strict),
        Some(Misbehaviour::UnsolicitedDataNotAgreed)
    );
    assert_eq!(
        begin(500, 501, true, &LIMITS),
        Some(Misbehaviour::Overrun { end: 501, limit: 500 })
    );
    assert_eq!(
        begin(5000, 1001, true, &LIMITS),
        Some(Misbehaviour::Overrun {
            end: 1001,
            limit: 1000
        })
    );
    assert_eq!(
        begin(500, 500, false, &LIMITS),
        Some(Misbehaviour::FinalBitMissing(500))
    );
    assert_eq!(begin(5000, 0, true, &strict), None);
}

#[test]
fn each_departure_has_its_name() {
    let flow = WriteFlow::begin(2000, 0, false, &LIMITS).unwrap();
    let refused = |pdu: DataOutFacts| flow.clone().data_out(&pdu).unwrap_err();
    assert_eq!(
        refused(out(RESERVED_TAG, 1, 0, 10, false)),
        Misbehaviour::DataSn { got: 1, expected: 0 }
    );
    assert_eq!(
        refused(out(RESERVED_TAG, 0, 5, 10, false)),
        Misbehaviour::BufferOffset { got: 5, expected: 0 }
    );
    assert_eq!(
        refused(out(7, 0, 0, 10, false)),
        Misbehaviour::TransferTag {
            got: 7,
            expected: RESERVED_TAG
        }
    );
    assert_eq!(
        refused(out(RESERVED_TAG, 0, 0, 1001, true)),
        Misbehaviour::Overrun {
            end: 1001,
            limit: 1000
        }
    );
    assert_eq!(
        refused(out(RESERVED_TAG, 0, 0, 1000, false)),
        Misbehaviour::FinalBitMissing(1000)
    );

    let mut flow = WriteFlow::begin(2000, 0, true, &LIMITS).unwrap();
    let early = flow.clone().data_out(&out(RESERVED_TAG, 0, 0, 10, true));
    assert_eq!(early, Err(Misbehaviour::UnsolicitedDataNotAgreed));
    flow.next_r2t(9).unwrap();
    let short = flow.clone().data_out(&out(9, 0, 0, 699, true));
    assert_eq!(
        short,
        Err(Misbehaviour::SequenceTooShort { end: 699, limit: 700 })
    );
    let far = flow.data_out(&out(9, 0, 0, u32::MAX, true));
    assert_eq!(
        far,
        Err(Misbehaviour::Overrun {
            end: u64::from(u32::MAX),
            limit: 700
        })
    );
}

#[test]
fn residuals() {
    assert_eq!(Residual::of(512, 512), Residual::None);
    assert_eq!(Residual::of(1024, 512), Residual::Underflow(512));
    assert_eq!(Residual::of(0, 512), Residual::Overflow(512));
    assert_eq!(Residual::of(0, u64::MAX).count(), u32::MAX);
}

/// A naive initiator: it knows only the agreed limits and answers what it is asked, cutting at random.
fn play(expected: u32, limits: &TransferLimits, cuts: &[u32]) -> Result<(), TestCaseError> {
    let mut cuts = cuts.iter().copied().cycle();
    let mut cut = move |most: u32| cuts.next().unwrap().min(most);
    let source: Vec<u8> = (0..expected).map(|place| (place % 251) as u8).collect();
    let unsolicited = limits.first_burst.min(expected);
    let immediate = if limits.immediate_data {
        cut(unsolicited)
    } else {
        0
    };
    let more = !limits.initial_r2t && immediate < unsolicited && immediate % 2 == 0;

    let mut sink = source[..immediate as usize].to_vec();
    let mut flow = WriteFlow::begin(expected, immediate, !more, limits).unwrap();
    let mut send = |flow: &mut WriteFlow, tag: u32, from: u32, to: u32| {
        let (mut offset, mut data_sn) = (from, 0);
        while offset < to {
            let length = cut(to - offset).max(1);
            flow.data_out(&out(tag, data_sn, offset, length, offset + length == to))
                .unwrap();
            sink.extend_from_slice(&source[offset as usize..][..length as usize]);
            offset += length;
            data_sn += 1;
        }
    };
    if more {
        send(&mut flow, RESERVED_TAG, immediate, unsolicited);
    }
    let mut open = VecDeque::new();
    let mut tag = 0;
    loop {
        while let Some(r2t) = flow.next_r2t(tag) {
            prop_assert!(r2t.length > 0 && r2t.length <= limits.max_burst);
            prop_assert_eq!(r2t.r2t_sn, tag);
            open.push_back(r2t);
            tag += 1;
            prop_assert!(open.len() <= usize::from(limits.max_outstanding_r2t));
        }
        let Some(r2t) = open.pop_front() else { break };
        send(
            &mut flow,
            r2t.target_transfer_tag,
            r2t.offset,
            r2t.offset + r2t.length,
        );
    }
    prop_assert!(flow.is_complete());
    prop_assert_eq!(sink, source);
    Ok(())
}

/// What becomes of a PDU on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    Damaged,
    Lost,
}

/// An honest initiator on a bad line: PDUs are damaged or lost, as long as there is a fate for them; the last of a sequence
/// can be damaged only.
fn play_with_losses(expected: u32, limits: &TransferLimits, fates: &[Fate]) -> Result<(), TestCaseError> {
    let source: Vec<u8> = (0..expected).map(|place| (place % 251) as u8).collect();
    let unsolicited = if limits.initial_r2t {
        0
    } else {
        limits.first_burst.min(expected)
    };
    let mut fates = fates.iter().copied();
    let mut sink = vec![0xff; expected as usize];
    let mut flow = WriteFlow::begin(expected, 0, unsolicited == 0, limits).unwrap();
    let mut send = |flow: &mut WriteFlow, tag: u32, from: u32, to: u32| {
        let pieces = (from..to).step_by(97).enumerate();
        for (data_sn, offset) in pieces {
            let length = 97.min(to - offset);
            let is_final = offset + length == to;
            let fate = match fates.next().unwrap_or(Fate::Arrives) {
                Fate::Lost if is_final => Fate::Damaged,
                fate => fate,
            };
            if fate == Fate::Lost {
                continue;
            }
            let is_intact = fate == Fate::Arrives;
            let pdu = DataOutFacts {
                is_intact,
                ..out(tag, data_sn as u32, offset, length, is_final)
            };
            flow.data_out(&pdu).unwrap();
            if is_intact {
                let range = offset as usize..(offset + length) as usize;
                sink[range.clone()].copy_from_slice(&source[range]);
            }
        }
    };
    if unsolicited > 0 {
        send(&mut flow, RESERVED_TAG, 0, unsolicited);
    }
    let mut r2t_sn = 0;
    while let Some(r2t) = flow.next_r2t(r2t_sn) {
        prop_assert!(!flow.is_complete());
        prop_assert_eq!(r2t.r2t_sn, r2t_sn);
        prop_assert!(r2t.length > 0 && r2t.length <= limits.max_burst);
        prop_assert_eq!(flow.next_r2t(77), None, "one at a time");
        prop_assert_eq!(flow.open_r2ts(r2t_sn, 1).copied().collect::<Vec<_>>(), [r2t]);
        r2t_sn += 1;
        send(&mut flow, r2t.target_transfer_tag, r2t.offset, r2t.end());
    }
    prop_assert!(flow.is_complete());
    prop_assert_eq!(sink, source);
    Ok(())
}

/// The limits of a session with recovery.
const RECOVERING: TransferLimits = TransferLimits {
    max_outstanding_r2t: 1,
    recovers: true,
    ..LIMITS
};

#[test]
fn what_was_lost_is_asked_for_again_before_anything_else() {
    let mut flow = WriteFlow::begin(1400, 0, true, &RECOVERING).unwrap();
    flow.next_r2t(1).unwrap();
    flow.data_out(&out(1, 0, 0, 100, false)).unwrap();
    // DataSN 1 is lost, 2 damaged.
    let damaged = DataOutFacts {
        is_intact: false,
        ..out(1, 2, 300, 100, false)
    };
    flow.data_out(&damaged).unwrap();
    flow.data_out(&out(1, 3, 400, 300, true)).unwrap();
    let again = flow.next_r2t(2).unwrap();
    assert_eq!((again.offset, again.length, again.r2t_sn), (100, 300, 1));
    assert_eq!(
        flow.clone().data_out(&out(2, 0, 400, 100, false)),
        Err(Misbehaviour::BufferOffset {
            got: 400,
            expected: 100
        })
    );
    // A reassignment asks for what has not come yet, then goes on.
    flow.data_out(&out(2, 0, 100, 50, false)).unwrap();
    flow.resume();
    let rest = flow.next_r2t(3).unwrap();
    assert_eq!((rest.offset, rest.length), (150, 250));
    flow.data_out(&out(3, 0, 150, 250, true)).unwrap();
    let last = flow.next_r2t(4).unwrap();
    assert_eq!((last.offset, last.length), (700, 700));
    // Half of it comes, then the connection goes.
    flow.data_out(&out(4, 0, 700, 350, false)).unwrap();
    flow.resume();
    let last = flow.next_r2t(5).unwrap();
    assert_eq!((last.offset, last.length, last.r2t_sn), (1050, 350, 4));
    flow.data_out(&out(5, 0, 1050, 350, true)).unwrap();
    assert!(flow.is_complete());
}

#[test]
fn gaps_are_bounded() {
    let mut flow = WriteFlow::begin(
        1_000_000,
        0,
        true,
        &TransferLimits {
            max_burst: 1_000_000,
            ..RECOVERING
        },
    )
    .unwrap();
    flow.next_r2t(1).unwrap();
    let refused = (1..1000).find(|number| {
        flow.data_out(&out(1, number * 2, number * 20, 10, false))
            .is_err()
    });
    assert!(refused.is_some_and(|number| number < 100));
}

proptest! {
    #[test]
    fn a_bad_line_loses_nothing(
        expected in 1_u32..5000,
        initial_r2t: bool,
        first_burst in 1_u32..2000,
        max_burst in 1_u32..2000,
        fates in proptest::collection::vec(
            prop_oneof![4 => Just(Fate::Arrives), 1 => Just(Fate::Damaged), 1 => Just(Fate::Lost)], 0..120),
    ) {
        let limits = TransferLimits { initial_r2t, first_burst, max_burst, ..RECOVERING };
        play_with_losses(expected, &limits, &fates)?;
    }

    #[test]
    fn an_honest_initiator_always_gets_its_data_across(
        expected in 0_u32..5000,
        initial_r2t: bool,
        immediate_data: bool,
        first_burst in 1_u32..2000,
        max_burst in 1_u32..2000,
        max_outstanding_r2t in 1_u16..5,
        cuts in proptest::collection::vec(0_u32..900, 1..20),
    ) {
        let limits = TransferLimits {
            initial_r2t, immediate_data, first_burst, max_burst, max_outstanding_r2t, recovers: false,
        };
        play(expected, &limits, &cuts)?;
    }

    #[test]
    fn received_never_exceeds_expected(
        expected in 0_u32..3000,
        pdus in proptest::collection::vec((0_u32..4, 0_u32..3, 0_u32..3000, 0_u32..2000, any::<bool>()), 0..30),
    ) {
        let Ok(mut flow) = WriteFlow::begin(expected, 0, true, &LIMITS) else { return Ok(()) };
        for (tag, data_sn, offset, length, is_final) in pdus {
            flow.next_r2t(tag);
            let before = flow.received;
            let taken = flow.data_out(&out(tag, data_sn, offset, length, is_final)).is_ok();
            prop_assert_eq!(flow.received, if taken { before + length } else { before });
            prop_assert!(flow.received <= expected);
        }
    }

    #[test]
    fn data_in_covers_everything_once(total in 0_u32..20_000, max_segment in 1_u32..3000, max_burst in 1_u32..9000) {
        let segments: Vec<_> = DataInFlow::new(total, max_segment, max_burst).collect();
        let mut offset = 0;
        let mut burst = 0;
        for (number, segment) in segments.iter().enumerate() {
            prop_assert_eq!(segment.data_sn as usize, number);
            prop_assert_eq!(segment.offset, offset);
            prop_assert!(segment.length > 0 && segment.length <= max_segment);
            offset += segment.length;
            burst += segment.length;
            prop_assert!(burst <= max_burst);
            prop_assert_eq!(segment.is_last, offset == total);
            prop_assert_eq!(segment.is_final, burst == max_burst || offset == total);
            if segment.is_final {
                burst = 0;
            }
        }
        prop_assert_eq!(offset, total);
    }
}
