//! Golden CDBs, refusals, and the round trip of every request.

use proptest::prelude::*;

use super::*;

const HERE: VolumeNumber = VolumeNumber(9);

fn decode(cdb: [u8; 16], list: &[u8]) -> Result<Request, Failure> {
    decode_cdb(&cdb, list, HERE).map(|decoded| decoded.request)
}

fn pair(primary: u32, mirror: u32) -> VolumePair {
    VolumePair {
        primary: VolumeNumber(primary),
        mirror: Some(VolumeNumber(mirror)),
    }
}

fn out(verb: OutVerb, flags: Flags, members: Vec<VolumePair>) -> Request {
    Request::Out {
        verb,
        flags,
        members,
        dry_run: false,
    }
}

#[test]
fn the_documented_examples() {
    let establish = [0xC1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
    let wanted = out(
        OutVerb::Establish { remote: None },
        Flags::default(),
        vec![pair(1, 2)],
    );
    assert_eq!(decode(establish, &[]), Ok(wanted.clone()));
    assert_eq!(encode_cdb(&wanted, 0, false).cdb, establish);

    let split = [0xC1, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
    let instant = Flags {
        instant: true,
        ..Flags::default()
    };
    assert_eq!(
        decode(split, &[]),
        Ok(out(OutVerb::Split, instant, vec![pair(1, 2)]))
    );

    let verify = [0xC0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0x20, 0];
    let decoded = decode_cdb(&verify, &[], HERE).unwrap();
    let pairs = PairSelector::One(VolumeNumber(1), VolumeNumber(2));
    assert_eq!(
        decoded.request,
        Request::Verify {
            pairs,
            state: Some(2)
        }
    );
    assert_eq!(decoded.allocation_length, 32);

    let query = [
        0xC0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF, 0xFE, 0, 0x10, 0, 0,
    ];
    assert_eq!(decode(query, &[]), Ok(Request::Query(PairSelector::All)));
    assert_eq!(
        encode_cdb(&Request::Query(PairSelector::All), 4096, false).cdb,
        query
    );
}

#[test]
fn all_ones_mean_this_volume_and_any_mirror() {
    let here = [
        0xC1, 2, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0,
    ];
    let only = VolumePair {
        primary: HERE,
        mirror: None,
    };
    assert_eq!(
        decode(here, &[]),
        Ok(out(OutVerb::Restore, Flags::default(), vec![only]))
    );
    let query = [
        0xC0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1, 0, 0,
    ];
    assert_eq!(
        decode(query, &[]),
        Ok(Request::Query(PairSelector::OfPrimary(HERE)))
    );
    let half = [0xC0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFE, 0, 0, 0, 1, 0, 1, 0, 0];
    assert_eq!(decode(half, &[]), Err(Sense::invalid_cdb_field(4, None).into()));
}

#[test]
fn a_remote_establish_names_the_peer() {
    let mut list = b"HF-B            ".to_vec();
    list.push(1);
    list.extend([0; 15]);
    let cdb = [0xC1, 0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 32, 0];
    let remote = Some((SystemId::new("HF-B").unwrap(), CopyMode::Sync));
    let flags = Flags {
        remote: true,
        ..Flags::default()
    };
    let wanted = out(OutVerb::Establish { remote }, flags, vec![pair(1, 7)]);
    assert_eq!(decode(cdb, &list), Ok(wanted.clone()));
    assert_eq!(
        encode_cdb(&wanted, 0, false),
        EncodedCdb {
            cdb,
            data_out: list.clone()
        }
    );
    list[16] = 2;
    assert_eq!(decode(cdb, &list), Err(Sense::invalid_parameter(16, None).into()));
    list[16] = 0;
    list[30] = 1;
    assert_eq!(decode(cdb, &list), Err(Sense::invalid_parameter(30, None).into()));
    assert_eq!(decode(cdb, &list[..31]), Err(wrong_list_length()));
}

#[test]
fn a_list_is_all_there_or_refused() {
    let members = vec![
        pair(1, 2),
        VolumePair {
            primary: VolumeNumber(3),
            mirror: None,
        },
    ];
    let wanted = out(OutVerb::Split, Flags::default(), members);
    let encoded = encode_cdb(&wanted, 0, false);
    assert_eq!(
        encoded.cdb,
        [0xC1, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0]
    );
    assert_eq!(
        encoded.data_out,
        [
            0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xFF, 0xFF, 0xFF, 0xFF
        ]
    );
    assert_eq!(decode(encoded.cdb, &encoded.data_out), Ok(wanted));

    let mut list = encoded.data_out;
    let mut primary = encoded.cdb;
    primary[7] = 1;
    assert_eq!(
        decode(primary, &list),
        Err(Sense::invalid_cdb_field(4, None).into())
    );
    list[1] = 3;
    assert_eq!(decode(encoded.cdb, &list), Err(wrong_list_length()));
    list[1] = 0;
    assert_eq!(
        decode(encoded.cdb, &list),
        Err(Sense::invalid_parameter(0, None).into())
    );
}

#[test]
fn previews_take_the_flags_of_their_verb() {
    let cdb = |flags, action| [0xC0, 6, flags, action, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 32, 0];
    let flags = Flags {
        protected: true,
        ..Flags::default()
    };
    let wanted = Request::Preview {
        verb: OutVerb::Restore,
        flags,
        pair: pair(1, 2),
    };
    assert_eq!(decode(cdb(4, 2), &[]), Ok(wanted));
    assert_eq!(
        decode(cdb(4, 1), &[]),
        Err(Sense::invalid_cdb_field(2, Some(2)).into())
    );
    assert_eq!(
        decode(cdb(0, 3), &[]),
        Err(Sense::invalid_cdb_field(3, Some(3)).into())
    );
    assert_eq!(
        decode(cdb(0, 7), &[]),
        Err(Sense::invalid_cdb_field(3, Some(3)).into())
    );
}

fn numbers() -> impl Strategy<Value = VolumeNumber> {
    (0_u32..100).prop_map(VolumeNumber)
}

fn pairs() -> impl Strategy<Value = VolumePair> {
    (numbers(), prop::option::of(numbers())).prop_map(|(primary, mirror)| VolumePair { primary, mirror })
}

fn selectors() -> impl Strategy<Value = PairSelector> {
    prop_oneof![
        Just(PairSelector::All),
        numbers().prop_map(PairSelector::OfPrimary),
        (numbers(), numbers()).prop_map(|(primary, mirror)| PairSelector::One(primary, mirror)),
    ]
}

fn flags() -> impl Strategy<Value = Flags> {
    any::<[bool; 6]>().prop_map(|[full, instant, protected, strict_hold, _, force]| Flags {
        full,
        instant,
        protected,
        strict_hold,
        remote: false,
        force,
        checksum: false,
    })
}

fn verbs() -> impl Strategy<Value = OutVerb> {
    prop::sample::select(vec![
        OutVerb::Establish { remote: None },
        OutVerb::Split,
        OutVerb::Restore,
        OutVerb::Config(Condition::Hold),
        OutVerb::Config(Condition::Release),
        OutVerb::Config(Condition::NotReady),
        OutVerb::Config(Condition::Ready),
        OutVerb::OnLinkLoss(OnLinkLoss::Refuse),
        OutVerb::OnLinkLoss(OnLinkLoss::Mark),
        OutVerb::Cancel,
        OutVerb::Swap,
        OutVerb::Suspend,
    ])
}

fn requests() -> impl Strategy<Value = Request> {
    let sides = prop::sample::select(vec![
        PendingSide::Union,
        PendingSide::Primary,
        PendingSide::Mirror,
        PendingSide::Remaining,
    ]);
    prop_oneof![
        (
            verbs(),
            flags(),
            prop::collection::vec(pairs(), 1..5),
            any::<bool>()
        )
            .prop_map(|(verb, flags, members, dry_run)| Request::Out {
                verb,
                flags,
                members,
                dry_run
            }),
        selectors().prop_map(Request::Query),
        (selectors(), prop::option::of(0_u8..9)).prop_map(|(pairs, state)| Request::Verify { pairs, state }),
        Just(Request::Setup),
        Just(Request::ReportCapabilities),
        (pairs(), sides).prop_map(|(pair, side)| Request::ReadPendingMap { pair, side }),
        numbers().prop_map(Request::CopyManagementTable),
    ]
}

proptest! {
    #[test]
    fn every_request_reads_back(request in requests(), allocation_length in 0_u32..1 << 24) {
        let encoded = encode_cdb(&request, allocation_length, false);
        prop_assert_eq!(decode(encoded.cdb, &encoded.data_out), Ok(request));
    }
}
