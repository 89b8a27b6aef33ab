//! Login, discovery, text, NOP, reinstatement, logout, shutdown.

use std::time::Duration;

use iscsi_frontend::{AuthPolicy, Credentials, InitiatorRule, KeepaliveTimes, Secret};
use iscsi_proto::{
    bhs::{self, AsyncMessage, Header, RESERVED_TAG, opcode},
    login::Stage,
    negotiation::{DigestKind, Offer},
};
use target_core::initiator_pattern::InitiatorPattern;

use crate::{
    initiator::{Initiator, config},
    rig::{Rig, TARGET, free_address},
};

#[tokio::test]
async fn a_session_pings_and_logs_out() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    assert_eq!(initiator.ping(b"hello").await, b"hello");
    assert_eq!(initiator.ping(&[9; 5000]).await, [9; 5000]);
    let sessions = rig.frontend.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].initiator, "iqn.test:a");
    assert_eq!(sessions[0].tsih, initiator.outcome.tsih);
    assert!(sessions[0].bytes_in > 5000);
    assert_eq!(initiator.logout().await, 0);
    assert!(
        rig.frontend.sessions().is_empty(),
        "gone before the logout was answered"
    );
    rig.stop().await;
}

#[tokio::test]
async fn digests_are_used_as_negotiated() {
    let rig = Rig::start();
    for (header_digest, data_digest) in [(true, false), (false, true), (true, true)] {
        let kinds = |on| vec![if on { DigestKind::Crc32c } else { DigestKind::None }];
        let keys = Offer {
            header_digest: kinds(header_digest),
            data_digest: kinds(data_digest),
            ..Offer::default()
        };
        let mut initiator = rig.login_with("iqn.test:a", keys).await;
        assert_eq!(initiator.ping(&[3; 777]).await, [3; 777]);
        let session = &rig.frontend.sessions()[0];
        assert_eq!(
            (session.header_digest, session.data_digest),
            (header_digest, data_digest)
        );
        initiator.logout().await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn discovery_lists_what_the_initiator_may_use() {
    let rig = Rig::start_with(|config| {
        let rule = InitiatorRule {
            name: InitiatorPattern::exactly("iqn.test:friend"),
            auth: AuthPolicy::none(),
            offer: None,
            moved: None,
        };
        config.targets[0].initiators.push(rule);
    });
    let list = |name: &'static str| {
        let address = rig.address;
        async move {
            let mut initiator = Initiator::login(address, config(name, None, Offer::default()))
                .await
                .unwrap();
            let answer = initiator.text("SendTargets=All\0").await;
            assert_eq!(initiator.logout().await, 0);
            answer
        }
    };
    let expected = format!("TargetName={TARGET}\nTargetAddress={},1\n", rig.address);
    assert_eq!(list("iqn.test:friend").await, expected);
    assert_eq!(list("iqn.test:stranger").await, "");
    let refused = Initiator::login(
        rig.address,
        config("iqn.test:stranger", Some(TARGET), Offer::default()),
    )
    .await;
    assert!(refused.is_err());
    rig.stop().await;
}

#[tokio::test]
async fn chap_is_asked_for_and_checked() {
    let account = |secret: &str| Credentials {
        name: "user".into(),
        secret: Secret::new(secret.as_bytes().to_vec()),
    };
    let rig = Rig::start_with(|config| {
        let auth = AuthPolicy::chap(vec![account("twelve bytes at least")]);
        config.targets[0].initiators.push(InitiatorRule {
            name: InitiatorPattern::any(),
            auth,
            offer: None,
            moved: None,
        });
    });
    let login = |secret: Option<&str>| {
        let mut config = config("iqn.test:a", Some(TARGET), Offer::default());
        config.chap = secret.map(account);
        config.security_stage = true;
        Initiator::login(rig.address, config)
    };
    assert!(login(None).await.is_err());
    assert!(login(Some("another long secret")).await.is_err());
    let mut initiator = login(Some("twelve bytes at least")).await.unwrap();
    assert_eq!(initiator.ping(b"in").await, b"in");
    rig.stop().await;
}

#[tokio::test]
async fn sendtargets_in_a_normal_session_names_its_own_target() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    let answer = initiator.text("SendTargets=\0").await;
    assert_eq!(
        answer,
        format!("TargetName={TARGET}\nTargetAddress={},1\n", rig.address)
    );
    rig.stop().await;
}

#[tokio::test]
async fn the_same_port_again_ends_the_old_session_first() {
    let rig = Rig::start();
    let mut old = rig.login("iqn.test:a").await;
    let mut new = rig.login("iqn.test:a").await;
    assert_ne!(old.outcome.tsih, new.outcome.tsih);
    assert_eq!(rig.frontend.sessions().len(), 1);
    assert!(old.receive_or_end().await.is_none());
    assert_eq!(new.ping(b"x").await, b"x");
    let _other = rig.login("iqn.test:b").await;
    assert_eq!(rig.frontend.sessions().len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn unknown_and_misplaced_pdus_are_rejected_and_the_session_lives() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    let mut unknown = bhs::Snack::new();
    unknown.opcode = 0x1c;
    let mut misplaced = bhs::LoginRequest::new();
    misplaced.flags = (Stage::Operational as u8) << 2;
    for (header, reason) in [
        (unknown.to_bhs(), 0x05),
        (bhs::Snack::new().to_bhs(), 0x03),
        (misplaced.to_bhs(), 0x04),
    ] {
        initiator.send_raw(&header).await;
        let pdu = initiator.receive().await;
        assert_eq!(pdu.bhs.opcode(), opcode::REJECT);
        assert_eq!(pdu.bhs.view::<bhs::Reject>().reason, reason);
        assert_eq!(pdu.data, header.0, "the rejected header comes back");
    }
    assert_eq!(initiator.ping(b"alive").await, b"alive");
    rig.stop().await;
}

#[tokio::test]
async fn a_data_segment_that_is_too_long_ends_the_connection() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    let mut header = bhs::NopOut::new();
    header.data_segment_length = bhs::U24::new(0xff_ffff);
    initiator.send_raw(&header.to_bhs()).await;
    assert!(initiator.receive_or_end().await.is_none());
    rig.stop().await;
}

#[tokio::test]
async fn commands_outside_the_window_are_ignored() {
    let rig = Rig::start();
    let mut initiator = rig.login("iqn.test:a").await;
    for distance in [u32::MAX, 5000] {
        let mut nop = bhs::NopOut::new();
        nop.initiator_task_tag = 77.into();
        nop.target_transfer_tag = RESERVED_TAG.into();
        nop.cmd_sn = initiator.cmd_sn.wrapping_add(distance).into();
        initiator.send(&nop, b"ignored").await;
    }
    // Out of order, but inside: answered in order once the gap is filled.
    for (tag, place) in [(1002, 1), (1001, 0)] {
        let mut nop = bhs::NopOut::new();
        nop.initiator_task_tag = tag.into();
        nop.target_transfer_tag = RESERVED_TAG.into();
        nop.cmd_sn = initiator.cmd_sn.wrapping_add(place).into();
        initiator.send(&nop, &[]).await;
    }
    for tag in [1001, 1002] {
        assert_eq!(initiator.receive().await.bhs.initiator_task_tag(), tag);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_silent_initiator_is_asked_and_then_given_up() {
    let rig = Rig::start_with(|config| {
        config.targets[0].keepalive = KeepaliveTimes {
            interval: Some(Duration::from_millis(50)),
            patience: Duration::from_millis(100),
        };
    });
    let mut initiator = rig.login("iqn.test:a").await;
    let question = initiator.receive().await;
    assert_eq!(question.bhs.opcode(), opcode::NOP_IN);
    let tag = question.bhs.view::<bhs::NopIn>().target_transfer_tag.get();
    assert_ne!(tag, RESERVED_TAG);
    let mut answer = bhs::NopOut::new();
    answer.opcode |= bhs::IMMEDIATE;
    answer.initiator_task_tag = RESERVED_TAG.into();
    answer.target_transfer_tag = tag.into();
    answer.cmd_sn = initiator.cmd_sn.into();
    initiator.send(&answer, &[]).await;
    assert_eq!(
        initiator.receive().await.bhs.opcode(),
        opcode::NOP_IN,
        "asked again later"
    );
    assert!(rig.frontend.sessions()[0].round_trip.is_some());
    assert!(initiator.receive_or_end().await.is_none(), "given up");
    rig.stop().await;
}

#[tokio::test]
async fn a_stopping_target_asks_for_logout_and_accepts_nobody() {
    let rig = Rig::start_with(|config| config.tuning.logout_grace = Duration::from_secs(5));
    let mut initiator = rig.login("iqn.test:a").await;
    rig.shutdown.cancel();
    let pdu = initiator.receive().await;
    assert_eq!(pdu.bhs.opcode(), opcode::ASYNC_MESSAGE);
    let message = pdu.bhs.view::<AsyncMessage>();
    assert_eq!(
        (message.event, message.parameter3.get()),
        (AsyncMessage::LOGOUT_REQUEST, 5)
    );
    assert!(
        tokio::net::TcpStream::connect(rig.address).await.is_err(),
        "the portal is closed"
    );
    assert_eq!(initiator.logout().await, 0);
    tokio::time::timeout(Duration::from_secs(2), rig.stop())
        .await
        .expect("not the whole grace");
}

#[tokio::test]
async fn a_stubborn_initiator_is_dropped_after_the_grace() {
    let rig = Rig::start_with(|config| config.tuning.logout_grace = Duration::from_millis(200));
    let mut initiator = rig.login("iqn.test:a").await;
    rig.shutdown.cancel();
    for event in [AsyncMessage::LOGOUT_REQUEST, AsyncMessage::DROP_SESSION] {
        assert_eq!(initiator.receive().await.bhs.view::<AsyncMessage>().event, event);
    }
    assert!(initiator.receive_or_end().await.is_none());
    rig.stop().await;
}

/// The initiator is asked to log out, and does.
async fn is_asked_and_logs_out(initiator: &mut Initiator) {
    let pdu = initiator.receive().await;
    assert_eq!(pdu.bhs.opcode(), opcode::ASYNC_MESSAGE);
    let message = pdu.bhs.view::<AsyncMessage>();
    assert_eq!(
        (message.event, message.parameter3.get()),
        (AsyncMessage::LOGOUT_REQUEST, 5)
    );
    assert_eq!(initiator.logout().await, 0);
}

#[tokio::test]
async fn targets_portals_and_initiators_come_and_go_while_serving() {
    let rig = Rig::start_with(|config| config.tuning.logout_grace = Duration::from_secs(5));
    let mut initiator = rig.login("iqn.test:a").await;
    let mut config = rig.config.clone();
    let second = free_address();
    config.portals.push(second.into());
    rig.frontend.reconfigure(config.clone()).await.unwrap();
    let login = crate::initiator::config("iqn.test:b", Some(TARGET), Offer::default());
    let mut other = Initiator::login(second, login).await.unwrap();
    assert_eq!(initiator.ping(b"still").await, b"still");

    config.portals.pop();
    rig.frontend.reconfigure(config.clone()).await.unwrap();
    assert!(tokio::net::TcpStream::connect(second).await.is_err());
    is_asked_and_logs_out(&mut other).await;
    assert_eq!(initiator.ping(b"still").await, b"still");

    let rule = |name: &str| InitiatorRule {
        name: InitiatorPattern::exactly(name),
        auth: AuthPolicy::none(),
        offer: None,
        moved: None,
    };
    config.targets[0].initiators = vec![rule("iqn.test:a"), rule("iqn.test:b")];
    rig.frontend.reconfigure(config.clone()).await.unwrap();
    let mut other = rig.login("iqn.test:b").await;
    config.targets[0].initiators.pop();
    rig.frontend.reconfigure(config.clone()).await.unwrap();
    is_asked_and_logs_out(&mut other).await;
    assert_eq!(initiator.ping(b"still").await, b"still");

    config.targets.clear();
    rig.frontend.reconfigure(config).await.unwrap();
    is_asked_and_logs_out(&mut initiator).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_session_of_a_removed_target_that_does_not_log_out_is_dropped() {
    let rig = Rig::start_with(|config| config.tuning.logout_grace = Duration::from_millis(200));
    let mut initiator = rig.login("iqn.test:a").await;
    let mut config = rig.config.clone();
    config.targets.clear();
    rig.frontend.reconfigure(config).await.unwrap();
    for event in [AsyncMessage::LOGOUT_REQUEST, AsyncMessage::DROP_SESSION] {
        assert_eq!(initiator.receive().await.bhs.view::<AsyncMessage>().event, event);
    }
    assert!(initiator.receive_or_end().await.is_none());
    rig.stop().await;
}
