//! Task management, and what becomes of commands in progress when their session ends.

use std::time::Duration;

use iscsi_proto::{
    bhs::{self, Header, ScsiCommand, opcode},
    negotiation::{Offer, TaskReporting},
};
use tokio::time::{sleep, timeout};

use crate::{
    initiator::Initiator,
    rig::{OTHER, OTHER_LUN, Rig},
};

const READ_BLOCK_0: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE_BLOCK_0: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const NOT_YET: Duration = Duration::from_millis(60);

const ABORT_TASK: u8 = 1;
const ABORT_TASK_SET: u8 = 2;
const CLEAR_ACA: u8 = 3;
const CLEAR_TASK_SET: u8 = 4;
const LOGICAL_UNIT_RESET: u8 = 5;
const TARGET_WARM_RESET: u8 = 6;
const TARGET_COLD_RESET: u8 = 7;
const TASK_REASSIGN: u8 = 8;
const QUERY_TASK: u8 = 9;
const QUERY_TASK_SET: u8 = 10;
const IT_NEXUS_RESET: u8 = 11;
/// Function succeeded: the task is there.
const SUCCEEDED: u8 = 7;

/// Hears out the unit attentions and leaves a read waiting.
async fn with_a_read_waiting(rig: &Rig, name: &str, lun: u8) -> (Initiator, u32) {
    let mut initiator = rig.login(name).await;
    while initiator.read(lun, &[0; 6], 0).await.status != 0 {}
    rig.volume.hold();
    let tag = leave_a_read(&mut initiator, lun).await;
    (initiator, tag)
}

/// A read that waits for the volume, which is held.
async fn leave_a_read(initiator: &mut Initiator, lun: u8) -> u32 {
    let header = initiator.command(lun, &READ_BLOCK_0, ScsiCommand::READ, 512);
    initiator.send(&header, &[]).await;
    assert_eq!(initiator.ping(b"taken").await, b"taken");
    header.initiator_task_tag.get()
}

/// Sees to it that the answer to a function does not come before the task has ended, and nothing else comes.
async fn is_fenced(rig: &Rig, initiator: &mut Initiator, function: u8, lun: u8, task: u32) {
    let tag = initiator.send_task_management(function, lun, task).await;
    assert!(
        timeout(NOT_YET, initiator.receive()).await.is_err(),
        "answered while the task went on"
    );
    rig.volume.let_go();
    let pdu = initiator.receive().await;
    assert_eq!(
        (pdu.bhs.opcode(), pdu.bhs.initiator_task_tag()),
        (opcode::TASK_MANAGEMENT_RESPONSE, tag)
    );
    assert_eq!(pdu.bhs.view::<bhs::TaskManagementResponse>().response, 0);
    assert_eq!(initiator.ping(b"no more").await, b"no more");
    assert_eq!(
        initiator.max_cmd_sn.wrapping_sub(initiator.cmd_sn),
        127,
        "its place in the window is free"
    );
}

#[tokio::test]
async fn an_aborted_task_ends_before_the_answer_and_is_not_answered() {
    for function in [
        ABORT_TASK,
        ABORT_TASK_SET,
        CLEAR_TASK_SET,
        LOGICAL_UNIT_RESET,
        TARGET_WARM_RESET,
        IT_NEXUS_RESET,
    ] {
        let rig = Rig::start();
        let (mut initiator, task) = with_a_read_waiting(&rig, "iqn.test:a", 0).await;
        is_fenced(&rig, &mut initiator, function, 0, task).await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_reset_ends_the_tasks_of_other_sessions_under_their_own_lun() {
    let rig = Rig::start();
    let mut resetter = rig.login("iqn.test:a").await;
    let (mut other, _) = with_a_read_waiting(&rig, OTHER, OTHER_LUN).await;
    is_fenced(&rig, &mut resetter, LOGICAL_UNIT_RESET, 0, u32::MAX).await;
    assert_eq!(other.ping(b"not answered").await, b"not answered");
    let end = other.read(OTHER_LUN, &[0; 6], 0).await;
    assert_eq!(
        (end.status, end.sense[2] & 15, end.sense[12]),
        (2, 6, 0x29),
        "and the other one hears of it"
    );
    rig.stop().await;
}

/// RFC 7143 4.2.3.4, 11.9.1: where fast abort is agreed on, who loses tasks is told of the unit under its own LUN, once for all of
/// them, before they have ended; the answer does not wait for the acknowledgement, which is not answered.
#[tokio::test]
async fn fast_abort_is_told_to_those_who_agreed_on_it() {
    let rig = Rig::start_with(|config| config.tuning.offer.max_connections = 1);
    let fast = Offer {
        task_reporting: vec![TaskReporting::FastAbort],
        ..Offer::default()
    };
    let mut resetter = rig.login_with("iqn.test:a", fast.clone()).await;
    let mut idle = rig.login_with("iqn.test:b", fast.clone()).await;
    let mut plain = rig.login("iqn.test:c").await;
    let mut other = rig.login_with(OTHER, fast).await;
    for initiator in [&mut resetter, &mut idle, &mut plain] {
        while initiator.read(0, &[0; 6], 0).await.status != 0 {}
    }
    while other.read(OTHER_LUN, &[0; 6], 0).await.status != 0 {}
    rig.volume.hold();
    leave_a_read(&mut plain, 0).await;
    leave_a_read(&mut other, OTHER_LUN).await;
    leave_a_read(&mut other, OTHER_LUN).await;

    let tag = resetter
        .send_task_management(LOGICAL_UNIT_RESET, 0, u32::MAX)
        .await;
    let pdu = other.receive().await;
    assert_eq!(
        (pdu.bhs.opcode(), pdu.bhs.initiator_task_tag()),
        (opcode::ASYNC_MESSAGE, bhs::RESERVED_TAG)
    );
    let message = pdu.bhs.view::<bhs::AsyncMessage>();
    assert_eq!(
        (message.event, message.lun),
        (5, [0, OTHER_LUN, 0, 0, 0, 0, 0, 0])
    );
    rig.volume.let_go();
    let pdu = resetter.receive().await;
    assert_eq!(
        (pdu.bhs.opcode(), pdu.bhs.initiator_task_tag()),
        (opcode::TASK_MANAGEMENT_RESPONSE, tag)
    );
    let mut acknowledgement = bhs::NopOut::new();
    acknowledgement.opcode |= bhs::IMMEDIATE;
    acknowledgement.lun = [0, OTHER_LUN, 0, 0, 0, 0, 0, 0];
    acknowledgement.initiator_task_tag = bhs::RESERVED_TAG.into();
    acknowledgement.target_transfer_tag = bhs::RESERVED_TAG.into();
    acknowledgement.cmd_sn = other.cmd_sn.into();
    acknowledgement.exp_stat_sn = other.exp_stat_sn.into();
    other.send(&acknowledgement, &[]).await;
    for initiator in [&mut resetter, &mut idle, &mut plain, &mut other] {
        assert_eq!(initiator.ping(b"nothing else").await, b"nothing else");
    }
    rig.stop().await;
}

/// SAM-5 7.5, 5.14: who loses tasks to another's CLEAR TASK SET hears of it, once; who had none does not, nor the one that asked.
#[tokio::test]
async fn a_cleared_task_set_is_told_to_those_who_had_tasks_in_it() {
    let rig = Rig::start();
    let mut clearer = rig.login("iqn.test:a").await;
    let mut idle = rig.login("iqn.test:b").await;
    for initiator in [&mut clearer, &mut idle] {
        while initiator.read(0, &[0; 6], 0).await.status != 0 {}
    }
    let (mut other, _) = with_a_read_waiting(&rig, OTHER, OTHER_LUN).await;
    is_fenced(&rig, &mut clearer, CLEAR_TASK_SET, 0, u32::MAX).await;
    let end = other.read(OTHER_LUN, &[0; 6], 0).await;
    assert_eq!(
        (end.status, end.sense[2] & 15, end.sense[12], end.sense[13]),
        (2, 6, 0x2f, 0)
    );
    assert_eq!(other.read(OTHER_LUN, &[0; 6], 0).await.status, 0);
    assert_eq!(idle.read(0, &[0; 6], 0).await.status, 0);
    assert_eq!(clearer.read(0, &[0; 6], 0).await.status, 0);
    rig.stop().await;
}

#[tokio::test]
async fn abort_task_set_and_it_nexus_reset_leave_other_sessions_alone() {
    for function in [ABORT_TASK_SET, IT_NEXUS_RESET] {
        let rig = Rig::start();
        let mut aborter = rig.login("iqn.test:a").await;
        while aborter.read(0, &[0; 6], 0).await.status != 0 {}
        let (mut other, task) = with_a_read_waiting(&rig, OTHER, OTHER_LUN).await;
        assert_eq!(aborter.task_management(function, 0, u32::MAX).await, 0);
        rig.volume.let_go();
        assert_eq!(other.end_of(task, &[]).await.status, 0);
        assert_eq!(other.read(OTHER_LUN, &[0; 6], 0).await.status, 0);
        let own = aborter.read(0, &[0; 6], 0).await;
        if function == IT_NEXUS_RESET {
            assert_eq!((own.sense[2] & 15, own.sense[12], own.sense[13]), (6, 0x29, 7));
        } else {
            assert_eq!(own.status, 0);
        }
        rig.stop().await;
    }
}

#[tokio::test]
async fn queries_see_the_tasks_of_this_session_that_are_not_aborted() {
    let rig = Rig::start();
    let (mut initiator, task) = with_a_read_waiting(&rig, "iqn.test:a", 0).await;
    let mut other = rig.login(OTHER).await;
    assert_eq!(initiator.task_management(QUERY_TASK, 0, task).await, SUCCEEDED);
    assert_eq!(
        initiator.task_management(QUERY_TASK, 0, task + 100).await,
        0,
        "not there"
    );
    assert_eq!(
        initiator.task_management(QUERY_TASK, 9, task).await,
        2,
        "LUN does not exist"
    );
    assert_eq!(
        initiator.task_management(QUERY_TASK_SET, 0, u32::MAX).await,
        SUCCEEDED
    );
    assert_eq!(other.task_management(QUERY_TASK, OTHER_LUN, task).await, 0);
    assert_eq!(
        other.task_management(QUERY_TASK_SET, OTHER_LUN, u32::MAX).await,
        0
    );
    let abort = initiator.send_task_management(ABORT_TASK, 0, task).await;
    assert_eq!(
        initiator.task_management(QUERY_TASK, 0, task).await,
        0,
        "it has left the task set before its abortion is answered"
    );
    assert_eq!(initiator.task_management(QUERY_TASK_SET, 0, u32::MAX).await, 0);
    rig.volume.let_go();
    assert_eq!(initiator.receive().await.bhs.initiator_task_tag(), abort);
    rig.stop().await;
}

#[tokio::test]
async fn functions_that_cannot_be_done_say_why() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    assert_eq!(
        initiator.task_management(ABORT_TASK, 0, 4711).await,
        1,
        "task does not exist"
    );
    for function in [ABORT_TASK_SET, CLEAR_TASK_SET, LOGICAL_UNIT_RESET] {
        assert_eq!(
            initiator.task_management(function, 9, u32::MAX).await,
            2,
            "LUN does not exist"
        );
    }
    assert_eq!(initiator.task_management(TASK_REASSIGN, 0, 1).await, 4);
    assert_eq!(initiator.task_management(CLEAR_ACA, 0, u32::MAX).await, 5);
    assert_eq!(initiator.task_management(0x7e, 0, u32::MAX).await, 5);
    rig.stop().await;
}

#[tokio::test]
async fn a_write_that_waits_for_data_can_be_aborted() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    let mut header = initiator.command(0, &WRITE_BLOCK_0, ScsiCommand::WRITE, 512);
    header.flags &= !bhs::FINAL;
    let tag = header.initiator_task_tag.get();
    initiator.send(&header, &[]).await;
    assert_eq!(initiator.task_management(ABORT_TASK, 0, tag).await, 0);
    initiator.send_data(tag, bhs::RESERVED_TAG, 0, &[1; 512]).await;
    assert_eq!(
        initiator.ping(b"late data is dropped").await,
        b"late data is dropped"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_cold_reset_closes_all_sessions_of_the_target() {
    let rig = Rig::start();
    let mut other = rig.login(OTHER).await;
    let mut initiator = rig.login("iqn.test:a").await;
    assert_eq!(initiator.task_management(TARGET_COLD_RESET, 0, u32::MAX).await, 0);
    assert!(initiator.receive_or_end().await.is_none());
    assert!(other.receive_or_end().await.is_none());
    rig.stop().await;
}

#[tokio::test]
async fn a_logout_waits_for_the_commands_in_progress() {
    let rig = Rig::start();
    let (mut initiator, task) = with_a_read_waiting(&rig, "iqn.test:a", 0).await;
    let mut logout = bhs::LogoutRequest::new();
    logout.opcode |= bhs::IMMEDIATE;
    logout.initiator_task_tag = 9999.into();
    logout.cmd_sn = initiator.cmd_sn.into();
    initiator.send(&logout, &[]).await;
    assert!(timeout(NOT_YET, initiator.receive()).await.is_err());
    rig.volume.let_go();
    assert_eq!(initiator.end_of(task, &[]).await.status, 0);
    assert_eq!(initiator.receive().await.bhs.opcode(), opcode::LOGOUT_RESPONSE);
    rig.stop().await;
}

#[tokio::test]
async fn a_reinstating_login_waits_for_the_writes_of_the_old_session() {
    let rig = Rig::start();
    let mut old = rig.login("iqn.test:a").await;
    while old.read(0, &[0; 6], 0).await.status != 0 {}
    rig.volume.hold();
    let header = old.command(0, &WRITE_BLOCK_0, ScsiCommand::WRITE, 512);
    old.send(&header, &[0x11; 512]).await;
    assert_eq!(old.ping(b"").await, b"");
    let address = rig.address;
    let login = tokio::spawn(async move {
        let config = crate::initiator::config("iqn.test:a", Some(crate::rig::TARGET), Offer::default());
        Initiator::login(address, config).await.unwrap()
    });
    sleep(NOT_YET).await;
    assert!(!login.is_finished(), "the old write could still land");
    rig.volume.let_go();
    let mut new = login.await.unwrap();
    while new.read(0, &[0; 6], 0).await.status != 0 {}
    assert_eq!(new.read(0, &READ_BLOCK_0, 512).await.data, [0x11; 512]);
    rig.stop().await;
}

#[tokio::test]
async fn reserve_6_is_gone_when_the_logout_is_answered() {
    let rig = Rig::start();
    let mut holder = rig.login("iqn.test:a").await;
    let mut other = rig.login(OTHER).await;
    while holder.read(0, &[0; 6], 0).await.status != 0 {}
    while other.read(OTHER_LUN, &[0; 6], 0).await.status != 0 {}
    assert_eq!(holder.read(0, &[0x16, 0, 0, 0, 0, 0], 0).await.status, 0);
    assert_eq!(
        other.read(OTHER_LUN, &READ_BLOCK_0, 512).await.status,
        0x18,
        "RESERVATION CONFLICT"
    );
    holder.logout().await;
    assert_eq!(other.read(OTHER_LUN, &READ_BLOCK_0, 512).await.status, 0);
    rig.stop().await;
}
