//! Two daemons that show one unit: what a host with paths to both sees of each, while the pair of the two volumes goes through its states.

use std::time::Duration;

use holdfast_tests::{
    Daemon, commands,
    initiator::{Completion, GOOD, Initiator},
    stamps::SECTOR,
    systems::Systems,
    until,
};

/// 2h/04h/0Bh: the port is in standby state.
const STANDBY: (u8, u8, u8) = (2, 4, 0x0b);
/// 6h/2Ah/06h: ASYMMETRIC ACCESS STATE CHANGED.
const ACCESS_CHANGED: (u8, u8, u8) = (6, 0x2a, 6);
/// ASYMMETRIC ACCESS STATE.
const ACTIVE: u8 = 0;
const IN_STANDBY: u8 = 2;

fn systems() -> Systems {
    Systems::start_shared("8MiB")
}

/// A path to the unit: one session, which has heard what there was to hear.
fn path(daemon: &Daemon) -> Initiator {
    let mut path = daemon.host();
    heard(&mut path);
    path
}

/// One TEST UNIT READY, which may hear a unit attention.
fn ready(path: &mut Initiator) -> Completion {
    path.submit(0, commands::test_unit_ready()).expect("connected");
    let ended = path.poll(Duration::from_secs(60)).expect("connected");
    ended.expect("within a minute")
}

/// The unit attentions that are waiting.
fn heard(path: &mut Initiator) -> Vec<(u8, u8, u8)> {
    let mut heard = Vec::new();
    loop {
        let completion = ready(path);
        if !completion.is_unit_attention() {
            return heard;
        }
        heard.push(completion.sense_code());
    }
}

fn asked(path: &mut Initiator, cdb: &[u8]) -> Vec<u8> {
    let completion = path.run(0, &commands::raw(cdb, 255)).expect("connected");
    assert_eq!(completion.status, GOOD, "{completion:?}");
    completion.data
}

/// The state that REPORT TARGET PORT GROUPS gives, with the group and its one port.
fn group(path: &mut Initiator) -> (u8, u16, u16) {
    let report = asked(path, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]);
    assert_eq!((report.len(), report[3], report[11]), (16, 12, 1), "{report:?}");
    let number = |at: usize| u16::from_be_bytes([report[at], report[at + 1]]);
    (report[4], number(6), number(14))
}

fn write(path: &mut Initiator, lba: u64, byte: u8) -> Completion {
    path.run(0, &commands::write(lba, vec![byte; SECTOR], false))
        .expect("connected")
}

fn holds(path: &mut Initiator, lba: u64, byte: u8) {
    let read = path.run(0, &commands::read(lba, 1)).expect("connected");
    assert_eq!((read.status, read.data), (GOOD, vec![byte; SECTOR]));
}

/// The path is active, or in standby: by the report, and by what becomes of commands.
fn is(path: &mut Initiator, state: u8, lba: u64) {
    assert_eq!(group(path).0, state);
    if state == ACTIVE {
        assert_eq!(ready(path).status, GOOD);
        assert_eq!(write(path, lba, 1).status, GOOD);
        holds(path, lba, 1);
    } else {
        assert_eq!(ready(path).sense_code(), STANDBY);
        assert_eq!(write(path, lba, 2).sense_code(), STANDBY);
        let read = path.run(0, &commands::read(lba, 1)).expect("connected");
        assert_eq!(read.sense_code(), STANDBY);
    }
}

fn until_state(daemon: &Daemon, state: &str) {
    until(state, || daemon.pair("1", "1")["state"] == state);
}

fn establish(from: &Daemon, to: &str) {
    from.holdfast_ok(&["establish", "1", to, "--mode", "sync", "--wait"]);
}

/// The same unit on both systems, through ports that differ.
#[test]
fn the_unit_is_the_same_and_the_ports_are_not() {
    let systems = systems();
    let (mut a, mut b) = (path(&systems.a), path(&systems.b));
    let page = |path: &mut Initiator, page: u8| asked(path, &[0x12, 1, page, 0, 255, 0]);
    assert_eq!(page(&mut a, 0x80), page(&mut b, 0x80));
    let standard = asked(&mut a, &[0x12, 0, 0, 0, 96, 0]);
    assert_eq!(standard, asked(&mut b, &[0x12, 0, 0, 0, 96, 0]));
    assert_eq!(standard[5] >> 4, 1, "TPGS: implicit only");
    let read_capacity = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(asked(&mut a, &read_capacity), asked(&mut b, &read_capacity));
    // Those of the unit come before those of the port.
    let designators = |page: &[u8]| -> Vec<(u8, Vec<u8>)> {
        let (mut at, mut all) = (4, Vec::new());
        while at < page.len() {
            let end = at + 4 + usize::from(page[at + 3]);
            all.push((page[at + 1] & 0x3f, page[at + 4..end].to_vec()));
            at = end;
        }
        all
    };
    let (ours, theirs) = (page(&mut a, 0x83), page(&mut b, 0x83));
    let (ours, theirs) = (designators(&ours), designators(&theirs));
    let kinds: Vec<u8> = ours.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0x03, 0x01, 0x02, 0x0a, 0x14, 0x15, 0x18, 0x28]);
    assert_eq!(ours[..4], theirs[..4]);
    assert_eq!(
        (&ours[4].1[..], &ours[5].1[..]),
        (&[0, 0, 0, 101][..], &[0, 0, 0, 1][..])
    );
    assert_eq!(
        (&theirs[4].1[..], &theirs[5].1[..]),
        (&[0, 0, 0, 201][..], &[0, 0, 0, 2][..])
    );
    assert_eq!(group(&mut a), (IN_STANDBY, 1, 101));
    assert_eq!(group(&mut b), (IN_STANDBY, 2, 201));
    // Nobody sets the state by command.
    let set = commands::raw(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0);
    let refused = a.run(0, &set).expect("connected");
    assert_eq!(refused.sense_code(), (5, 0x20, 0));
}

/// Hosts with paths to both systems find one of them active, whatever is done to the pair.
#[test]
fn the_side_that_leads_is_the_active_one() {
    let systems = systems();
    let (mut a, mut b) = (path(&systems.a), path(&systems.b));
    is(&mut a, IN_STANDBY, 0);
    is(&mut b, IN_STANDBY, 0);
    establish(&systems.a, "HF-B:1");
    until_state(&systems.b, "duplex");
    assert_eq!(heard(&mut a), [ACCESS_CHANGED]);
    is(&mut a, ACTIVE, 0);
    assert_eq!(heard(&mut b), []);
    is(&mut b, IN_STANDBY, 0);
    assert_eq!(write(&mut a, 1, 11).status, GOOD);

    systems.a.holdfast_ok(&["swap", "1", "1"]);
    assert_eq!(heard(&mut a), [ACCESS_CHANGED]);
    is(&mut a, IN_STANDBY, 2);
    // No medium was changed, to hosts.
    assert_eq!(heard(&mut b), [ACCESS_CHANGED]);
    is(&mut b, ACTIVE, 2);
    holds(&mut b, 1, 11);
    until_state(&systems.a, "duplex");
    until_state(&systems.b, "duplex");

    // Given at the side that begins to lead.
    systems.a.holdfast_ok(&["swap", "1", "1"]);
    assert_eq!(heard(&mut b), [ACCESS_CHANGED]);
    is(&mut b, IN_STANDBY, 3);
    assert_eq!(heard(&mut a), [ACCESS_CHANGED]);
    is(&mut a, ACTIVE, 3);
    until_state(&systems.a, "duplex");

    // What is on the other side is another image now, and still nobody's.
    systems.a.holdfast_ok(&["split", "1", "1"]);
    until_state(&systems.b, "split");
    is(&mut a, ACTIVE, 4);
    is(&mut b, IN_STANDBY, 4);
    systems.a.holdfast_ok(&["cancel", "1", "1"]);
    is(&mut a, ACTIVE, 5);
    is(&mut b, IN_STANDBY, 5);
    let refused = systems
        .b
        .holdfast(&["establish", "1", "HF-A:1", "--mode", "sync"]);
    assert_eq!(refused.code(), 1, "{}", refused.said());
    assert!(
        refused.said().contains("hosts use volume 1 of HF-A"),
        "{}",
        refused.said()
    );
    assert_eq!((heard(&mut a), heard(&mut b)), (vec![], vec![]));
}

/// A system that was away does not know who leads now: it asks before hosts may use it, or a person says so.
#[test]
fn a_system_that_was_away_is_not_active_before_it_knows() {
    let mut systems = systems();
    establish(&systems.a, "HF-B:1");
    until_state(&systems.b, "duplex");
    systems.a.stop();
    systems.a.start_again();
    until("A has heard", || group(&mut path(&systems.a)).0 == ACTIVE);
    until_state(&systems.a, "duplex");
    until_state(&systems.b, "duplex");

    // The other cannot be asked, and somebody knows that it has not taken over.
    systems.part();
    systems.a.kill();
    systems.a.start_again();
    is(&mut path(&systems.a), IN_STANDBY, 0);
    systems.a.holdfast_ok(&["swap", "1", "1", "--force"]);
    is(&mut path(&systems.a), ACTIVE, 0);
    systems.mend();
    until_state(&systems.a, "duplex");
    until_state(&systems.b, "duplex");
    is(&mut path(&systems.a), ACTIVE, 0);
    is(&mut path(&systems.b), IN_STANDBY, 0);

    // The other takes over; this one comes back and never becomes active.
    systems.part();
    systems.a.kill();
    let mut b = path(&systems.b);
    systems.b.holdfast_ok(&["swap", "1", "1", "--force"]);
    assert_eq!(heard(&mut b), [ACCESS_CHANGED]);
    is(&mut b, ACTIVE, 0);
    systems.a.start_again();
    let mut a = path(&systems.a);
    is(&mut a, IN_STANDBY, 0);
    systems.mend();
    let told = |daemon: &Daemon, text: &str| daemon.holdfast_ok(&["events"]).contains(text);
    // The kill may have left marks here, and then it waits for a person; else it follows.
    let follows = || {
        let seen = systems.a.holdfast(&["--json", "query", "1", "1"]);
        seen.code() == 0 && seen.stdout.contains("\"role\":\"mirror\"")
    };
    until("A knows that B leads", || {
        told(&systems.a, "HF-B took over") || follows()
    });
    if !follows() {
        is(&mut a, IN_STANDBY, 0);
        systems.a.holdfast_ok(&["cancel", "1", "1", "--force"]);
        is(&mut a, IN_STANDBY, 0);
        systems.b.holdfast_ok(&["cancel", "1", "1", "--force"]);
        is(&mut b, ACTIVE, 0);
        establish(&systems.b, "HF-A:1");
    }
    until_state(&systems.b, "duplex");
    is(&mut a, IN_STANDBY, 0);
    is(&mut b, ACTIVE, 0);
    assert_eq!((heard(&mut a), heard(&mut b)), (vec![], vec![]));
    assert!(!told(&systems.a, "hosts are to use volume 1 (prod) here"));
}
