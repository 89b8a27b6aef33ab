//! Data in every way it may go: immediate, unsolicited, solicited; wrong in every way it may be.

use std::time::Duration;

use iscsi_proto::{
    bhs::{self, FINAL, Header, RESERVED_TAG, ScsiCommand, opcode},
    negotiation::{DigestKind, Offer},
};

use crate::{
    initiator::{Initiator, pattern},
    rig::Rig,
};

const GOOD: u8 = 0;
const CHECK_CONDITION: u8 = 2;

fn write_10(lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = 0x2a;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

fn read_10(lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = write_10(lba, blocks);
    cdb[0] = 0x28;
    cdb
}

/// The first command hears of the power on.
async fn ready(initiator: &mut Initiator) {
    let end = initiator.read(0, &[0; 6], 0).await;
    assert_eq!(
        (end.status, &end.sense[12..14]),
        (CHECK_CONDITION, &[0x29, 0x00][..])
    );
    assert_eq!(initiator.read(0, &[0; 6], 0).await.status, GOOD);
}

#[expect(clippy::fn_params_excessive_bools, reason = "one for each bit of a case")]
fn keys(initial_r2t: bool, immediate_data: bool, small: bool, digests: bool) -> Offer {
    let kinds = vec![if digests {
        DigestKind::Crc32c
    } else {
        DigestKind::None
    }];
    Offer {
        header_digest: kinds.clone(),
        data_digest: kinds,
        initial_r2t,
        immediate_data,
        max_recv_data_segment_length: if small { 1000 } else { 65_536 },
        first_burst_length: if small { 2048 } else { 65_536 },
        max_burst_length: if small { 4096 } else { 262_144 },
        max_outstanding_r2t: if small { 3 } else { 1 },
        ..Offer::default()
    }
}

#[tokio::test]
async fn what_was_written_is_read_whatever_was_negotiated() {
    let rig = Rig::start();
    for case in 0..16_u8 {
        let bit = |place: u8| case & (1 << place) != 0;
        let keys = keys(bit(0), bit(1), bit(2), bit(3));
        let mut initiator = rig.login_with("iqn.test:a", keys).await;
        ready(&mut initiator).await;
        for (number, blocks) in [1_u16, 3, 8, 100, 700].into_iter().enumerate() {
            let length = usize::from(blocks) * 512;
            let data = pattern(u64::from(case) * 10 + number as u64, length);
            let lba = 1000 * number as u32 + u32::from(case);
            let end = initiator.write(0, &write_10(lba, blocks), &data).await;
            assert_eq!(
                (end.status, end.residual),
                (GOOD, 0),
                "case {case:04b}, {blocks} blocks"
            );
            let end = initiator.read(0, &read_10(lba, blocks), length as u32).await;
            assert_eq!((end.status, end.residual), (GOOD, 0));
            assert_eq!(end.data, data, "case {case:04b}, {blocks} blocks");
        }
        assert_eq!(initiator.logout().await, 0);
    }
    rig.stop().await;
}

/// Short reads are answered with one Data-In, unless that would be more than a sequence may have.
/// One command at a time, and the next at once: the session looks at its socket before it sleeps. What it finds there is whole, whatever
/// its length, and it hears of the rest of the world as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_looks_for_its_next_command_misses_nothing() {
    let rig = Rig::start_with(|config| config.tuning.longest_look = Duration::from_millis(1));
    let mut initiator = rig.login_with("iqn.test:a", keys(false, true, false, true)).await;
    let mut other = rig.login("iqn.test:b").await;
    ready(&mut initiator).await;
    for round in 0..200_u16 {
        let blocks = [1, 8, 9, 64, 200][usize::from(round) % 5];
        let data = pattern(u64::from(round), usize::from(blocks) * 512);
        let end = initiator.write(0, &write_10(0, blocks), &data).await;
        assert_eq!(end.status, GOOD, "round {round}");
        let end = initiator
            .read(0, &read_10(0, blocks), u32::from(blocks) * 512)
            .await;
        assert!(end.status == GOOD && end.data == data, "round {round}");
    }
    assert_eq!(
        other.task_management(5, 0, u32::MAX).await,
        0,
        "LOGICAL UNIT RESET"
    );
    let end = initiator.read(0, &[0; 6], 0).await;
    assert_eq!((end.status, end.sense[12]), (CHECK_CONDITION, 0x29));
    rig.stop().await;
}

#[tokio::test]
async fn a_read_longer_than_a_burst_is_several_sequences() {
    let rig = Rig::start();
    let keys = Offer {
        max_recv_data_segment_length: 65_536,
        first_burst_length: 4096,
        max_burst_length: 4096,
        ..Offer::default()
    };
    let mut initiator = rig.login_with("iqn.test:a", keys).await;
    ready(&mut initiator).await;
    let data = pattern(3, 16_384);
    assert_eq!(initiator.write(0, &write_10(0, 32), &data).await.status, GOOD);
    for blocks in [8_u16, 9, 32] {
        let length = usize::from(blocks) * 512;
        let end = initiator.read(0, &read_10(0, blocks), length as u32).await;
        assert_eq!((end.status, end.residual), (GOOD, 0));
        assert_eq!(end.data, data[..length], "{blocks} blocks");
    }
    rig.stop().await;
}

#[tokio::test]
async fn slow_volumes_answer_the_same() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    ready(&mut initiator).await;
    rig.volume.hold();
    let data = pattern(5, 1024);
    let mut header = initiator.command(0, &write_10(7, 2), ScsiCommand::WRITE, 1024);
    header.flags |= FINAL;
    initiator.send(&header, &data).await;
    assert_eq!(initiator.ping(b"while it waits").await, b"while it waits");
    rig.volume.let_go();
    assert_eq!(
        initiator
            .end_of(header.initiator_task_tag.get(), &[])
            .await
            .status,
        GOOD
    );
    assert_eq!(initiator.read(0, &read_10(7, 2), 1024).await.data, data);
    rig.stop().await;
}

#[tokio::test]
async fn many_commands_in_one_segment_are_all_answered() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    ready(&mut initiator).await;
    let data = pattern(1, 128 * 4096);
    assert_eq!(initiator.write(0, &write_10(0, 1024), &data).await.status, GOOD);
    let mut tags = Vec::new();
    for number in 0..128 {
        let header = initiator.command(0, &read_10(number * 8, 8), ScsiCommand::READ, 4096);
        tags.push(header.initiator_task_tag.get());
        initiator.queue(&header, &[]);
    }
    initiator.send_queued().await;
    for (number, tag) in tags.into_iter().enumerate() {
        let end = initiator.end_of(tag, &[]).await;
        assert_eq!(end.data, data[number * 4096..][..4096]);
    }
    assert_eq!(
        initiator.max_cmd_sn.wrapping_sub(initiator.cmd_sn),
        127,
        "the window is open again"
    );
    rig.stop().await;
}

#[tokio::test]
async fn residuals_say_how_much_was_missing_or_too_much() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    ready(&mut initiator).await;
    let end = initiator.read(0, &read_10(0, 1), 1024).await;
    assert_eq!((end.status, end.data.len(), end.residual), (GOOD, 512, -512));
    let end = initiator.read(0, &read_10(0, 2), 512).await;
    assert_eq!((end.status, end.data.len(), end.residual), (GOOD, 512, 512));
    let end = initiator.read(0, &read_10(0, 1), 0).await;
    assert_eq!((end.data.len(), end.residual), (0, 512));
    let end = initiator.write(0, &write_10(0, 1), &[1; 1024]).await;
    assert_eq!((end.status, end.residual), (GOOD, -512));
    let inquiry = initiator.read(0, &[0x12, 0, 0, 0, 255, 0], 255).await;
    assert_eq!(inquiry.status, GOOD);
    assert_eq!(i64::try_from(inquiry.data.len()).unwrap() - inquiry.residual, 255);
    rig.stop().await;
}

#[tokio::test]
async fn wrong_data_out_fails_the_task_and_nothing_else() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    ready(&mut initiator).await;
    let data = pattern(3, 1024);
    assert_eq!(initiator.write(0, &write_10(0, 2), &data).await.status, GOOD);

    // DataSN, offset, transfer tag, length, F bit; each with the sense code that names it.
    let wrong: [(u32, u32, u32, usize, bool, [u8; 2]); 6] = [
        (27, 0, RESERVED_TAG, 1024, true, [0x4b, 0x00]),
        (0, 512, RESERVED_TAG, 512, true, [0x4b, 0x05]),
        (0, 0, 99, 1024, true, [0x4b, 0x00]),
        (0, 0, RESERVED_TAG, 1536, true, [0x0c, 0x0d]),
        (0, 0, RESERVED_TAG, 1024, false, [0x0c, 0x0d]),
        (1, 0, RESERVED_TAG, 512, false, [0x4b, 0x00]),
    ];
    for (data_sn, offset, transfer_tag, length, is_final, sense) in wrong {
        let mut header = initiator.command(0, &write_10(0, 2), ScsiCommand::WRITE, 1024);
        header.flags &= !FINAL;
        let tag = header.initiator_task_tag.get();
        initiator.send(&header, &[]).await;
        let mut out = bhs::DataOut::new();
        out.flags = if is_final { FINAL } else { 0 };
        out.initiator_task_tag = tag.into();
        out.target_transfer_tag = transfer_tag.into();
        out.data_sn = data_sn.into();
        out.buffer_offset = offset.into();
        initiator.send(&out, &vec![0xee; length]).await;
        let end = initiator.end_of(tag, &[]).await;
        assert_eq!((end.status, end.sense[2] & 15), (CHECK_CONDITION, 0xb));
        assert_eq!(end.sense[12..14], sense);
        // What comes after the failure is of no task any more.
        initiator.send(&out, &[0xee; 512]).await;
    }
    assert_eq!(
        initiator.read(0, &read_10(0, 2), 1024).await.data,
        data,
        "nothing of it was written"
    );
    assert_eq!(
        initiator.max_cmd_sn.wrapping_sub(initiator.cmd_sn),
        127,
        "no place in the window is lost"
    );
    rig.stop().await;
}

#[tokio::test]
async fn unsolicited_data_that_was_not_agreed_on_fails_the_task() {
    let rig = Rig::start();
    let mut initiator = rig
        .login_with("iqn.test:a", keys(true, false, false, false))
        .await;
    ready(&mut initiator).await;
    let header = initiator.command(0, &write_10(0, 1), ScsiCommand::WRITE, 512);
    initiator.send(&header, &[1; 512]).await;
    let end = initiator.end_of(header.initiator_task_tag.get(), &[]).await;
    assert_eq!(end.sense[12..14], [0x0c, 0x0c]);
    let header = initiator.command(0, &[0; 6], 0, 0);
    initiator.send(&header, &[1; 512]).await;
    let end = initiator.end_of(header.initiator_task_tag.get(), &[]).await;
    assert_eq!(end.sense[12..14], [0x0c, 0x0c]);
    rig.stop().await;
}

#[tokio::test]
async fn a_task_tag_in_use_is_rejected() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    ready(&mut initiator).await;
    rig.volume.hold();
    let first = initiator.command(0, &read_10(0, 1), ScsiCommand::READ, 512);
    initiator.send(&first, &[]).await;
    let mut second = initiator.command(0, &read_10(0, 1), ScsiCommand::READ, 512);
    second.initiator_task_tag = first.initiator_task_tag;
    initiator.send(&second, &[]).await;
    let pdu = initiator.receive().await;
    assert_eq!(
        (pdu.bhs.opcode(), pdu.bhs.view::<bhs::Reject>().reason),
        (opcode::REJECT, 0x07)
    );
    rig.volume.let_go();
    assert_eq!(
        initiator.end_of(first.initiator_task_tag.get(), &[]).await.status,
        GOOD
    );
    rig.stop().await;
}

#[tokio::test]
async fn writes_larger_than_the_budget_take_turns() {
    let rig = Rig::start_with(|config| config.tuning.data_out_budget = 100_000);
    let mut initiator = rig.login_with("iqn.test:a", keys(true, false, true, false)).await;
    ready(&mut initiator).await;
    let data = pattern(9, 200 * 512);
    let mut waiting = Vec::new();
    for number in 0..5 {
        let header = initiator.command(
            0,
            &write_10(number * 200, 200),
            ScsiCommand::WRITE,
            data.len() as u32,
        );
        initiator.send(&header, &[]).await;
        waiting.push(header.initiator_task_tag.get());
    }
    for tag in waiting {
        // `end_of` accepts R2Ts of this tag only: the next write does not begin before this one has ended.
        assert_eq!(initiator.end_of(tag, &data).await.status, GOOD);
    }
    assert_eq!(
        initiator
            .read(0, &read_10(800, 200), data.len() as u32)
            .await
            .data,
        data
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_write_too_long_to_hold_is_refused() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    ready(&mut initiator).await;
    let header = initiator.command(0, &write_10(0, 1), ScsiCommand::WRITE, u32::MAX);
    initiator.send(&header, &[]).await;
    let end = initiator.end_of(header.initiator_task_tag.get(), &[]).await;
    assert_eq!(
        (end.status, end.sense[2] & 15, end.sense[12]),
        (CHECK_CONDITION, 5, 0x24)
    );
    rig.stop().await;
}

#[tokio::test]
async fn additional_header_segments_are_understood_or_rejected() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    ready(&mut initiator).await;
    let extended = bhs::AdditionalHeaders {
        extended_cdb: Some(&[0; 16]),
        read_length: None,
    }
    .to_bytes();
    // A 32-byte CDB of an opcode that nobody knows: the executor has seen it.
    let header = initiator.command(0, &[0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0xff, 0xff], 0, 0);
    initiator.send_with_ahs(&header, &extended).await;
    let end = initiator.end_of(header.initiator_task_tag.get(), &[]).await;
    assert_eq!((end.status, end.sense[2] & 15), (CHECK_CONDITION, 5));
    let header = initiator.command(0, &[0; 6], 0, 0);
    initiator.send_with_ahs(&header, &[0, 5, 99, 0, 0, 0, 0, 0]).await;
    let pdu = initiator.receive().await;
    assert_eq!(
        (pdu.bhs.opcode(), pdu.bhs.view::<bhs::Reject>().reason),
        (opcode::REJECT, 0x09)
    );
    assert_eq!(initiator.read(0, &[0; 6], 0).await.status, GOOD);
    rig.stop().await;
}

#[tokio::test]
async fn a_data_digest_error_fails_the_write_only() {
    let rig = Rig::start();
    let mut initiator = rig.login_with("iqn.test:a", keys(false, true, false, true)).await;
    ready(&mut initiator).await;
    let mut header = initiator.command(0, &write_10(0, 2), ScsiCommand::WRITE, 1024);
    header.flags &= !FINAL;
    initiator.send(&header, &[]).await;
    let mut out = bhs::DataOut::new();
    out.initiator_task_tag = header.initiator_task_tag;
    out.target_transfer_tag = RESERVED_TAG.into();
    initiator.send_damaged(&out, &[1; 1024]).await;
    let pdu = initiator.receive().await;
    assert_eq!(
        (pdu.bhs.opcode(), pdu.bhs.view::<bhs::Reject>().reason),
        (opcode::REJECT, 0x02)
    );
    let end = initiator.end_of(header.initiator_task_tag.get(), &[]).await;
    assert_eq!(
        (end.status, &end.sense[12..14]),
        (CHECK_CONDITION, &[0x47, 0x05][..])
    );
    assert_eq!(initiator.read(0, &[0; 6], 0).await.status, GOOD);
    rig.stop().await;
}

/// More answers than may wait to be sent: the handling of the batch pauses, and must go on by itself once they have
/// left, not when the connection next looks at the clock (every five seconds).
#[tokio::test]
async fn large_reads_in_one_batch_keep_flowing() {
    let rig = Rig::start();
    let mut initiator = rig.login_with("iqn.test:a", Offer::default()).await;
    ready(&mut initiator).await;
    let length = 1_u32 << 20;
    let mut tags = Vec::new();
    for number in 0..8 {
        let command = initiator.command(0, &read_10(number, 2048), FINAL | ScsiCommand::READ, length);
        tags.push(command.initiator_task_tag.get());
        initiator.queue(&command, &[]);
    }
    initiator.send_queued().await;
    let all = async {
        for tag in tags {
            let end = initiator.end_of(tag, &[]).await;
            assert_eq!((end.status, end.data.len()), (GOOD, length as usize));
        }
    };
    let limit = Duration::from_secs(4);
    assert!(
        tokio::time::timeout(limit, all).await.is_ok(),
        "the answers stopped"
    );
}
