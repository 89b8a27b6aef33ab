//! Golden bytes of every reply, and their way back.

use super::*;
use crate::control::{
    OutVerb, PairSelector, PendingSide, Reason, Request, SystemId, VolumePair, request::Flags,
};

fn call(request: Request, allocation_length: u32) -> ControlCall {
    ControlCall {
        request,
        allocation_length,
        continue_at: 0,
    }
}

fn round_trip(request: &Request, reply: &Reply) -> Vec<u8> {
    let encoded = encode_reply(reply, &call(request.clone(), 1 << 20), &|_| None);
    let decoded = decode_reply(request, &encoded.data).unwrap();
    assert_eq!(&decoded.reply, reply);
    assert_eq!(decoded.needed, encoded.data.len());
    encoded.data
}

fn pair() -> PairDescriptor {
    PairDescriptor {
        primary: VolumeNumber(1),
        mirror: VolumeNumber(2),
        peer: None,
        role: 0,
        state: 4,
        held: true,
        strictly_held: false,
        mirror_ready: true,
        history: true,
        full: false,
        link_up: None,
        mode: None,
        mirror_inconsistent: false,
        track_size: 65536,
        tracks: 16384,
        mirror_invalid: 3,
        primary_invalid: 4,
        remaining: 5,
        split_at_ms: 6,
        rate: 7,
        eta_seconds: None,
        reason: Reason::CrashRecovery,
        on_link_loss: None,
        handle: None,
    }
}

/// S42: the record of QUERY, byte for byte.
#[test]
fn pairs_are_96_bytes_each() {
    let remote = PairDescriptor {
        peer: Some(SystemId::new("HF-B").unwrap()),
        role: 1,
        link_up: Some(true),
        mode: Some(CopyMode::Async),
        eta_seconds: Some(8),
        on_link_loss: Some(OnLinkLoss::Refuse),
        handle: Some(VolumeNumber(0x8000_0003)),
        ..pair()
    };
    let data = round_trip(
        &Request::Query(PairSelector::All),
        &Reply::Pairs(vec![pair(), remote]),
    );
    assert_eq!(data[..16], [0, 0, 0, 204, 1, 0, 0, 96, 0, 0, 0, 2, 0, 0, 0, 0]);
    assert_eq!(
        data[16..32],
        [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 4, 0b1101, 0, 1, 0, 0]
    );
    assert_eq!(data[32..48], [0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(data[80..85], [0xFF, 0xFF, 0xFF, 0xFF, 4]);
    assert_eq!(data[85..96], [0; 11]);
    assert_eq!(data[96..112], [b' '; 16]);
    assert_eq!(data[112 + 8..112 + 12], [1, 1, 4, 0b110_1101]);
    assert_eq!(data[112 + 68..112 + 80], [4, 1, 0, 0, 0x80, 0, 0, 3, 0, 0, 0, 0]);
    assert_eq!(data[112 + 64..112 + 68], [0, 0, 0, 8]);
    assert_eq!(&data[192..208], b"HF-B            ");
}

/// S43.
#[test]
fn the_verify_summary_is_32_bytes() {
    let summary = VerifySummary {
        selected: 3,
        in_state: 1,
        settled: 2,
        invalid_tracks: 9,
        lowest_share: 10_000,
    };
    let request = Request::Verify {
        pairs: PairSelector::All,
        state: Some(2),
    };
    let data = round_trip(&request, &Reply::Verify(summary));
    assert_eq!(
        data,
        [
            0, 0, 0, 28, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0x27, 0x10, 1, 0,
            0, 0
        ]
    );
    let all = round_trip(
        &request,
        &Reply::Verify(VerifySummary {
            in_state: 3,
            ..summary
        }),
    );
    let none = round_trip(
        &request,
        &Reply::Verify(VerifySummary {
            in_state: 0,
            ..summary
        }),
    );
    assert_eq!((all[28], none[28]), (0, 2));
}

/// S44.
#[test]
fn volumes_are_96_bytes_each() {
    let volume = VolumeDescriptor {
        number: VolumeNumber(2),
        mirror_class: true,
        ready: true,
        read_only: false,
        thin: true,
        pairs: 1,
        blocks: 2048,
        block_size: 512,
        track_size: 65536,
        naa: [0x60; 16],
        serial: "HF00000002".into(),
        lun: None,
        name: "bcv1".into(),
    };
    let data = round_trip(&Request::Setup, &Reply::Volumes(vec![volume.clone()]));
    assert_eq!(data[..16], [0, 0, 0, 108, 1, 0, 0, 96, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(
        data[16..40],
        [
            0, 0, 0, 2, 1, 5, 0, 1, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 1, 0, 0
        ]
    );
    assert_eq!(data[40..56], [0x60; 16]);
    assert_eq!(&data[56..72], b"HF00000002      ");
    assert_eq!(data[72..80], [0xFF, 0xFF, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&data[80..85], b"bcv1\0");
    let at_one = encode_reply(
        &Reply::Volumes(vec![volume]),
        &call(Request::Setup, 4096),
        &|_| Some(1),
    )
    .data;
    assert_eq!(at_one[72..74], [0, 1]);
}

#[test]
fn a_long_name_is_cut_between_characters() {
    assert_eq!(whole_characters("äöü", 5), "äö");
    assert_eq!(whole_characters("abc", 5), "abc");
}

#[test]
fn capabilities_are_64_bytes() {
    let capabilities = Capabilities {
        system: SystemId::new("HF-A").unwrap(),
        pairs_per_volume: 16,
        list_descriptors: 1024,
        track_size: 65536,
        version: "0.1.0".into(),
    };
    let data = round_trip(&Request::ReportCapabilities, &Reply::Capabilities(capabilities));
    assert_eq!(data.len(), 64);
    assert_eq!(data[..8], [0, 0, 0, 60, 1, 0, 0, 0]);
    assert_eq!(&data[8..24], b"HF-A            ");
    assert_eq!(data[24..36], [0, 0, 0, 16, 0, 0, 4, 0, 0, 1, 0, 0]);
    assert_eq!(&data[36..52], b"0.1.0           ");
}

/// S56: READ PENDING MAP.
#[test]
fn a_cut_map_goes_on_where_it_ended() {
    let pair = VolumePair {
        primary: VolumeNumber(1),
        mirror: Some(VolumeNumber(2)),
    };
    let request = Request::ReadPendingMap {
        pair,
        side: PendingSide::Union,
    };
    let extents = [(0, 128), (256, 128), (1024, 256)].map(|(lba, blocks)| PendingExtent { lba, blocks });
    let reply = Reply::Pending(extents.to_vec());
    let whole = round_trip(&request, &reply);
    assert_eq!(whole[..16], [0, 0, 0, 60, 1, 0, 0, 16, 0, 0, 0, 3, 0, 0, 0, 0]);
    assert_eq!(whole[32..48], [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 128]);

    let mut call = call(request, 16 + 2 * 16 + 5);
    let first = encode_reply(&reply, &call, &|_| None);
    assert_eq!(first.data[8..16], [0, 0, 0, 3, 0, 0, 0, 2]);
    assert_eq!(first.next_lba, 384);
    call.continue_at = first.next_lba;
    let second = encode_reply(&reply, &call, &|_| None);
    assert_eq!(second.data[8..16], [0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(second.data[16..24], 1024_u64.to_be_bytes());
    assert_eq!(second.next_lba, 1280);
    call.continue_at = 1100;
    let inside = encode_reply(&reply, &call, &|_| None);
    assert_eq!(
        inside.data[16..32],
        [0, 0, 0, 0, 0, 0, 4, 0x4C, 0, 0, 0, 0, 0, 0, 0, 180]
    );
}

/// S54.
#[test]
fn table_entries_are_64_bytes_each() {
    let entry = CopyTableEntry {
        remote: false,
        primary: true,
        status: 4,
        other: VolumeNumber(2),
        system: SystemId::new("HF-A").unwrap(),
        pending: 3,
        bytes_per_bit: 65536,
    };
    let data = round_trip(
        &Request::CopyManagementTable(VolumeNumber(1)),
        &Reply::Table(vec![entry]),
    );
    assert_eq!(data[..16], [0, 0, 0, 76, 1, 0, 0, 64, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(data[16..24], [0, 1, 4, 0, 0, 0, 0, 2]);
    assert_eq!(&data[24..40], b"HF-A            ");
    assert_eq!(data[40..52], [0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 0]);
    assert_eq!(data.len(), 80);
}

#[test]
fn a_preview_is_32_bytes() {
    let pair = VolumePair {
        primary: VolumeNumber(1),
        mirror: None,
    };
    let request = Request::Preview {
        verb: OutVerb::Split,
        flags: Flags::default(),
        pair,
    };
    let data = round_trip(
        &request,
        &Reply::Preview(Preview {
            tracks: 2,
            bytes: 131_072,
        }),
    );
    assert_eq!(
        data,
        [
            0, 0, 0, 28, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        ]
    );
}

#[test]
fn broken_replies_are_named() {
    let query = Request::Query(PairSelector::All);
    assert_eq!(
        decode_reply(&query, &[0; 8]),
        Err(ReplyError::Short { got: 8, wanted: 16 })
    );
    let mut data = encode_reply(&Reply::Pairs(vec![pair()]), &call(query.clone(), 0), &|_| None).data;
    let cut = decode_reply(&query, &data[..100]).unwrap();
    assert_eq!(
        cut,
        DecodedReply {
            reply: Reply::Pairs(Vec::new()),
            needed: 112
        }
    );
    data[16 + 68] = 99;
    assert_eq!(
        decode_reply(&query, &data),
        Err(ReplyError::Value { at: 84, value: 99 })
    );
    data[4] = 2;
    assert_eq!(decode_reply(&query, &data), Err(ReplyError::Version(2)));
}
