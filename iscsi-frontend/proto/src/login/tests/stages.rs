//! Stages, split text, held transits, sessions and time.

use super::*;

#[test]
fn each_algorithm_and_each_of_several_secrets_works_in_hexadecimal_and_base64() {
    for algorithm in Algorithm::PREFERENCE {
        for (name, secret) in [("host-a", "open sesame!"), ("old", "an older secret")] {
            let mut bench = Bench::new(House::chap(false));
            bench.talk((0, None), &format!("{} AuthMethod=None,CHAP", names()));
            bench.talk((0, None), &format!("CHAP_A=99,{}", algorithm.number()));
            assert_eq!(
                bench.talk((0, Some(1)), &chap_answer(name, secret, algorithm)).1,
                Some(1)
            );
        }
    }
    // MD5 again, in base64 as Windows may send it, then with one bit flipped.
    let base64 =
        |value: &str| at_response(false).send((0, Some(1)), &format!("CHAP_N=host-a CHAP_R={value}"));
    assert!(matches!(
        base64("0bt7f2RDsNimlnKhYTGyFkPg=="),
        LoginProgress::Reply(LoginReply { transit: true, .. })
    ));
    assert_eq!(
        refusal(base64("0bu7f2RDsNimlnKhYTGyFkPg==")),
        Misbehaviour::ChapFailed
    );
}

#[test]
fn text_split_with_the_c_bit_counts_when_it_is_complete() {
    let mut bench = Bench::new(House::default());
    let text = format!("InitiatorName={INITIATOR}\0TargetName={TARGET}\0AuthMethod=None\0");
    let (head, tail) = text.as_bytes().split_at(20);
    match bench.raw((0, None), true, head) {
        LoginProgress::Reply(reply) => assert!(reply.data.is_empty() && !reply.transit && !reply.cont),
        other => panic!("{other:?}"),
    }
    match bench.raw((0, Some(1)), false, tail) {
        LoginProgress::Reply(reply) => assert_eq!((reply.transit, reply.nsg), (true, 1)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_longer_than_the_initiator_takes_is_split_and_the_t_bit_waits() {
    let mut bench = Bench::new(House::default());
    let text = format!("{} MaxRecvDataSegmentLength=512 {}", names(), unknown_keys(100));
    let mut collector = Collector::default();
    let mut progress = bench.send((1, Some(3)), &text);
    let mut replies = 0;
    let last = loop {
        match progress {
            LoginProgress::Reply(reply) => {
                assert!(reply.cont && !reply.transit && reply.data.len() <= 512);
                collector.push(&reply.data).unwrap();
                replies += 1;
                progress = bench.send((1, Some(3)), "");
            }
            LoginProgress::Done { reply, .. } => break reply,
            LoginProgress::Refuse { why, .. } => panic!("{why}"),
        }
    };
    assert!(replies > 3 && last.transit && !last.cont && last.data.len() <= 512);
    collector.push(&last.data).unwrap();
    let text = collector.take();
    let answers = text::parse(&text).unwrap();
    assert_eq!(
        answers
            .iter()
            .filter(|pair| pair.value == "NotUnderstood")
            .count(),
        100
    );
}

#[test]
fn a_default_that_will_not_do_is_negotiated_before_the_end() {
    let mut offer = TargetOffer::default();
    offer.keys.header_digest = vec![DigestKind::Crc32c];
    offer.keys.immediate_data = false;
    let mut bench = Bench::offering(House::default(), offer);
    let (answer, next) = bench.talk((1, Some(3)), &names());
    assert!(
        answer.ends_with("HeaderDigest=CRC32C ImmediateData=No"),
        "{answer}"
    );
    assert_eq!(next, None);
    // ImmediateData is decided whatever the answer is; HeaderDigest is not.
    assert_eq!(bench.talk((1, Some(3)), ""), (String::new(), None));
    let (_, outcome) = bench.finish((1, Some(3)), "HeaderDigest=CRC32C");
    assert_eq!(outcome.connection.header_digest, DigestKind::Crc32c);
    assert!(!leading(&outcome).immediate_data);
}

#[test]
fn sessions_are_new_reinstated_or_joined() {
    let mut bench = Bench::new(House {
        live: Some(5),
        ..House::default()
    });
    let (_, outcome) = bench.finish((1, Some(3)), &names());
    assert!(matches!(
        outcome.membership,
        Membership::Leading {
            reinstates: Some(5),
            ..
        }
    ));
    for (joining, reinstates) in [(Joining::Added, false), (Joining::Reinstated, true)] {
        let mut bench = Bench::new(House {
            joining,
            ..House::default()
        });
        bench.header.tsih = 9;
        bench.header.cid = 2;
        let (_, outcome) = bench.finish((1, Some(3)), &format!("{} HeaderDigest=CRC32C", names()));
        assert_eq!(outcome.membership, Membership::Joining { reinstates });
        assert_eq!((outcome.tsih, outcome.cid), (9, 2));
    }
}

#[test]
fn a_redirection_carries_the_address() {
    for (permanent, status) in [(false, (1, 1)), (true, (1, 2))] {
        let mut bench = Bench::new(House::with(Admission::Moved {
            permanent,
            address: "[::1]:3261".into(),
        }));
        match bench.send((0, Some(1)), &names()) {
            LoginProgress::Refuse { reply, .. } => {
                assert_eq!(
                    (reply.status, words(&reply).as_str()),
                    (status, "TargetAddress=[::1]:3261")
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn time_runs_out_and_the_login_stays_over() {
    let mut bench = Bench::new(House::default());
    let deadline = bench.login.deadline();
    assert!(
        bench
            .login
            .expire(deadline.saturating_sub(Duration::from_nanos(1)))
            .is_none()
    );
    assert_eq!(deadline, bench.now + LOGIN_TIMEOUT);
    assert_eq!(
        refusal(bench.login.expire(deadline).unwrap()),
        Misbehaviour::TimedOut
    );
    assert!(bench.login.expire(deadline).is_none());
    assert_eq!(
        refusal(bench.send((1, Some(3)), &names())),
        Misbehaviour::AlreadyOver
    );
}
