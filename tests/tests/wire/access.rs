//! What each initiator sees of a target: LUN maps by name and by pattern, read-only ones, and how they change (SPC-4 4.5.21,
//! SAM-5 4.6.4).

use holdfast_tests::{Daemon, VolumeSpec, commands, wire::Wire};

use crate::{daemon_of, session_of};

/// Fits both patterns of [`masked`]; the narrower one counts.
const BACKUP: &str = "iqn.2026-11.test:backup:01";
/// Has a rule of its own, though a pattern fits it.
const NAMED: &str = "iqn.2026-11.test:backup:named";
/// Sees what the target has for everybody.
const OTHER: &str = "iqn.2026-11.test:other";

const BACKUP_LUNS: &str = "luns = [{ lun = 5, volume = 1, read_only = true }, { lun = 6, volume = 3 }]";

/// Three volumes as LUNs 0 to 2, seen otherwise by backup hosts.
fn masked() -> Daemon {
    let volumes = ["one", "two", "three"].map(|name| VolumeSpec::standard(name, "1MiB"));
    let initiators = format!(
        "[[target.initiator]]\nname = \"iqn.2026-11.test:*\"\n\
         [[target.initiator]]\nname = \"{NAMED}\"\nluns = []\n\
         [[target.initiator]]\nname = \"IQN.2026-11.Test:backup:*\"\n{BACKUP_LUNS}\n"
    );
    daemon_of(volumes.into(), initiators)
}

/// The flat LUNs that REPORT LUNS tells.
fn reported(wire: &mut Wire) -> Vec<u16> {
    let data = wire.scsi(0, &commands::report_luns()).data;
    data[8..]
        .chunks(8)
        .map(|lun| u16::from_be_bytes([lun[0] & 0x3f, lun[1]]))
        .collect()
}

fn write_protected(wire: &mut Wire, lun: u16) -> bool {
    let header = wire.scsi(lun, &commands::raw(&[0x1a, 0, 0x3f, 0, 4], 4)).data;
    header[2] & 0x80 != 0
}

fn identification(wire: &mut Wire, lun: u16) -> Vec<u8> {
    wire.scsi(lun, &commands::inquiry(Some(0x83), 255)).data[8..24].to_vec()
}

fn write(wire: &mut Wire, lun: u16) -> (u8, u8, u8) {
    wire.scsi(lun, &commands::write(0, vec![0x5a; 512], false)).sense
}

/// SPC-4 6.33, 6.6, SAM-5 4.6.4: the LUNs that an initiator has are all that it is told of; behind others there is nothing, for
/// INQUIRY, commands and task management.
#[test]
fn a_masked_lun_is_not_there() {
    let daemon = masked();
    let (mut backup, mut named) = (session_of(&daemon, BACKUP), session_of(&daemon, NAMED));
    let mut other = session_of(&daemon, OTHER);
    assert_eq!(reported(&mut other), [0, 1, 2]);
    assert_eq!(reported(&mut backup), [5, 6]);
    assert!(reported(&mut named).is_empty());
    for lun in [0, 1, 2] {
        let inquiry = backup.scsi(lun, &commands::inquiry(None, 36));
        assert_eq!((inquiry.status, inquiry.data[0]), (0, 0x7f), "PQ 011b, LUN {lun}");
        let read = backup.scsi(lun, &commands::read(0, 1));
        assert_eq!(read.sense, (5, 0x25, 0));
        assert_eq!(
            backup.manage(2, lun, u32::MAX, 0),
            2,
            "ABORT TASK SET: the LUN does not exist"
        );
    }
    assert_eq!(backup.manage(2, 5, u32::MAX, 0), 0);
    assert_eq!(named.scsi(0, &commands::inquiry(None, 36)).data[0], 0x7f);
    assert_eq!(identification(&mut backup, 5), identification(&mut other, 0));
    assert_eq!(identification(&mut backup, 6), identification(&mut other, 2));
    let listed = daemon.holdfast_ok(&["volume", "list"]);
    let whose = "for iqn.2026-11.test:backup:* (read-only)";
    assert!(listed.replace('\n', " ").contains(whose), "{listed}");
    let refused = daemon.holdfast(&["volume", "delete", "3"]);
    assert_eq!(refused.code(), 1, "it is a LUN of everybody");
    daemon.holdfast_ok(&["unmap", "3"]);
    let refused = daemon.holdfast(&["volume", "delete", "3"]);
    assert!(
        refused.code() == 1 && refused.stderr.contains("backup:*"),
        "{}",
        refused.said()
    );
}

/// SPC-4 7.5.7, 4.5.21: read-only is said in WP and by 7h/27h/00h, and it is for the one initiator only; a reservation is the unit's,
/// whatever number it has.
#[test]
fn a_read_only_map_is_write_protected() {
    let daemon = masked();
    let (mut backup, mut other) = (session_of(&daemon, BACKUP), session_of(&daemon, OTHER));
    backup.attentions(5);
    backup.attentions(6);
    other.attentions(0);
    assert!(write_protected(&mut backup, 5) && !write_protected(&mut backup, 6));
    assert!(!write_protected(&mut other, 0));
    assert_eq!(write(&mut backup, 5), (7, 0x27, 0));
    for command in [
        commands::unmap(0, 8),
        commands::write_same(0, 8, vec![0; 512]),
        commands::write_atomic(0, vec![0; 512]),
        commands::compare_and_write(0, 1, vec![0; 1024]),
    ] {
        assert_eq!(backup.scsi(5, &command).sense, (7, 0x27, 0), "{command:?}");
    }
    assert_eq!(
        (write(&mut backup, 6), write(&mut other, 0)),
        ((0, 0, 0), (0, 0, 0))
    );
    assert_eq!(backup.scsi(5, &commands::read(0, 1)).data, [0x5a; 512]);
    assert!(other.scsi(0, &commands::raw(&[0x16], 0)).is_good(), "RESERVE(6)");
    assert_eq!(backup.scsi(5, &commands::read(0, 1)).status, 0x18);
    assert!(other.scsi(0, &commands::raw(&[0x17], 0)).is_good(), "RELEASE(6)");
    assert!(backup.scsi(5, &commands::read(0, 1)).is_good());
}

/// SPC-4 REPORTED LUNS DATA HAS CHANGED (6h/3Fh/0Eh) and MODE PARAMETERS CHANGED (6h/2Ah/01h): a reload tells the initiators whose map
/// it changes, and no others.
#[test]
fn a_reload_tells_those_whose_luns_change() {
    let daemon = masked();
    let (mut backup, mut other) = (session_of(&daemon, BACKUP), session_of(&daemon, OTHER));
    backup.attentions(5);
    backup.attentions(6);
    other.attentions(0);
    let more = "luns = [{ lun = 5, volume = 1, read_only = true }, { lun = 7, volume = 3 }, { lun = 8, volume = 2 }]";
    daemon.reconfigure(BACKUP_LUNS, more);
    assert_eq!(backup.attentions(5), [(6, 0x3f, 0x0e)]);
    assert_eq!(reported(&mut backup), [5, 7, 8]);
    assert_eq!(backup.scsi(6, &commands::read(0, 1)).sense, (5, 0x25, 0));
    let writable = more.replace(", read_only = true", "");
    daemon.reconfigure(more, &writable);
    assert_eq!(backup.attentions(5), [(6, 0x2a, 0x01)]);
    assert!(!write_protected(&mut backup, 5));
    assert_eq!(write(&mut backup, 5), (0, 0, 0));
    daemon.reconfigure(&format!("{writable}\n"), "");
    assert_eq!(backup.attentions(0), [(6, 0x3f, 0x0e)]);
    assert_eq!(reported(&mut backup), [0, 1, 2], "the target's");
    assert_eq!(other.attentions(0), [], "nothing has changed for it");
}

/// RFC 7143 11.9.1, event 0: who gets other LUNs is told at once too, unasked, by the sense data that its next command finds pending
/// all the same. Others are not, and nobody is where `announce_luns` says so.
#[test]
fn other_luns_are_told_unasked() {
    let daemon = masked();
    let (mut backup, mut other) = (session_of(&daemon, BACKUP), session_of(&daemon, OTHER));
    backup.attentions(5);
    other.attentions(0);
    let more = BACKUP_LUNS.replace(" }]", " }, { lun = 7, volume = 2 }]");
    daemon.reconfigure(BACKUP_LUNS, &more);
    let told = backup.receive().expect("the session goes on");
    let mut sense = vec![0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x3f, 0x0e];
    sense.resize(20, 0);
    assert_eq!((told.bhs.0[0], told.bhs.0[36]), (0x32, 0), "{told:?}");
    assert_eq!((told.get(8), told.get(12), told.get(16)), (0, 0, u32::MAX));
    assert_eq!(told.data, sense);
    assert_eq!(backup.attentions(5), [(6, 0x3f, 0x0e)], "and it is pending");
    assert_eq!(other.attentions(0), []);
    // Another number for a unit is another LUN; that it may be written is not.
    let less = BACKUP_LUNS.replace("lun = 6", "lun = 8");
    daemon.reconfigure(&more, &less);
    assert_eq!(backup.receive().map(|told| told.data), Some(sense));
    assert_eq!(backup.attentions(5), [(6, 0x3f, 0x0e)]);
    let writable = less.replace(", read_only = true", "");
    daemon.reconfigure(&less, &writable);
    assert_eq!(backup.attentions(5), [(6, 0x2a, 0x01)]);
    daemon.reconfigure("[[target]]\n", "[[target]]\nannounce_luns = false\n");
    daemon.reconfigure(&writable, BACKUP_LUNS);
    assert_eq!(backup.attentions(5), [(6, 0x3f, 0x0e), (6, 0x2a, 0x01)]);
    backup.assert_alive();
    other.assert_alive();
    assert_eq!((backup.events.len(), other.events.len()), (0, 0));
}
