//! What a peer can make the daemon hold, repeat or wait for is bounded (RFC 7143 6.3, 7.7).

use std::time::{Duration, Instant};

use holdfast_tests::{
    commands,
    wire::{FINAL, IMMEDIATE, READ, Wire},
};

use crate::{NAMES, TO_FULL, daemon, resident, session, session_of};

/// RFC 7143 7.7: what is no PDU ends its connection, and costs the daemon neither its life nor its memory.
#[test]
fn malformed_input_leaves_the_daemon_alive_and_small() {
    let daemon = daemon();
    session(&daemon, "").assert_alive();
    let before = resident(&daemon);
    let mut garbage = 1u32;
    for round in 0..200 {
        // Before login: garbage, a login of 16 MiB, additional headers, a header cut short.
        let mut wire = Wire::connect(daemon.port());
        match round % 4 {
            0 => {
                let bytes: Vec<u8> = (0..4096)
                    .map(|_| {
                        garbage = garbage.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        garbage.to_be_bytes()[0]
                    })
                    .collect();
                wire.send_bytes(&bytes);
            }
            1 => wire.send(&wire.login_request(TO_FULL, "").put(5, &[0xff; 3])),
            2 => wire.send(&wire.login_request(TO_FULL, "").put(4, &[0xff])),
            _ => wire.send_bytes(&[0x43; 20]),
        }
    }
    let mut wire = session(&daemon, "");
    wire.send(&wire.nop(IMMEDIATE, 9, wire.cmd_sn).put(5, &[0xff; 3]));
    assert!(wire.receive().is_none(), "oversize data segment");
    session(&daemon, "").assert_alive();
    let after = resident(&daemon);
    assert!(
        after < before + 32 * 1024,
        "{before} KiB before, {after} KiB after"
    );
}

/// RFC 7143 6.3: logins that never end do not keep others out.
#[test]
fn slow_logins_do_not_keep_others_out() {
    let daemon = daemon();
    let before = resident(&daemon);
    let mut slow: Vec<Wire> = (0..20).map(|_| Wire::connect(daemon.port())).collect();
    for wire in &mut slow {
        wire.send_bytes(&[0x43]);
    }
    session(&daemon, "").assert_alive();
    let after = resident(&daemon);
    assert!(
        after < before + 32 * 1024,
        "{before} KiB before, {after} KiB after"
    );
}

/// RFC 7143 6.1: login text that never ends is cut off.
#[test]
fn endless_login_text_is_refused() {
    let daemon = daemon();
    let mut wire = Wire::connect(daemon.port());
    let piece = [b"X-org.example.k=".as_slice(), &[b'v'; 4000]].concat();
    let mut rounds = 0;
    loop {
        let request = wire.login_request(0x40 | 1 << 2, "").with_data(&piece);
        let (status, ..) = wire.login_with(&request);
        rounds += 1;
        if status != (0, 0) {
            assert_eq!(status.0, 2);
            break;
        }
        assert!(rounds < 64, "the target collects without end");
    }
    assert!(wire.receive().is_none());
    // Nor may a login go on without coming to an end.
    let mut wire = Wire::connect(daemon.port());
    let mut rounds = 0;
    let mut status = wire.login(1 << 2, NAMES).0;
    while status == (0, 0) {
        rounds += 1;
        assert!(rounds < 128, "the login goes on without end");
        status = wire.login(1 << 2, "").0;
    }
    assert_eq!(status.0, 2);
}

/// RFC 7143 6.3: a login that does not end is ended, after 15 s; somebody who logged in stays.
#[test]
fn logins_time_out() {
    let daemon = daemon();
    let mut silent = Wire::connect(daemon.port());
    let mut half = Wire::connect(daemon.port());
    assert_eq!(half.login(1 << 2, NAMES).0, (0, 0));
    let begun = Instant::now();
    for wire in [&mut silent, &mut half] {
        wire.set_patience(Duration::from_secs(25));
        assert!(wire.receive().is_none());
    }
    assert!(
        (10..25).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
    session(&daemon, "").assert_alive();
}

/// One address may have 256 connections that have not logged in; those beyond are closed at once, and logged-in sessions do not
/// count. Others, here another loopback address, are not kept out.
#[test]
fn half_open_logins_of_one_address_are_limited() {
    let daemon = daemon();
    let mut inside = session(&daemon, "");
    let mut half: Vec<Wire> = (0..256).map(|_| Wire::connect(daemon.port())).collect();
    for wire in &mut half {
        assert_eq!(wire.login(1 << 2, NAMES).0, (0, 0));
    }
    let mut more = Wire::connect(daemon.port());
    assert!(more.receive().is_none(), "one too many");
    let name = "iqn.2026-11.test:other";
    let text = format!(
        "InitiatorName={name} TargetName={} SessionType=Normal",
        daemon.iqn()
    );
    let mut other = Wire::connect_from("127.0.0.2", daemon.port());
    assert_eq!(other.login(TO_FULL, &text).0, (0, 0));
    other.assert_alive();
    inside.assert_alive();
    drop(half);
    // The daemon sees the ends of the connections one after the other.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut wire = Wire::connect(daemon.port());
        wire.send(&wire.login_request(TO_FULL, &format!("{NAMES}9")));
        if wire.receive().is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "places are not given back");
    }
}

/// RFC 7143 4.2.2.1: commands beyond `MaxCmdSN` are dropped whatever their number, and early ones are held up to a bound only.
#[test]
fn floods_of_commands_are_bounded() {
    let daemon = daemon();
    let mut wire = session(&daemon, "");
    wire.attentions(0);
    let before = resident(&daemon);
    let base = wire.cmd_sn;
    for tag in 0..20_000 {
        wire.send(&wire.nop(0, tag, base.wrapping_add(2000 + tag)));
    }
    wire.assert_alive();
    // A gap, and as much behind it as the window takes.
    let data = vec![5; 8000];
    for round in 0..50 {
        for place in 1..100 {
            let nop = wire
                .nop(0, round * 100 + place, base.wrapping_add(place))
                .with_data(&data);
            wire.send(&nop);
        }
    }
    assert!(
        resident(&daemon) < before + (16 << 10),
        "{before} KiB before, {} KiB after",
        resident(&daemon)
    );
    session_of(&daemon, "iqn.2026-11.test:other").assert_alive();
}

/// An initiator that asks and asks and does not read holds no more than its share, and nobody up.
#[test]
fn slow_readers_are_bounded() {
    let daemon = daemon();
    let mut other = session_of(&daemon, "iqn.2026-11.test:other");
    other.attentions(0);
    let before = resident(&daemon);
    let mut slow: Vec<Wire> = (0..8u8)
        .map(|isid| Wire::session_as(daemon.port(), daemon.iqn(), "iqn.2026-11.test:slow", isid, ""))
        .collect();
    for wire in &mut slow {
        wire.attentions(0);
        for tag in 0..100 {
            let pdu = wire.command_pdu(0, tag, FINAL | READ, 1 << 20, &commands::read(0, 2048).cdb);
            wire.send(&pdu);
        }
    }
    for _ in 0..100 {
        assert!(other.scsi(0, &commands::read(0, 8)).is_good());
    }
    let after = resident(&daemon);
    // 800 MiB were asked for.
    assert!(
        after < before + (96 << 10),
        "{before} KiB before, {after} KiB after"
    );
    // Who reads after all gets everything.
    for tag in 0..100 {
        assert_eq!(slow[0].finish(tag, &[]).data.len(), 1 << 20);
    }
}

/// What a load took is given back when it is over: sessions end, buffers go back to the system within seconds.
#[test]
fn memory_is_given_back_after_a_load() {
    let daemon = daemon();
    let mut calm = session_of(&daemon, "iqn.2026-11.test:calm");
    calm.attentions(0);
    let before = resident(&daemon);
    let peak = std::thread::scope(|scope| {
        for isid in 0..16 {
            let daemon = &daemon;
            scope.spawn(move || {
                let name = "iqn.2026-11.test:load";
                let mut wire = Wire::session_as(daemon.port(), daemon.iqn(), name, isid, "");
                // 16 at once, on a machine that may be busy with other things.
                wire.set_patience(Duration::from_secs(60));
                wire.attentions(0);
                for round in 0..6 {
                    let write = commands::write(0, vec![round; 4 << 20], false);
                    assert!(wire.scsi(0, &write).is_good());
                }
            });
        }
        let mut peak = 0;
        for _ in 0..40 {
            peak = peak.max(resident(&daemon));
            std::thread::sleep(Duration::from_millis(25));
        }
        peak
    });
    let deadline = Instant::now() + Duration::from_secs(25);
    loop {
        calm.assert_alive();
        let now = resident(&daemon);
        if now < before + (12 << 10) {
            eprintln!("{before} KiB before, {peak} KiB under load, {now} KiB after");
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{before} KiB before, {peak} KiB under load, {now} KiB 25 s after"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
