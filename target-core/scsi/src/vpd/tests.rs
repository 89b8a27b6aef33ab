//! Golden bytes of INQUIRY and its pages.

use super::*;
use crate::{
    control::VolumeNumber,
    inquiry::{absent_unit_data, standard_data},
};

fn identity() -> UnitIdentity {
    UnitIdentity {
        number: VolumeNumber(1),
        mirror_class: false,
        block_size: 512,
        physical_block_size: 4096,
        blocks: 2048,
        thin: true,
        removable: false,
        naa: [0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        eui64: [2, 0x48, 0x46, 1, 2, 3, 4, 5],
        uuid: [0x5A; 16],
        serial: "HF00000001".into(),
    }
}

fn port() -> TargetPort {
    TargetPort {
        name: "iqn.t:d".into(),
        portal_group: 1,
        relative_id: 3,
    }
}

fn golden(code: u8) -> Vec<u8> {
    page(code, &identity(), None, &port(), &[port()]).unwrap()
}

#[test]
fn standard_data_claims_what_is_there() {
    let data = standard_data(&identity(), false);
    assert_eq!(data.len(), 96);
    assert_eq!(data[..8], [0, 0, 6, 0x12, 91, 0x38, 0x10, 0x02]);
    assert_eq!(&data[8..36], b"HOLDFASTVOLUME          0001");
    assert_eq!(data[36..58], [0; 22]);
    assert_eq!(data[58..66], [0x00, 0xA0, 0x09, 0x60, 0x04, 0x60, 0x04, 0xC0]);
    assert_eq!(data[66..], [0; 30]);
    let mirror = UnitIdentity {
        mirror_class: true,
        removable: true,
        ..identity()
    };
    assert_eq!(&standard_data(&mirror, false)[16..24], b"MIRROR  ");
    assert_eq!(standard_data(&mirror, false)[1], 0x80);
    assert_eq!(absent_unit_data()[0], 0x7F);
}

/// What both systems show of a shared unit differs in its port and group alone, and says that the state is set by nobody.
#[test]
fn a_shared_unit_is_one_unit_in_two_port_groups() {
    assert_eq!(standard_data(&identity(), true)[5], 0x18);
    let through = |target_port_group| {
        let shared = SharedAccess {
            target_port_group,
            active: true,
            one_path: false,
        };
        page(0x83, &identity(), Some(shared), &port(), &[port()]).unwrap()
    };
    let (here, there) = (through(1), through(0x0203));
    assert_eq!(here, golden(0x83));
    let differ: Vec<_> = (0..here.len()).filter(|at| here[*at] != there[*at]).collect();
    assert_eq!(differ.len(), 2);
    assert_eq!(there[differ[0]..=differ[1]], [2, 3]);
    assert_eq!(there[differ[0] - 6..differ[0] - 2], [0x51, 0x95, 0, 4]);
}

#[test]
fn pages_are_listed_ascending_and_all_there() {
    assert!(PAGES.is_sorted());
    assert_eq!(golden(0)[..4], [0, 0, 0, 10]);
    for code in PAGES {
        let data = golden(code);
        assert_eq!(
            (data[1], usize::from(u16::from_be_bytes([data[2], data[3]])) + 4),
            (code, data.len())
        );
    }
    assert_eq!(page(0xEE, &identity(), None, &port(), &[port()]), None);
}

#[test]
fn the_naa_designator_comes_first() {
    let data = golden(0x83);
    assert_eq!(
        data[4..24],
        [
            1, 3, 0, 16, 0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        ]
    );
    assert_eq!(data[24..28], [2, 1, 0, 18]);
    assert_eq!(&data[28..46], b"HOLDFASTHF00000001");
    assert_eq!(data[46..58], [1, 2, 0, 8, 2, 0x48, 0x46, 1, 2, 3, 4, 5]);
    assert_eq!(data[58..64], [1, 0x0A, 0, 18, 0x10, 0]);
    assert_eq!(data[64..80], [0x5A; 16]);
    assert_eq!(data[80..88], [0x51, 0x94, 0, 4, 0, 0, 0, 3]);
    assert_eq!(data[88..96], [0x51, 0x95, 0, 4, 0, 0, 0, 1]);
    assert_eq!(data[96..100], [0x53, 0x98, 0, 20]);
    assert_eq!(&data[100..120], b"iqn.t:d,t,0x0001\0\0\0\0");
    assert_eq!(data[120..124], [0x53, 0xA8, 0, 8]);
    assert_eq!(&data[124..], b"iqn.t:d\0");
}

#[test]
fn block_limits_follow_the_block_size() {
    let data = golden(0xB0);
    assert_eq!(data[..4], [0, 0xB0, 0, 0x3C]);
    assert_eq!(data[4..8], [0, 255, 0, 8]);
    assert_eq!(data[8..12], (MAX_TRANSFER_BYTES / 512).to_be_bytes());
    assert_eq!(
        data[20..36],
        [0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0x80, 0, 0, 0]
    );
    assert_eq!(data[36..44], (MAX_WRITE_SAME_BYTES / 512).to_be_bytes());
    let thick = UnitIdentity {
        thin: false,
        ..identity()
    };
    assert_eq!(
        page(0xB0, &thick, None, &port(), &[port()]).unwrap()[20..36],
        [0; 16]
    );
}

#[test]
fn the_other_pages() {
    assert_eq!(&golden(0x80)[4..], b"HF00000001");
    assert_eq!(golden(0x86)[..6], [0, 0x86, 0, 60, 0, 7]);
    assert_eq!(golden(0x87), [0, 0x87, 0, 4, 0x3F, 0xFF, 0, 0]);
    assert_eq!(
        golden(0x88)[4..24],
        [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 32, 0x51, 0x94, 0, 4, 0, 0, 0, 3]
    );
    assert_eq!(golden(0xB1)[..8], [0, 0xB1, 0, 60, 0, 1, 0, 0x40]);
    assert_eq!(golden(0xB2), [0, 0xB2, 0, 4, 11, 0xE6, 2, 0]);
}
