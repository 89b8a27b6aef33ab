//! What ESXi sends to a datastore: reservations of old, hardware assisted locking, cloning, zeroing and reclaiming. Rebuilt from published
//! requirements, not captured from an ESXi host (docs/platforms/esxi.md).

use holdfast_tests::{Daemon, VolumeSpec, commands, wire::Wire};

use crate::{daemon, daemon_of};

fn login(daemon: &Daemon, host: &str) -> Wire {
    let name = format!("iqn.1998-01.com.vmware:{host}");
    let keys = "HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 IFMarker=No OFMarker=No \
                ErrorRecoveryLevel=0 InitialR2T=No ImmediateData=Yes MaxBurstLength=262144 FirstBurstLength=262144 \
                MaxOutstandingR2T=1 MaxConnections=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes MaxRecvDataSegmentLength=131072";
    let keys: Vec<&str> = keys.split_whitespace().collect();
    let mut wire = Wire::session_as(daemon.port(), daemon.iqn(), &name, 1, &keys.join(" "));
    wire.attentions(0);
    wire
}

fn block(byte: u8) -> Vec<u8> {
    vec![byte; 512]
}

/// The pages read at a scan: identity, extended INQUIRY, limits, provisioning.
#[test]
fn scan() {
    let daemon = daemon();
    let mut wire = login(&daemon, "esx-a");
    for page in [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2] {
        let answer = wire.scsi(0, &commands::inquiry(Some(page), 255));
        assert!(
            answer.is_good() && answer.data[1] == page,
            "{page:02x}h: {answer:?}"
        );
    }
    let limits = wire.scsi(0, &commands::inquiry(Some(0xb0), 255)).data;
    let word = |at: usize| u32::from_be_bytes([limits[at], limits[at + 1], limits[at + 2], limits[at + 3]]);
    assert!(limits[5] >= 1, "COMPARE AND WRITE of a block");
    assert!(word(20) > 0 && word(24) > 0, "UNMAP");
    assert!(
        u64::from(word(28)) * 512 <= 1 << 20,
        "granularity of at most 1 MiB"
    );
    let provisioning = wire.scsi(0, &commands::inquiry(Some(0xb2), 255)).data;
    assert_eq!(provisioning[5] & 0x80, 0x80, "LBPU");
}

/// RESERVE(6) keeps the other host out until RELEASE(6), and dies with the session.
#[test]
fn reserve_and_release() {
    let daemon = daemon();
    let (mut a, mut b) = (login(&daemon, "esx-a"), login(&daemon, "esx-b"));
    let (reserve, release) = (commands::raw(&[0x16], 0), commands::raw(&[0x17], 0));
    assert!(a.scsi(0, &reserve).is_good());
    assert_eq!(b.scsi(0, &commands::read(0, 1)).status, 0x18);
    assert!(b.scsi(0, &release).is_good(), "not the holder's: no effect");
    assert_eq!(b.scsi(0, &reserve).status, 0x18);
    assert!(a.scsi(0, &release).is_good());
    assert!(b.scsi(0, &reserve).is_good());
    drop(b);
    let mut again = login(&daemon, "esx-b");
    assert!(again.scsi(0, &commands::read(0, 1)).is_good());
    assert!(a.scsi(0, &reserve).is_good(), "the session's end ended it");
}

/// The heartbeat: each host swaps its slot if it is as last seen. A lost race is MISCOMPARE (Eh/1Dh/00h) with the offset of the first byte
/// that differs.
#[test]
fn ats_heartbeat() {
    let daemon = daemon();
    let (mut a, mut b) = (login(&daemon, "esx-a"), login(&daemon, "esx-b"));
    let swap = |wire: &mut Wire, old: u8, new: u8| {
        wire.scsi(
            0,
            &commands::compare_and_write(64, 1, [block(old), block(new)].concat()),
        )
    };
    for beat in 0..50 {
        let wire = if beat % 2 == 0 { &mut a } else { &mut b };
        assert!(swap(wire, beat, beat + 1).is_good());
    }
    let lost = swap(&mut a, 7, 8);
    assert_eq!(
        (lost.status, lost.sense, lost.information),
        (2, (0x0e, 0x1d, 0), Some(0))
    );
    assert_eq!(
        a.scsi(0, &commands::read(64, 1)).data,
        block(50),
        "nothing was written"
    );
    let mut late = block(50);
    late[300] ^= 1;
    let lost = a.scsi(0, &commands::compare_and_write(64, 1, [late, block(9)].concat()));
    assert_eq!((lost.sense, lost.information), ((0x0e, 0x1d, 0), Some(300)));
    // Racing for one lock, one host has it.
    let mut won = 0;
    for wire in [&mut a, &mut b] {
        won += u32::from(swap(wire, 50, 99).is_good());
    }
    assert_eq!(won, 1);
}

/// EXTENDED COPY (LID1) between two units, block device to block device, with identification descriptors; then its status.
#[test]
fn xcopy_clones_a_disk() {
    let volumes = vec![
        VolumeSpec::standard("from", "8MiB"),
        VolumeSpec::standard("to", "8MiB"),
    ];
    let daemon = daemon_of(volumes, String::new());
    let mut wire = login(&daemon, "esx-a");
    wire.attentions(1);
    let data: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 512 + at % 5) as u8).collect();
    assert!(wire.scsi(0, &commands::write(16, data.clone(), false)).is_good());
    let naa = |wire: &mut Wire, lun| {
        let page = wire.scsi(lun, &commands::inquiry(Some(0x83), 255)).data;
        assert_eq!((page[5] & 0x3f, page[7]), (3, 16), "NAA comes first");
        page[8..24].to_vec()
    };
    let mut list = vec![0x21, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
    for lun in [0, 1] {
        let mut target = vec![0xe4, 0, 0, 0, 1, 3, 0, 16];
        target.extend(naa(&mut wire, lun));
        target.extend([0, 0, 0, 0, 0, 0, 2, 0]);
        list.extend(target);
    }
    list.extend([0x02, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0x08, 0x00]);
    list.extend(16u64.to_be_bytes());
    list.extend(32u64.to_be_bytes());
    let mut copy = commands::raw(
        &[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0, 0],
        0,
    );
    copy.data_out = list;
    let done = wire.scsi(0, &copy);
    assert!(done.is_good(), "{done:?}");
    assert_eq!(wire.scsi(1, &commands::read(32, 2048)).data, data);
    let status = wire.scsi(
        0,
        &commands::raw(&[0x84, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], 64),
    );
    assert!(
        status.is_good() && status.data[4] & 0x7f == 1,
        "completed without errors: {status:?}"
    );
    let parameters = wire.scsi(
        0,
        &commands::raw(&[0x84, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0], 512),
    );
    assert!(parameters.is_good() && parameters.data.len() >= 44);
}

/// WRITE SAME(16) zeroes, UNMAP gives back, and what was given back reads as zeros.
#[test]
fn zeroing_and_reclaiming() {
    let daemon = daemon();
    let mut wire = login(&daemon, "esx-a");
    assert!(
        wire.scsi(0, &commands::write(0, vec![7; 1 << 20], false))
            .is_good()
    );
    assert!(wire.scsi(0, &commands::write_same(0, 1024, block(0))).is_good());
    assert_eq!(wire.scsi(0, &commands::read(0, 1024)).data, vec![0; 512 << 10]);
    assert_eq!(wire.scsi(0, &commands::read(1024, 1)).data, block(7));
    assert!(wire.scsi(0, &commands::unmap(1024, 1024)).is_good());
    assert_eq!(wire.scsi(0, &commands::read(1024, 1024)).data, vec![0; 512 << 10]);
    let status = wire.scsi(
        0,
        &commands::raw(&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 64, 0, 0], 64),
    );
    assert!(
        status.is_good() && status.data[20] & 0x0f == 1,
        "deallocated: {status:?}"
    );
}

/// A LUN that is taken away is a permanent device loss (5h/25h/00h), at once and not by silence; REPORT LUNS tells, and the others go on.
#[test]
fn a_removed_lun_is_a_permanent_device_loss() {
    let volumes = vec![
        VolumeSpec::standard("stays", "1MiB"),
        VolumeSpec::standard("goes", "1MiB"),
    ];
    let daemon = daemon_of(volumes, String::new());
    let mut wire = login(&daemon, "esx-a");
    wire.attentions(1);
    daemon.holdfast_ok(&["unmap", "goes"]);
    assert_eq!(wire.scsi(1, &commands::read(0, 1)).sense, (5, 0x25, 0));
    assert_eq!(wire.attentions(0), [(6, 0x3f, 0x0e)]);
    assert!(wire.scsi(0, &commands::read(0, 1)).is_good());
}

/// ABORT TASK is always answered, whatever it is about: hosts give a connection up after a few refusals.
#[test]
fn abort_storms_are_answered() {
    let daemon = daemon();
    let mut wire = login(&daemon, "esx-a");
    for tag in 0..200 {
        let answer = wire.manage(1, 0, tag, wire.cmd_sn.wrapping_sub(1));
        assert!(answer <= 1, "{answer}");
    }
    wire.assert_alive();
}
