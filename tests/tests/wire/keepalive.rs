//! NOP-In on silent connections (RFC 7143 11.19), as each target's configuration has it.

use std::time::Duration;

use holdfast_tests::{
    Daemon, VolumeSpec,
    wire::{FINAL, Heard, IMMEDIATE, Pdu, Wire},
};

use crate::{daemon_of, session};

const TIMES: &str = "nop_interval = 1\nnop_patience = 60\n";

/// A daemon whose target asks after a second, and gives up after a minute.
fn asking() -> Daemon {
    let daemon = daemon_of(vec![VolumeSpec::standard("disk", "1MiB")], String::new());
    daemon.reconfigure("[[target]]\n", &format!("[[target]]\n{TIMES}"));
    daemon
}

/// The tag of the question that this is.
fn question(pdu: &Pdu) -> u32 {
    assert_eq!((pdu.bhs.0[0], pdu.get(16)), (0x20, u32::MAX), "{pdu:?}");
    assert_ne!(pdu.get(20), u32::MAX);
    pdu.get(20)
}

fn answer(wire: &mut Wire, question: u32) {
    let here = Pdu::new(IMMEDIATE, FINAL)
        .word(16, u32::MAX)
        .word(20, question)
        .word(24, wire.cmd_sn)
        .word(28, wire.exp_stat_sn);
    wire.send(&here);
}

/// Who answers is asked again; who does not is given up.
#[test]
fn a_silent_initiator_is_asked_when_the_target_says() {
    let daemon = asking();
    let mut wire = session(&daemon, "");
    for _ in 0..2 {
        let asked = wire.receive().expect("asked");
        answer(&mut wire, question(&asked));
    }
    question(&wire.receive().expect("asked again"));
    daemon.reconfigure("nop_patience = 60", "nop_patience = 1");
    assert!(wire.receive().is_none(), "and given up");
}

/// A reload changes it for the sessions there are.
#[test]
fn a_reload_ends_the_questions() {
    let daemon = asking();
    let mut wire = session(&daemon, "");
    let asked = wire.receive().expect("asked");
    answer(&mut wire, question(&asked));
    daemon.reconfigure(TIMES, "nop_interval = 0\n");
    // One may have been on its way; it is not missed by anybody any more.
    wire.assert_alive();
    assert!(matches!(wire.listen(Duration::from_millis(2500)), Heard::Silence));
    wire.set_patience(Duration::from_secs(10));
    wire.assert_alive();
}
