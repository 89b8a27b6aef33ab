//! Ranges, lengths and flags of the block commands.

use super::*;
use crate::{
    control::VolumeNumber,
    unit::{ControlAccess, UnitIdentity},
};

pub(crate) fn identity() -> UnitIdentity {
    UnitIdentity {
        number: VolumeNumber(1),
        mirror_class: false,
        block_size: 512,
        physical_block_size: 512,
        blocks: 2048,
        thin: true,
        removable: true,
        naa: [0x61; 16],
        eui64: [2; 8],
        uuid: [4; 16],
        serial: "HF00000001".into(),
    }
}

pub(crate) fn facts(identity: &UnitIdentity) -> UnitFacts<'_> {
    UnitFacts {
        identity,
        ready: true,
        read_only: false,
        luns: &[0, 300],
        target_ports: &[],
        control: ControlAccess::Granted,
        shared: None,
    }
}

fn run(handler: Handler, cdb: &[u8], data_out: &[u8]) -> Result<Plan, Failure> {
    let identity = identity();
    plan(handler, cdb, data_out, &facts(&identity))
}

fn read16(lba: u64, count: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x88;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&count.to_be_bytes());
    cdb
}

#[test]
fn every_cdb_size_gives_the_same_range() {
    let wanted = Action::Read {
        offset: 512 * 100,
        length: 1024,
        fua: false,
    };
    let cdbs: [&[u8]; 4] = [
        &[0x08, 0, 0, 100, 2, 0],
        &[0x28, 0, 0, 0, 0, 100, 0, 0, 2, 0],
        &[0xA8, 0, 0, 0, 0, 100, 0, 0, 0, 2, 0, 0],
        &read16(100, 2),
    ];
    for cdb in cdbs {
        assert_eq!(run(Handler::Read, cdb, &[]).unwrap().action, wanted);
    }
    let whole = run(Handler::Read, &[0x08, 0, 0, 0, 0, 0], &[]).unwrap().action;
    assert_eq!(
        whole,
        Action::Read {
            offset: 0,
            length: 256 * 512,
            fua: false
        }
    );
    let fua = run(Handler::Read, &[0x28, 0x08, 0, 0, 0, 0, 0, 0, 0, 0], &[])
        .unwrap()
        .action;
    assert_eq!(
        fua,
        Action::Read {
            offset: 0,
            length: 0,
            fua: true
        }
    );
}

#[test]
fn the_first_block_beyond_the_end_is_named() {
    assert_eq!(
        run(Handler::Read, &read16(2047, 2), &[]),
        Err(out_of_range(2048).into())
    );
    assert_eq!(
        run(Handler::Read, &read16(u64::MAX, 1), &[]),
        Err(out_of_range(u64::MAX).into())
    );
    assert_eq!(
        run(Handler::Read, &read16(2049, 0), &[]),
        Err(out_of_range(2049).into())
    );
    assert!(run(Handler::Read, &read16(2048, 0), &[]).is_ok());
}

#[test]
fn a_write_takes_the_whole_blocks_that_came() {
    let plan = run(Handler::Write, &[0x2A, 0, 0, 0, 0, 0, 0, 0, 2, 0], &[0; 700]).unwrap();
    assert_eq!(
        plan.action,
        Action::Write {
            offset: 0,
            length: 512,
            fua: false
        }
    );
    assert_eq!(plan.data_out_length, 1024);
}

#[test]
fn write_same_tells_zeros_from_data() {
    let cdb = |flags| [0x41, flags, 0, 0, 0, 4, 0, 0, 8, 0];
    let range = (4 * 512, 8 * 512);
    let zero = |unmap| Action::Zero {
        offset: range.0,
        length: range.1,
        unmap,
    };
    assert_eq!(
        run(Handler::WriteSame, &cdb(0), &[0; 512]).unwrap().action,
        zero(false)
    );
    assert_eq!(
        run(Handler::WriteSame, &cdb(0x08), &[0; 512]).unwrap().action,
        zero(true)
    );
    assert_eq!(
        run(Handler::WriteSame, &cdb(0x18), &[0; 512]).unwrap().action,
        zero(false)
    );
    assert_eq!(
        run(Handler::WriteSame, &cdb(0x08), &[7; 512]).unwrap().action,
        Action::WriteSame {
            offset: range.0,
            length: range.1
        }
    );
    assert_eq!(
        run(Handler::WriteSame, &cdb(0x10), &[0; 512]),
        Err(Sense::invalid_cdb_field(1, Some(4)).into())
    );
    assert_eq!(
        run(Handler::WriteSame, &cdb(0), &[0; 4096]),
        Err(wrong_data_length())
    );
    let mut sixteen = read16(4, 8);
    sixteen[0] = 0x93;
    sixteen[1] = 0x01;
    assert_eq!(
        run(Handler::WriteSame, &sixteen, &[]).unwrap().action,
        zero(false)
    );
    sixteen[13] = 0;
    assert_eq!(
        run(Handler::WriteSame, &sixteen, &[]).unwrap().action,
        Action::Zero {
            offset: range.0,
            length: 2044 * 512,
            unmap: false
        },
        "no count: the rest of the unit"
    );
}

#[test]
fn compare_and_write_wants_both_halves() {
    let mut cdb = read16(0, 0);
    cdb[0] = 0x89;
    cdb[13] = 1;
    let plan = run(Handler::CompareAndWrite, &cdb, &[0; 1024]).unwrap();
    assert_eq!(
        plan.action,
        Action::CompareAndWrite {
            offset: 0,
            length: 512,
            fua: false
        }
    );
    assert_eq!(
        run(Handler::CompareAndWrite, &cdb, &[0; 512]),
        Err(wrong_data_length())
    );
}

#[test]
fn verify_has_three_kinds() {
    let cdb = |bytchk: u8| [0x2F, bytchk << 1, 0, 0, 0, 1, 0, 0, 2, 0];
    let length = 1024;
    assert_eq!(
        run(Handler::Verify, &cdb(0), &[]).unwrap().action,
        Action::Verify { offset: 512, length }
    );
    assert_eq!(
        run(Handler::Verify, &cdb(1), &[0; 1024]).unwrap().action,
        Action::Compare {
            offset: 512,
            length,
            repeat: false
        }
    );
    assert_eq!(
        run(Handler::Verify, &cdb(3), &[0; 512]).unwrap().action,
        Action::Compare {
            offset: 512,
            length,
            repeat: true
        }
    );
    assert_eq!(
        run(Handler::Verify, &cdb(2), &[]),
        Err(Sense::invalid_cdb_field(1, Some(2)).into())
    );
}

#[test]
fn zero_blocks_to_flush_means_all_of_them() {
    let plan = run(Handler::SynchronizeCache, &[0x35, 2, 0, 0, 0, 4, 0, 0, 0, 0], &[]).unwrap();
    assert_eq!(
        plan.action,
        Action::Flush {
            offset: 2048,
            length: 2044 * 512,
            immediate: true
        }
    );
}

/// The commands of 32 bytes are those of 16, with everything elsewhere (SBC-3 5.14 and so on, SBC-4 5.7).
#[test]
fn a_cdb_of_32_bytes_says_the_same_elsewhere() {
    let long = |action: u8, flags: u8, lba: u64, count: u32| {
        let mut cdb = vec![0; 32];
        (cdb[0], cdb[7], cdb[9], cdb[10]) = (0x7F, 0x18, action, flags);
        cdb[12..20].copy_from_slice(&lba.to_be_bytes());
        cdb[28..32].copy_from_slice(&count.to_be_bytes());
        cdb
    };
    let short = |code: u8, flags: u8, lba: u64, count: u32| {
        let mut cdb = vec![code, flags];
        cdb.extend(lba.to_be_bytes());
        cdb.extend(count.to_be_bytes());
        cdb.extend([0, 0]);
        cdb
    };
    let (block, blocks) = ([7; 512], [7; 1024]);
    let none: &[u8] = &[];
    for (handler, action, code, flags, data) in [
        (Handler::Read, 0x09, 0x88, 0x08, none),
        (Handler::Verify, 0x0A, 0x8F, 0x02, &blocks),
        (Handler::Write, 0x0B, 0x8A, 0x08, &blocks),
        (Handler::WriteAndVerify, 0x0C, 0x8E, 0x02, &blocks),
        (Handler::WriteSame, 0x0D, 0x93, 0x08, &block),
        (Handler::WriteSame, 0x0D, 0x93, 0x01, none),
        (Handler::WriteAtomic, 0x0F, 0x9C, 0, &blocks),
    ] {
        let wanted = run(handler, &short(code, flags, 5, 2), data).unwrap();
        assert_eq!(
            run(handler, &long(action, flags, 5, 2), data),
            Ok(wanted),
            "{handler:?}"
        );
        assert_eq!(
            run(handler, &long(action, flags, 2047, 2), data),
            Err(out_of_range(2048).into())
        );
    }
    let pointer = |byte, bit| Err(Sense::invalid_cdb_field(byte, Some(bit)).into());
    assert_eq!(run(Handler::Verify, &long(0x0A, 4, 0, 1), &[]), pointer(10, 2));
    assert_eq!(
        run(Handler::WriteSame, &long(0x0D, 0x10, 0, 1), &block),
        pointer(10, 4)
    );
}

#[test]
fn lba_status_looks_as_far_as_it_is_told() {
    let mut cdb = vec![0; 32];
    (cdb[0], cdb[7], cdb[9], cdb[10]) = (0x7F, 0x18, 0x12, 2);
    (cdb[19], cdb[23], cdb[31]) = (40, 10, 40);
    let plan = run(Handler::GetLbaStatus, &cdb, &[]).unwrap();
    let layout = |report, capacity| LbaStatusLayout {
        block_size: 512,
        allocation_length: 40,
        report,
        capacity,
    };
    let extents = |blocks: u64, report, capacity| Action::Extents {
        offset: 40 * 512,
        length: blocks * 512,
        limit: 2,
        layout: layout(report, capacity),
    };
    assert_eq!(plan.action, extents(10, ReportType::Mapped, false));
    (cdb[10], cdb[20]) = (3, 1);
    let plan = run(Handler::GetLbaStatus, &cdb, &[]).unwrap();
    assert_eq!(plan.action, extents(2048 - 40, ReportType::Deallocated, true));
    cdb[10] = 5;
    let refused = Err(Sense::invalid_cdb_field(10, Some(7)).into());
    assert_eq!(run(Handler::GetLbaStatus, &cdb, &[]), refused);
}
