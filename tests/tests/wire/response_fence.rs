//! Response fences (RFC 7143 4.2.2.3): over the connections of a session, the answers that tell of ended tasks come after all before
//! them, and before all after them.

use holdfast_tests::{
    Daemon, DaemonConfig, VolumeSpec,
    commands::{self, Command},
    wire::{FINAL, IMMEDIATE, Pdu, WRITE, Wire},
};

use crate::{
    daemon,
    multi_connection::{assert_good, begin_write, pair, test_unit_ready},
    session, session_of,
};

const RECOVERY: &str = "ErrorRecoveryLevel=2 TaskReporting=ResponseFence";
const ABORT_TASK_SET: u8 = 2;
const LOGICAL_UNIT_RESET: u8 = 5;

/// Begins a task management function for LUN 0.
fn manage(wire: &mut Wire, function: u8) {
    let request = Pdu::new(0x02 | IMMEDIATE, FINAL | function)
        .word(16, 0x7a5c)
        .word(20, u32::MAX)
        .word(24, wire.cmd_sn)
        .word(28, wire.exp_stat_sn);
    wire.send(&request);
}

/// The function is done.
fn assert_managed(wire: &mut Wire) {
    let answer = wire.answer();
    assert_eq!((answer.bhs.0[0], answer.get(16)), (0x22, 0x7a5c), "{answer:?}");
    assert_eq!(answer.bhs.0[2], 0);
    wire.exp_stat_sn = answer.get(24).wrapping_add(1);
}

/// The target asks for an acknowledgement; gives the tag of the question.
fn asked(wire: &mut Wire) -> u32 {
    let pdu = wire.receive().expect("the connection lives");
    assert_eq!((pdu.bhs.0[0], pdu.get(16)), (0x20, u32::MAX), "{pdu:?}");
    assert_eq!(pdu.get(24), wire.exp_stat_sn, "all before it has come");
    pdu.get(20)
}

/// Acknowledges everything, and answers that question.
fn acknowledge(wire: &mut Wire, question: u32) {
    let here = wire.nop(IMMEDIATE, u32::MAX, wire.cmd_sn).word(20, question);
    wire.send(&here);
}

/// A command without data over `second` is answered, and not acknowledged. All of `first` is by the next PDU over it.
fn leave_unacknowledged(first: &mut Wire, second: &mut Wire) {
    second.cmd_sn = first.cmd_sn;
    let command = test_unit_ready(second, 20);
    second.send(&command);
    assert_good(second, 20);
    first.cmd_sn = second.cmd_sn;
}

/// ABORT TASK SET over `first` waits for what `second` has not acknowledged; gives the question that `second` is asked.
fn raise_fence(first: &mut Wire, second: &mut Wire) -> u32 {
    leave_unacknowledged(first, second);
    manage(first, ABORT_TASK_SET);
    asked(second)
}

/// 4.2.2.3.4 (2), 4.2.3.3: the answer to a function that ends many tasks comes when the initiator has what was sent before over the
/// other connection, and what ends after it comes when the initiator has it.
#[test]
fn functions_are_answered_between_what_is_before_and_after() {
    let daemon = daemon();
    for reporting in ["ResponseFence", "RFC3720"] {
        let (mut first, mut second) = pair(&daemon, &format!("TaskReporting={reporting}"));
        let question = raise_fence(&mut first, &mut second);
        // Answered before the function is.
        first.assert_alive();
        acknowledge(&mut second, question);
        assert_managed(&mut first);
        let question = asked(&mut first);
        second.cmd_sn = first.cmd_sn;
        let after = test_unit_ready(&mut second, 21);
        second.send(&after);
        second.assert_alive();
        acknowledge(&mut first, question);
        assert_good(&mut second, 21);
        // The fence is down: nothing is asked any more.
        first.cmd_sn = second.cmd_sn;
        let read = first.scsi(0, &commands::read(0, 1));
        assert!(read.is_good());
        assert_eq!(first.logout(0, 0), 0);
    }
}

/// 4.2.2.3.4 (1): the unit attention that tells of another initiator's reset.
#[test]
fn the_unit_attention_of_a_reset_is_fenced() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "TaskReporting=ResponseFence");
    leave_unacknowledged(&mut first, &mut second);
    let mut other = session_of(&daemon, "iqn.2026-11.test:other");
    assert_eq!(other.manage(LOGICAL_UNIT_RESET, 0, u32::MAX, 0), 0);
    let command = test_unit_ready(&mut first, 30);
    first.send(&command);
    let question = asked(&mut second);
    first.assert_alive();
    // Commands that end behind it wait, also over its own connection, whose order is not touched by that.
    let behind = test_unit_ready(&mut first, 31);
    first.send(&behind);
    first.assert_alive();
    acknowledge(&mut second, question);
    let told = first.finish(30, &[]);
    assert_eq!((told.sense.0, told.sense.1), (6, 0x29));
    assert_good(&mut first, 31);
}

/// 4.2.2.3.4 (6).
#[test]
fn preempt_and_abort_is_fenced() {
    const KEY: u64 = 0xfeed;
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "TaskReporting=ResponseFence");
    assert!(
        first
            .scsi(0, &commands::reserve_out(0, 0, 0, KEY, false))
            .is_good()
    );
    assert!(
        first
            .scsi(0, &commands::reserve_out(1, 5, KEY, 0, false))
            .is_good()
    );
    leave_unacknowledged(&mut first, &mut second);
    let Command { cdb, data_out, .. } = commands::reserve_out(5, 5, KEY, KEY, false);
    let length = u32::try_from(data_out.len()).expect("short");
    let preempt = first.command_pdu(0, 40, FINAL | WRITE, length, &cdb);
    first.send(&preempt.with_data(&data_out));
    let question = asked(&mut second);
    first.assert_alive();
    acknowledge(&mut second, question);
    assert_good(&mut first, 40);
}

/// What has no place in the command window is held up to a bound: the function, and 63 commands behind it.
#[test]
fn what_is_held_is_bounded() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "TaskReporting=ResponseFence");
    let question = raise_fence(&mut first, &mut second);
    for tag in 100..164 {
        let mut command = test_unit_ready(&mut first, tag);
        command.bhs.0[0] |= IMMEDIATE;
        first.cmd_sn = command.get(24);
        first.send(&command);
    }
    manage(&mut first, ABORT_TASK_SET);
    for refused in [0x01 | IMMEDIATE, 0x02 | IMMEDIATE] {
        let reject = first.answer();
        assert_eq!((reject.bhs.0[0], reject.bhs.0[2]), (0x3f, 0x06), "{reject:?}");
        assert_eq!(reject.data[0], refused);
        first.exp_stat_sn = reject.get(24).wrapping_add(1);
    }
    acknowledge(&mut second, question);
    assert_managed(&mut first);
    for tag in 100..163 {
        assert_good(&mut first, tag);
    }
}

/// What was sent over a connection that is gone is not waited for.
#[test]
fn a_lost_connection_holds_nothing_up() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "TaskReporting=ResponseFence");
    raise_fence(&mut first, &mut second);
    first.assert_alive();
    drop(second);
    assert_managed(&mut first);
    assert!(first.scsi(0, &commands::read(0, 1)).is_good());
}

/// Who does not acknowledge when asked is given up after the target's patience.
#[test]
fn who_never_acknowledges_is_given_up() {
    let daemon = daemon();
    daemon.reconfigure("[[target]]\n", "[[target]]\nnop_patience = 1\n");
    let (mut first, mut second) = pair(&daemon, "TaskReporting=ResponseFence");
    raise_fence(&mut first, &mut second);
    while second.receive().is_some() {}
    assert_managed(&mut first);
}

/// 11.14, 4.2.2.3: a logout ends the wait of what is held, which is answered before it.
#[test]
fn a_logout_lets_go_of_what_is_held() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "TaskReporting=ResponseFence");
    raise_fence(&mut first, &mut second);
    first.assert_alive();
    let logout = first.logout_request(0, 0);
    first.send(&logout);
    assert_managed(&mut first);
    let answer = first.answer();
    assert_eq!((answer.bhs.0[0], answer.bhs.0[2]), (0x26, 0), "{answer:?}");
}

/// 4.2.3.4: with FastAbort the other connections of the session are told of each unit whose tasks on them end; the one that the
/// function came over is told by its answer.
#[test]
fn fast_abort_is_told_over_the_other_connections() {
    let daemon = daemon();
    let (mut first, mut second) = pair(&daemon, "TaskReporting=FastAbort InitialR2T=Yes ImmediateData=No");
    second.cmd_sn = first.cmd_sn;
    begin_write(&mut second, 50, 0, &[7; 512]);
    first.cmd_sn = second.cmd_sn;
    begin_write(&mut first, 51, 0, &[8; 512]);
    manage(&mut first, ABORT_TASK_SET);
    let told = second.receive().expect("the connection lives");
    assert_eq!((told.bhs.0[0], told.bhs.0[36]), (0x32, 5), "{told:?}");
    assert_eq!(told.bhs.0[8..16], [0; 8], "the unit");
    second.exp_stat_sn = told.get(24).wrapping_add(1);
    let question = asked(&mut second);
    first.assert_alive();
    acknowledge(&mut second, question);
    assert_managed(&mut first);
    assert_eq!(first.scsi(0, &commands::read(0, 1)).data, [0; 512]);
}

/// A daemon with the LUNs 0 and 1, and a session of ErrorRecoveryLevel 2 of two connections.
fn recovering_pair() -> (Daemon, Wire, Wire) {
    let config = DaemonConfig {
        volumes: ["one", "two"]
            .map(|name| VolumeSpec::standard(name, "1MiB"))
            .into(),
        initiators: String::new(),
        extra: String::new(),
    };
    let daemon = Daemon::start_with(&config, &[("HOLDFAST__ISCSI__ERROR_RECOVERY_LEVEL", "2")]);
    let mut first = session(&daemon, &format!("MaxConnections=8 {RECOVERY}"));
    // Before there is a second connection: they are fenced.
    first.attentions(0);
    first.attentions(1);
    let second = Wire::join(daemon.port(), &first, daemon.iqn(), 1, "");
    (daemon, first, second)
}

/// TEST UNIT READY over `second` is answered, and not acknowledged.
fn answer_unacknowledged(first: &mut Wire, second: &mut Wire, lun: u16, tag: u32) {
    let exp_stat_sn = second.exp_stat_sn;
    second.cmd_sn = first.cmd_sn;
    let command = second.command_pdu(lun, tag, FINAL, 0, &[0; 16]);
    second.send(&command);
    let answer = second.answer();
    assert_eq!((answer.bhs.0[0], answer.bhs.0[3], answer.get(16)), (0x21, 0, tag));
    second.exp_stat_sn = exp_stat_sn;
    first.cmd_sn = second.cmd_sn;
}

/// 4.2.2.3.2, 7.2.2: an answer whose connection was lost can be taken up again before a fenced answer for its unit, and not behind it;
/// that of another unit can.
#[test]
fn what_a_fenced_answer_has_passed_is_not_taken_up() {
    let (_daemon, mut first, mut second) = recovering_pair();
    for (lun, tag) in [(0, 20), (0, 21), (1, 22)] {
        answer_unacknowledged(&mut first, &mut second, lun, tag);
    }
    drop(second);
    assert_eq!(first.logout(2, 1), 0);
    assert_eq!(first.reassign(20, 0), 0);
    assert_good(&mut first, 20);
    manage(&mut first, ABORT_TASK_SET);
    assert_managed(&mut first);
    assert_eq!(
        first.reassign(21, 0),
        1,
        "it was given before the function was answered"
    );
    assert_eq!(first.reassign(22, 0), 0, "another unit");
    assert_good(&mut first, 22);
}

/// 4.2.2.3.2: likewise when the connection is lost while the fenced answer waits for it.
#[test]
fn what_is_lost_while_a_fenced_answer_waits_is_not_taken_up() {
    let (_daemon, mut first, mut second) = recovering_pair();
    raise_fence(&mut first, &mut second);
    first.assert_alive();
    drop(second);
    assert_managed(&mut first);
    assert_eq!(first.logout(2, 1), 0);
    assert_eq!(first.reassign(20, 0), 1);
}

/// 4.2.2.3.3 d: an answer that was given behind a fence waits for it also when its connection is lost and it is taken up over another.
#[test]
fn what_is_taken_up_behind_a_fence_waits() {
    let (daemon, mut first, mut second) = recovering_pair();
    let mut third = Wire::join(daemon.port(), &first, daemon.iqn(), 2, "");
    let question = raise_fence(&mut first, &mut second);
    third.cmd_sn = first.cmd_sn;
    let command = test_unit_ready(&mut third, 40);
    third.send(&command);
    third.assert_alive();
    first.cmd_sn = third.cmd_sn;
    drop(third);
    assert_eq!(first.logout(2, 2), 0);
    assert_eq!(first.reassign(40, 0), 0);
    first.assert_alive();
    acknowledge(&mut second, question);
    assert_managed(&mut first);
    assert_good(&mut first, 40);
}

/// 4.2.2.3.3 c: a fenced answer whose connection is lost keeps the fence up until it is taken up and acknowledged.
#[test]
fn a_fenced_answer_that_is_lost_comes_before_what_is_behind_it() {
    let (daemon, mut first, mut second) = recovering_pair();
    leave_unacknowledged(&mut first, &mut second);
    let mut other = session_of(&daemon, "iqn.2026-11.test:other");
    assert_eq!(other.manage(LOGICAL_UNIT_RESET, 0, u32::MAX, 0), 0);
    let command = test_unit_ready(&mut first, 30);
    first.send(&command);
    let question = asked(&mut second);
    acknowledge(&mut second, question);
    // Sent, and not acknowledged.
    let sent = first.receive().expect("the connection lives");
    assert_eq!((sent.bhs.0[0], sent.bhs.0[3], sent.get(16)), (0x21, 2, 30));
    second.cmd_sn = first.cmd_sn;
    let behind = test_unit_ready(&mut second, 31);
    second.send(&behind);
    second.assert_alive();
    drop(first);
    assert_eq!(second.logout(2, 0), 0);
    second.assert_alive();
    assert_eq!(second.reassign(30, 0), 0);
    let told = second.finish(30, &[]);
    assert_eq!((told.sense.0, told.sense.1), (6, 0x29));
    assert_good(&mut second, 31);
}
