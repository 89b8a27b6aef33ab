//! A target whose initiators have one session, and follow its shared unit from one system to the other (RFC 7143 11.13.5, 11.9.1).

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use holdfast_tests::{
    Daemon, commands,
    systems::Systems,
    tool, until,
    wire::{FINAL, Wire},
};

/// BUSY.
const BUSY: u8 = 0x08;

/// Two systems whose targets send initiators to each other.
fn systems() -> Systems {
    let systems = Systems::start_shared("8MiB");
    redirect(&systems.a, 100, &systems.b);
    redirect(&systems.b, 200, &systems.a);
    systems
}

fn redirect(from: &Daemon, offset: u16, to: &Daemon) {
    let offset = format!("relative_port_offset = {offset}\n");
    let redirect = format!("{offset}redirect = \"127.0.0.1:{}\"\n", to.port());
    from.reconfigure(&offset, &redirect);
}

/// Status and text of the answer to a login.
fn answer(daemon: &Daemon) -> ((u8, u8), String) {
    let mut wire = Wire::connect(daemon.port());
    let text = format!(
        "InitiatorName=iqn.2026-11.test:who TargetName={} SessionType=Normal",
        daemon.iqn()
    );
    let (status, _, text) = wire.login(FINAL | 1 << 2 | 3, &text);
    (status, text.trim_end().to_owned())
}

/// Who logs in to `from` is sent to `to`.
fn is_sent(from: &Daemon, to: &Daemon) -> bool {
    let (status, text) = answer(from);
    let sent = status == (1, 1);
    let address = format!("TargetAddress=127.0.0.1:{}", to.port());
    assert!(!sent || text == address, "{text}");
    assert!(sent || status == (0, 0), "{status:?}");
    sent
}

/// Who logs in is served.
fn serves(daemon: &Daemon) -> bool {
    answer(daemon).0 == (0, 0)
}

fn session(daemon: &Daemon) -> Wire {
    let mut wire = Wire::session_as(daemon.port(), daemon.iqn(), "iqn.2026-11.test:host", 1, "");
    heard(&mut wire);
    wire
}

/// The unit attentions that are waiting are heard, whatever comes then.
fn heard(wire: &mut Wire) {
    while wire.scsi(0, &commands::test_unit_ready()).sense.0 == 6 {}
}

fn write(wire: &mut Wire, byte: u8) -> u8 {
    let ended = wire.scsi(0, &commands::write(0, vec![byte; 512], false));
    ended.status
}

/// ASYMMETRIC ACCESS STATE of the one port group, and what it supports.
fn group(wire: &mut Wire) -> (u8, u8) {
    let report = wire.scsi(
        0,
        &commands::raw(&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], 255),
    );
    (report.data[4], report.data[5])
}

/// The next that comes asks for a logout within some seconds; the session ends with it.
fn is_asked_to_log_out(mut wire: Wire) {
    let message = wire.answer();
    assert_eq!((message.bhs.0[0], message.bhs.0[36]), (0x32, 1), "{message:?}");
    wire.send(&wire.logout_request(0, 0));
    // Or it is dropped: on a slow machine the time may be over.
    while let Some(last) = wire.receive() {
        assert!(last.bhs.0[0] == 0x26 || last.bhs.0[36] == 3, "{last:?}");
    }
}

fn until_state(daemon: &Daemon, state: &str) {
    until(state, || daemon.pair("1", "1")["state"] == state);
}

fn establish(systems: &Systems) {
    systems
        .a
        .holdfast_ok(&["establish", "1", "HF-B:1", "--mode", "sync", "--wait"]);
    until_state(&systems.b, "duplex");
}

/// An initiator is served where the unit is led, and sent there from the other side; a change of the parts is told to the sessions that there
/// are. Where it is not known who leads, each side serves, and what touches the medium is to be tried again.
#[test]
fn sessions_follow_the_unit() {
    let systems = systems();
    let (a, b) = (&systems.a, &systems.b);
    let mut early = session(b);
    assert_eq!((write(&mut early, 1), group(&mut early)), (BUSY, (0xf, 0x85)));
    assert!(serves(a) && serves(b), "nobody leads");

    establish(&systems);
    until("B knows that A leads", || is_sent(b, a));
    is_asked_to_log_out(early);
    let mut host = session(a);
    assert_eq!((write(&mut host, 2), group(&mut host)), (0, (0, 0x85)));

    a.holdfast_ok(&["swap", "1", "1"]);
    is_asked_to_log_out(host);
    until("A knows that B leads", || is_sent(a, b));
    let mut host = session(b);
    assert_eq!(write(&mut host, 3), 0);

    // What the other does now, A does not know.
    systems.part();
    systems.until_linked(false);
    until("A serves", || serves(a));
    let mut standing_by = session(a);
    assert_eq!(write(&mut standing_by, 4), BUSY);
    assert_eq!(write(&mut host, 4), 0);
    assert!(serves(b));
    systems.mend();
    systems.until_linked(true);
    is_asked_to_log_out(standing_by);
    until("A knows that B leads still", || is_sent(a, b));
    assert_eq!(write(&mut host, 5), 0, "and its sessions have noticed nothing");

    // Off by a reload: both sides are paths again, one of them in standby.
    b.reconfigure("redirect = ", "nop_interval = 15 # ");
    a.reconfigure("redirect = ", "nop_interval = 15 # ");
    let mut path = session(a);
    assert_eq!(group(&mut path), (2, 0x05));
    let refused = path.scsi(0, &commands::write(0, vec![0; 512], false));
    assert_eq!(refused.sense, (2, 4, 0x0b));
}

/// A side that has taken over is where hosts go, once the side that led has heard of it.
#[test]
fn sessions_follow_a_takeover() {
    let mut systems = systems();
    establish(&systems);
    systems.part();
    systems.a.kill();
    systems.b.holdfast_ok(&["swap", "1", "1", "--force"]);
    let mut host = session(&systems.b);
    assert_eq!(write(&mut host, 1), 0);
    systems.a.start_again();
    let mut back = session(&systems.a);
    assert_eq!(write(&mut back, 2), BUSY);
    assert!(serves(&systems.a));
    systems.mend();
    is_asked_to_log_out(back);
    until("A knows that B leads", || is_sent(&systems.a, &systems.b));
    assert!(serves(&systems.b));
    assert_eq!(write(&mut host, 3), 0);
}

/// libiscsi goes where it is sent: when it logs in, and in the middle of its work when the parts change.
#[test]
fn libiscsi_follows_the_unit() {
    let systems = systems();
    establish(&systems);
    until("B knows that A leads", || is_sent(&systems.b, &systems.a));
    let url = systems.b.url(0);
    let shown = tool::ok("iscsi-readcapacity16", &[&url]);
    assert!(shown.contains("Total size:8388608"), "{shown}");
    let mut steps = Command::new("qemu-io");
    steps.args(["-f", "raw", &url]).stdin(Stdio::piped());
    let mut steps = steps.stdout(Stdio::piped()).spawn().expect("qemu-io is there");
    let mut input = steps.stdin.take().expect("it was asked for");
    writeln!(input, "write -P 0x11 0 4k\nflush").expect("it reads");
    let mut host = session(&systems.a);
    until("the first write", || {
        host.scsi(0, &commands::read(0, 1)).data == [0x11; 512]
    });
    drop(host);
    systems.a.holdfast_ok(&["swap", "1", "1"]);
    writeln!(input, "write -P 0x22 0 4k\nread -P 0x22 0 4k\nquit").expect("it reads");
    drop(input);
    let mut ended = None;
    until("qemu-io is done", || {
        ended = steps.try_wait().expect("our child");
        ended.is_some()
    });
    let said = steps.wait_with_output().expect("our child");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(ended.is_some_and(|ended| ended.success()), "{said}");
    assert_eq!(said.matches("wrote 4096/4096").count(), 2, "{said}");
    assert_eq!(
        session(&systems.b).scsi(0, &commands::read(0, 1)).data,
        [0x22; 512]
    );
}
