//! Units that come, go and come back as others, as initiators see it.

use holdfast_tests::{VolumeSpec, commands, wire::Wire};

use crate::{daemon, daemon_of, session};

/// SPC-4, REPORTED LUNS DATA HAS CHANGED (6h/3Fh/0Eh): on the units that stay, when others come or go.
#[test]
fn luns_that_come_and_go_are_announced() {
    let volumes = vec![
        VolumeSpec::standard("stays", "1MiB"),
        VolumeSpec::standard("moves", "1MiB"),
    ];
    let daemon = daemon_of(volumes, String::new());
    let mut wire = session(&daemon, "");
    wire.attentions(0);
    daemon.holdfast_ok(&["unmap", "2"]);
    assert_eq!(wire.attentions(0), [(6, 0x3f, 0x0e)]);
    daemon.holdfast_ok(&["map", "2", "--lun", "7"]);
    assert!(wire.attentions(0).contains(&(6, 0x3f, 0x0e)));
    let luns = wire.scsi(0, &commands::report_luns()).data;
    assert_eq!((luns[3], luns[17]), (16, 7));
    assert!(wire.scsi(7, &commands::inquiry(None, 36)).is_good());
}

/// SPC-4, CAPACITY DATA HAS CHANGED (6h/2Ah/09h).
#[test]
fn a_resize_is_announced() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    wire.attentions(0);
    daemon.holdfast_ok(&["volume", "resize", "disk", "128MiB"]);
    assert_eq!(wire.attentions(0), [(6, 0x2a, 0x09)]);
    let capacity = wire
        .scsi(0, &commands::raw(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8))
        .data;
    assert_eq!(
        u32::from_be_bytes([capacity[0], capacity[1], capacity[2], capacity[3]]),
        (128 << 11) - 1
    );
}

fn naa(wire: &mut Wire, lun: u16) -> Vec<u8> {
    wire.attentions(lun);
    wire.scsi(lun, &commands::inquiry(Some(0x83), 255)).data[8..24].to_vec()
}

/// A volume that is deleted takes its designator, its reservations and its registrations with it: the next one with its number is
/// another unit.
#[test]
fn a_number_used_again_is_another_unit() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    let create = || {
        daemon.holdfast_ok(&["volume", "create", "again", "--number", "5", "--size", "1MiB"]);
        daemon.holdfast_ok(&["map", "5", "--lun", "5"]);
    };
    create();
    let first = naa(&mut wire, 5);
    assert!(
        wire.scsi(5, &commands::reserve_out(6, 5, 0, 0xfeed, true))
            .is_good()
    );
    assert!(
        wire.scsi(5, &commands::reserve_out(1, 5, 0xfeed, 0, false))
            .is_good()
    );
    daemon.holdfast_ok(&["unmap", "5"]);
    daemon.holdfast_ok(&["volume", "delete", "5"]);
    create();
    assert_ne!(naa(&mut wire, 5), first);
    let keys = wire.scsi(5, &commands::reserve_in(0));
    assert_eq!((keys.status, keys.data[7]), (0, 0), "no registration is left");
}
