//! What Microsoft's initiator, MPIO and failover clusters send. The sequences are rebuilt from their published requirements and from
//! how they are known to behave; they were not captured from a Windows machine (docs/platforms/windows.md).

use holdfast_tests::{
    Daemon, VolumeSpec, commands,
    wire::{FINAL, Wire},
};

use crate::{daemon, daemon_of};

/// Type EN of ISID (RFC 7143 11.12.5) with Microsoft's enterprise number 311.
const ISID: [u8; 6] = [0x40, 0x00, 0x01, 0x37, 0x00, 0x00];

fn name(node: &str) -> String {
    format!("iqn.1991-05.com.microsoft:{node}")
}

/// Logs in as the initiator does: security stage first, operational keys in a second request, digests offered with None first.
fn login(daemon: &Daemon, node: &str, path: u8) -> Wire {
    let mut isid = ISID;
    isid[5] = path;
    let mut wire = Wire::connect(daemon.port());
    let text = format!(
        "InitiatorName={} InitiatorAlias={node}.example.org SessionType=Normal TargetName={} AuthMethod=None",
        name(node),
        daemon.iqn()
    );
    let request = wire.login_request(FINAL | 1, &text).put(8, &isid);
    let (status, pdu, answer) = wire.login_with(&request);
    assert_eq!((status, pdu.bhs.0[1]), ((0, 0), FINAL | 1), "{answer}");
    assert!(
        answer.contains("AuthMethod=None") && answer.contains("TargetPortalGroupTag=1"),
        "{answer}"
    );
    let text = "HeaderDigest=None,CRC32C DataDigest=None,CRC32C ErrorRecoveryLevel=2 InitialR2T=No ImmediateData=Yes \
                MaxRecvDataSegmentLength=65536 MaxBurstLength=262144 FirstBurstLength=65536 MaxConnections=32 \
                DataPDUInOrder=Yes DataSequenceInOrder=Yes DefaultTime2Wait=0 DefaultTime2Retain=60 MaxOutstandingR2T=16";
    let request = wire.login_request(FINAL | 1 << 2 | 3, text).put(8, &isid);
    let (status, pdu, answer) = wire.login_with(&request);
    assert_eq!((status, pdu.bhs.0[1]), ((0, 0), FINAL | 1 << 2 | 3), "{answer}");
    for key in text
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, _)| key)
    {
        assert!(answer.contains(&format!("{key}=")), "{key} is answered: {answer}");
    }
    assert!(
        answer.contains("HeaderDigest=None") && answer.contains("DataDigest=None"),
        "{answer}"
    );
    wire
}

/// What the disk class asks of a new disk: every answer is GOOD, also with the allocation lengths it uses.
#[test]
fn login_and_enumeration() {
    let daemon = daemon();
    let mut wire = login(&daemon, "node-a", 0);
    wire.attentions(0);
    for length in [36, 255] {
        let standard = wire.scsi(0, &commands::inquiry(None, length));
        assert!(standard.is_good() && standard.data.len() >= 36, "{standard:?}");
        assert_eq!(
            (standard.data[0], standard.data[2] >= 5),
            (0, true),
            "a disk of SPC-3 or later"
        );
    }
    let pages = wire.scsi(0, &commands::inquiry(Some(0), 255)).data;
    for page in [0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2, 0x8f] {
        assert!(
            pages[4..].contains(&page),
            "page {page:02x}h is listed: {pages:02x?}"
        );
        let answer = wire.scsi(0, &commands::inquiry(Some(page), 255));
        assert!(answer.is_good() && answer.data[1] == page, "{answer:?}");
    }
    for (cdb, length) in [
        (&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], 8),
        (&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 32),
        (&[0x1a, 0, 0x08, 0, 192, 0], 192),
        (&[0x1a, 0, 0x3f, 0, 192, 0], 192),
        (&[0x5a, 0, 0x08, 0, 0, 0, 0, 1, 0, 0], 256),
        (&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0], 512),
    ] {
        let answer = wire.scsi(0, &commands::raw(cdb, length));
        assert!(
            answer.is_good() && !answer.data.is_empty(),
            "{cdb:02x?}: {answer:?}"
        );
    }
    assert!(wire.scsi(0, &commands::flush()).is_good());
    // EVPD=0 with a page code is refused (HLK SCSI Compliance).
    assert_eq!(
        wire.scsi(0, &commands::raw(&[0x12, 0, 0x80, 0, 255, 0], 255))
            .sense,
        (5, 0x24, 0)
    );
}

/// MSDSM tells paths of one disk from disks by the designators of page 83h: the same over each path, with a target port group
/// and a relative port of the path's own.
#[test]
fn mpio_sees_one_disk_over_two_paths() {
    let daemon = daemon();
    let designators = |wire: &mut Wire| {
        wire.attentions(0);
        let page = wire.scsi(0, &commands::inquiry(Some(0x83), 255)).data;
        let mut found = Vec::new();
        let mut at = 4;
        while at + 4 <= page.len() {
            let length = usize::from(page[at + 3]);
            // Association and type.
            found.push((page[at + 1] & 0x3f, page[at + 4..at + 4 + length].to_vec()));
            at += 4 + length;
        }
        found
    };
    let first = designators(&mut login(&daemon, "node-a", 0));
    let second = designators(&mut login(&daemon, "node-a", 1));
    let of_unit = |all: &[(u8, Vec<u8>)]| -> Vec<_> {
        all.iter().filter(|(kind, _)| kind & 0x30 == 0).cloned().collect()
    };
    assert_eq!(of_unit(&first), of_unit(&second));
    assert_eq!(of_unit(&first)[0].0, 3, "NAA comes first");
    for kind in [0x14, 0x15] {
        assert!(
            first.iter().any(|(found, _)| *found == kind),
            "{kind:02x}h: {first:02x?}"
        );
    }
    let mut wire = login(&daemon, "node-a", 0);
    wire.attentions(0);
    let standard = wire.scsi(0, &commands::inquiry(None, 36)).data;
    assert_ne!(standard[5] & 0x30, 0, "TPGS");
    let groups = wire.scsi(
        0,
        &commands::raw(&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256),
    );
    assert!(
        groups.is_good() && groups.data[4] & 0x0f < 1,
        "active/optimized: {groups:?}"
    );
}

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const REGISTER_AND_IGNORE: u8 = 6;
/// WRITE EXCLUSIVE - REGISTRANTS ONLY.
const REGISTRANTS_ONLY: u8 = 5;
const CONFLICT: u8 = 0x18;

fn out(wire: &mut Wire, action: u8, key: u64, action_key: u64) -> u8 {
    wire.scsi(
        0,
        &commands::reserve_out(action, REGISTRANTS_ONLY, key, action_key, false),
    )
    .status
}

/// The reservation as READ RESERVATION shows it: key and type.
fn holder(wire: &mut Wire) -> Option<(u64, u8)> {
    let data = wire.scsi(0, &commands::reserve_in(1)).data;
    let key = data.get(8..16)?.try_into().ok().map(u64::from_be_bytes)?;
    Some((key, data[21]))
}

/// Cluster validation, "Validate SCSI-3 Persistent Reservation": two nodes with two paths each register, reserve, read the reservation
/// from every path, write and are kept out, preempt, release and clear.
#[test]
fn cluster_validation() {
    let daemon = daemon();
    let mut a = [login(&daemon, "node-a", 0), login(&daemon, "node-a", 1)];
    let mut b = [login(&daemon, "node-b", 0), login(&daemon, "node-b", 1)];
    for wire in a.iter_mut().chain(&mut b) {
        wire.attentions(0);
    }
    let (key_a, key_b) = (0xa, 0xb);
    for wire in &mut a {
        assert_eq!(out(wire, REGISTER_AND_IGNORE, 0, key_a), 0);
    }
    assert_eq!(out(&mut b[0], RESERVE, key_b, 0), CONFLICT, "not registered");
    for wire in &mut b {
        assert_eq!(out(wire, REGISTER_AND_IGNORE, 0, key_b), 0);
    }
    assert_eq!(out(&mut a[0], RESERVE, key_a, 0), 0);
    assert_eq!(out(&mut a[0], RESERVE, key_a, 0), 0, "once more");
    for wire in a.iter_mut().chain(&mut b) {
        wire.attentions(0);
        assert_eq!(holder(wire), Some((key_a, REGISTRANTS_ONLY)));
        let keys = wire.scsi(0, &commands::reserve_in(0)).data;
        assert_eq!(keys[7], 32, "four registrations");
    }
    assert_eq!(out(&mut b[0], RESERVE, key_b, 0), CONFLICT);
    // Registrants write, others do not, and all read.
    let write = commands::write(0, vec![1; 512], false);
    assert!(a[1].scsi(0, &write).is_good());
    assert!(b[1].scsi(0, &write).is_good());
    let mut stranger = login(&daemon, "node-c", 0);
    stranger.attentions(0);
    assert_eq!(stranger.scsi(0, &write).status, CONFLICT);
    assert!(stranger.scsi(0, &commands::read(0, 1)).is_good());
    // Node B takes over: A's registrations are gone, and A hears of it on each path.
    assert_eq!(out(&mut b[0], PREEMPT, key_b, key_a), 0);
    assert_eq!(holder(&mut b[1]), Some((key_b, REGISTRANTS_ONLY)));
    for wire in &mut a {
        assert!(
            wire.attentions(0).contains(&(6, 0x2a, 0x05)),
            "registrations preempted"
        );
        assert_eq!(wire.scsi(0, &write).status, CONFLICT);
        assert_eq!(out(wire, REGISTER, key_a, 0xaa), CONFLICT, "the key is gone");
    }
    assert_eq!(out(&mut b[0], RELEASE, key_b, 0), 0);
    assert_eq!(holder(&mut b[0]), None);
    b[1].attentions(0);
    assert_eq!(out(&mut b[1], CLEAR, key_b, 0), 0);
    b[0].attentions(0);
    assert_eq!(b[0].scsi(0, &commands::reserve_in(0)).data[7], 0);
    assert!(a[0].scsi(0, &write).is_good());
}

/// A node's persistent reservation survives its own logout, and a reset of the unit.
#[test]
fn reservations_survive_logout_and_reset() {
    let daemon = daemon();
    let mut a = login(&daemon, "node-a", 0);
    a.attentions(0);
    assert_eq!(out(&mut a, REGISTER_AND_IGNORE, 0, 0xa), 0);
    assert_eq!(out(&mut a, RESERVE, 0xa, 0), 0);
    drop(a);
    let mut b = login(&daemon, "node-b", 0);
    b.attentions(0);
    assert_eq!(holder(&mut b), Some((0xa, REGISTRANTS_ONLY)));
    assert_eq!(b.manage(5, 0, u32::MAX, 0), 0);
    b.attentions(0);
    assert_eq!(holder(&mut b), Some((0xa, REGISTRANTS_ONLY)));
    let mut a = login(&daemon, "node-a", 0);
    a.attentions(0);
    assert!(
        a.scsi(0, &commands::write(0, vec![1; 512], false)).is_good(),
        "still registered"
    );
}

/// LUN 0 answers INQUIRY and REPORT LUNS for every initiator, also when no volume is mapped there; LUN numbers to 255 are single-level.
#[test]
fn lun_0_answers_without_a_volume() {
    let volumes = vec![
        VolumeSpec::standard("first", "1MiB"),
        VolumeSpec::standard("second", "1MiB"),
    ];
    let daemon = daemon_of(volumes, String::new());
    daemon.holdfast_ok(&["unmap", "1"]);
    let mut wire = login(&daemon, "node-a", 0);
    let inquiry = wire.scsi(0, &commands::inquiry(None, 36));
    assert_eq!(
        (inquiry.status, inquiry.data[0]),
        (0, 0x7f),
        "nothing is connected here"
    );
    let luns = wire.scsi(0, &commands::report_luns()).data;
    assert_eq!((luns[3], &luns[8..16]), (8, &[0, 1, 0, 0, 0, 0, 0, 0][..]));
    assert_eq!(wire.scsi(0, &commands::test_unit_ready()).sense, (5, 0x25, 0));
}

/// A LUN reset concerns its unit only: others keep their reservations and hear nothing, the unit's other initiators hear of it, and
/// RESERVE(6) of the unit ends.
#[test]
fn a_lun_reset_is_isolated() {
    let volumes = vec![
        VolumeSpec::standard("first", "1MiB"),
        VolumeSpec::standard("second", "1MiB"),
    ];
    let daemon = daemon_of(volumes, String::new());
    let mut a = login(&daemon, "node-a", 0);
    let mut b = login(&daemon, "node-b", 0);
    for wire in [&mut a, &mut b] {
        wire.attentions(0);
        wire.attentions(1);
    }
    let reserve = commands::raw(&[0x16, 0, 0, 0, 0, 0], 0);
    assert!(a.scsi(0, &reserve).is_good() && a.scsi(1, &reserve).is_good());
    assert_eq!(b.scsi(0, &commands::test_unit_ready()).status, CONFLICT);
    assert_eq!(b.manage(5, 0, u32::MAX, 0), 0);
    let heard = a.attentions(0);
    assert!(heard.iter().any(|sense| sense.1 == 0x29), "{heard:?}");
    b.attentions(0);
    assert!(
        b.scsi(0, &commands::test_unit_ready()).is_good(),
        "RESERVE(6) of LUN 0 is gone"
    );
    assert_eq!(
        b.scsi(1, &commands::test_unit_ready()).status,
        CONFLICT,
        "that of LUN 1 is not"
    );
    assert_eq!(a.attentions(1), []);
}
