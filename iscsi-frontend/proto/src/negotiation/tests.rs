use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::text::parse;

fn target(session_type: SessionType, offer: Offer) -> Negotiation {
    Negotiation::new(Role::Target, session_type, true, offer)
}

/// Sends words with blanks between them and gives the answer in the same form.
fn talk(negotiation: &mut Negotiation, text: &str) -> Result<String, NegotiationError> {
    let pairs: Vec<_> = text
        .split_whitespace()
        .map(|word| word.split_once('=').unwrap())
        .map(|(key, value)| Pair { key, value })
        .collect();
    let mut out = TextWriter::new();
    negotiation.receive(&pairs, &mut out)?;
    Ok(String::from_utf8(out.into_bytes())
        .unwrap()
        .trim_end_matches('\0')
        .replace('\0', " "))
}

/// The answer to `text` alone, by a target with `offer`.
fn answer(offer: Offer, text: &str) -> String {
    talk(&mut target(SessionType::Normal, offer), text).unwrap()
}

#[test]
fn each_rule_makes_its_result() {
    let ours = |initial_r2t, immediate_data| Offer {
        initial_r2t,
        immediate_data,
        ..Offer::default()
    };
    for (a, b) in [(false, false), (false, true), (true, false), (true, true)] {
        let or = format!("InitialR2T={}", yes_or_no(a));
        assert_eq!(
            answer(ours(b, true), &or),
            format!("InitialR2T={}", yes_or_no(a || b))
        );
        let and = format!("ImmediateData={}", yes_or_no(a));
        assert_eq!(
            answer(ours(false, b), &and),
            format!("ImmediateData={}", yes_or_no(a && b))
        );
    }
    let answer = |text| answer(Offer::default(), text);
    assert_eq!(answer("MaxBurstLength=512"), "MaxBurstLength=512");
    assert_eq!(answer("MaxBurstLength=0xffffff"), "MaxBurstLength=1048576");
    assert_eq!(answer("DefaultTime2Wait=0"), "DefaultTime2Wait=2");
    assert_eq!(answer("DefaultTime2Wait=3600"), "DefaultTime2Wait=3600");
    assert_eq!(
        answer("HeaderDigest=Z-private,CRC32C,None"),
        "HeaderDigest=CRC32C"
    );
    assert_eq!(answer("HeaderDigest=None,CRC32C"), "HeaderDigest=None");
    assert_eq!(
        answer("TaskReporting=FastAbort,ResponseFence,RFC3720"),
        "TaskReporting=FastAbort"
    );
    assert_eq!(answer("iSCSIProtocolLevel=31"), "iSCSIProtocolLevel=2");
}

#[test]
fn what_cannot_be_a_value_is_rejected() {
    for text in [
        "InitialR2T=yes",
        "InitialR2T=",
        "MaxBurstLength=511",
        "MaxBurstLength=16777216",
        "MaxBurstLength=99999999999999999999",
        "MaxConnections=0",
        "ErrorRecoveryLevel=3",
        "DefaultTime2Wait=3601",
        "HeaderDigest=crc32c",
        "HeaderDigest=",
        "TaskReporting=SlowAbort",
        "iSCSIProtocolLevel=32",
        "IFMarker=No",
        "OFMarkInt=2048~8192",
        "InitialR2T=NotUnderstood",
    ] {
        let key = text.split_once('=').unwrap().0;
        assert_eq!(answer(Offer::default(), text), format!("{key}=Reject"), "{text}");
    }
}

/// RFC 7143 13.19: with sequences in order there is one R2T at a time where errors are recovered from.
#[test]
fn error_recovery_goes_with_one_r2t_at_a_time() {
    let offer = Offer {
        error_recovery_level: 2,
        ..Offer::default()
    };
    let answer = |text| answer(offer.clone(), text);
    assert_eq!(
        answer("MaxOutstandingR2T=8 ErrorRecoveryLevel=1"),
        "MaxOutstandingR2T=1 ErrorRecoveryLevel=1"
    );
    assert_eq!(
        answer("ErrorRecoveryLevel=0 MaxOutstandingR2T=8"),
        "ErrorRecoveryLevel=0 MaxOutstandingR2T=8"
    );
    let mut target = target(SessionType::Normal, offer);
    assert_eq!(
        talk(&mut target, "MaxOutstandingR2T=8").unwrap(),
        "MaxOutstandingR2T=8"
    );
    assert_eq!(
        talk(&mut target, "ErrorRecoveryLevel=2").unwrap(),
        "ErrorRecoveryLevel=0"
    );
}

#[test]
fn keys_without_meaning_in_the_session_are_irrelevant() {
    let mut discovery = target(SessionType::Discovery, Offer::default());
    let offered = "MaxConnections=1 InitialR2T=Yes ImmediateData=No MaxBurstLength=512 FirstBurstLength=512 \
                   MaxOutstandingR2T=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes TaskReporting=RFC3720 \
                   iSCSIProtocolLevel=1";
    let answer = talk(&mut discovery, offered).unwrap();
    assert_eq!(answer.matches("=Irrelevant").count(), 10, "{answer}");
    let answer = talk(
        &mut discovery,
        "DefaultTime2Wait=5 DefaultTime2Retain=0 ErrorRecoveryLevel=1 DataDigest=None",
    );
    assert_eq!(
        answer.unwrap(),
        "DefaultTime2Wait=5 DefaultTime2Retain=0 ErrorRecoveryLevel=0 DataDigest=None"
    );
}

#[test]
fn the_first_burst_depends_on_keys_behind_it() {
    let answer = |text| answer(Offer::default(), text);
    assert_eq!(
        answer("FirstBurstLength=262144 MaxBurstLength=8192"),
        "FirstBurstLength=8192 MaxBurstLength=8192",
        "never more than MaxBurstLength"
    );
    assert_eq!(
        answer("FirstBurstLength=512 InitialR2T=Yes ImmediateData=No"),
        "FirstBurstLength=Irrelevant InitialR2T=Yes ImmediateData=No"
    );
    assert_eq!(
        answer("FirstBurstLength=512 InitialR2T=Yes"),
        "FirstBurstLength=512 InitialR2T=Yes"
    );
}

#[test]
fn an_inquiry_is_answered_with_the_value_in_force_and_changes_nothing() {
    let mut negotiation = target(SessionType::Normal, Offer::default());
    assert_eq!(
        talk(&mut negotiation, "MaxBurstLength=?").unwrap(),
        "MaxBurstLength=262144"
    );
    assert_eq!(
        talk(&mut negotiation, "MaxBurstLength=8192").unwrap(),
        "MaxBurstLength=8192"
    );
    assert_eq!(
        talk(&mut negotiation, "MaxBurstLength=?").unwrap(),
        "MaxBurstLength=8192"
    );
    assert_eq!(
        talk(&mut negotiation, "X-org.example=?").unwrap(),
        "X-org.example=NotUnderstood"
    );
}

#[test]
fn a_key_is_settled_once() {
    let mut negotiation = target(SessionType::Normal, Offer::default());
    talk(
        &mut negotiation,
        "MaxBurstLength=8192 MaxRecvDataSegmentLength=4096 IFMarker=No",
    )
    .unwrap();
    for (text, key) in [
        ("MaxBurstLength=8192", Key::MaxBurstLength),
        ("MaxRecvDataSegmentLength=4096", Key::MaxRecvDataSegmentLength),
        ("IFMarker=No", Key::IfMarker),
        ("FirstBurstLength=512 FirstBurstLength=512", Key::FirstBurstLength),
    ] {
        assert_eq!(talk(&mut negotiation, text), Err(NegotiationError::Repeated(key)));
    }
}

#[test]
fn unknown_keys_are_bounded() {
    let mut negotiation = target(SessionType::Normal, Offer::default());
    for n in 0..UNKNOWN_KEYS_MAX {
        assert_eq!(
            talk(&mut negotiation, &format!("X-{n}=1")).unwrap(),
            format!("X-{n}=NotUnderstood")
        );
    }
    assert_eq!(
        talk(&mut negotiation, "X-one-more=1"),
        Err(NegotiationError::TooManyUnknown)
    );
    assert_eq!(
        talk(&mut negotiation, "X-0=1"),
        Err(NegotiationError::RepeatedUnknown)
    );
}

#[test]
fn an_answer_must_be_one_that_the_offer_allows() {
    let offered = || {
        let offer = Offer {
            initial_r2t: true,
            immediate_data: false,
            error_recovery_level: 1,
            ..Offer::default()
        };
        let mut initiator = Negotiation::new(Role::Initiator, SessionType::Normal, true, offer);
        initiator.offer_all(&mut TextWriter::new());
        initiator
    };
    for (text, key) in [
        ("InitialR2T=No", Key::InitialR2T),
        ("ImmediateData=Yes", Key::ImmediateData),
        ("MaxBurstLength=1048577", Key::MaxBurstLength),
        ("DefaultTime2Wait=1", Key::DefaultTime2Wait),
        ("ErrorRecoveryLevel=2", Key::ErrorRecoveryLevel),
        ("HeaderDigest=CRC32C,None", Key::HeaderDigest),
        ("MaxOutstandingR2T=zero", Key::MaxOutstandingR2T),
        ("TaskReporting=SlowAbort", Key::TaskReporting),
    ] {
        assert_eq!(
            talk(&mut offered(), text),
            Err(NegotiationError::IllegalAnswer(key)),
            "{text}"
        );
    }
    let mut initiator = offered();
    assert!(!initiator.is_settled());
    // Rejected keys keep their defaults; the answers to InitialR2T and ImmediateData may be left out.
    let answers = "HeaderDigest=None DataDigest=None MaxConnections=1 MaxBurstLength=Reject \
                   FirstBurstLength=Irrelevant DefaultTime2Wait=2 DefaultTime2Retain=20 MaxOutstandingR2T=1 \
                   DataPDUInOrder=Yes DataSequenceInOrder=Yes ErrorRecoveryLevel=0 TaskReporting=NotUnderstood \
                   iSCSIProtocolLevel=NotUnderstood";
    assert_eq!(talk(&mut initiator, answers).unwrap(), "");
    assert!(initiator.is_settled());
    let (session, _) = initiator.finish().unwrap();
    assert_eq!(
        (
            session.initial_r2t,
            session.immediate_data,
            session.max_burst_length
        ),
        (true, false, 262_144)
    );
}

#[test]
fn text_in_full_feature_phase_changes_only_what_it_may() {
    let start = ConnectionParameters {
        header_digest: DigestKind::None,
        data_digest: DigestKind::None,
        peer_max_recv_data_segment_length: 8192,
        own_max_recv_data_segment_length: 8192,
    };
    let ask = |text: &[u8]| {
        let mut connection = start;
        negotiate_text(&parse(text).unwrap(), &mut connection).map(|answer| (answer, connection))
    };
    let (answer, connection) =
        ask(b"MaxRecvDataSegmentLength=65536\0SendTargets=All\0InitialR2T=No\0X-a=1\0InitiatorAlias=me\0TargetAlias=Reject\0")
            .unwrap();
    assert_eq!(connection.peer_max_recv_data_segment_length, 65536);
    assert_eq!(answer.max_recv_data_segment_length, Some(65536));
    assert_eq!(answer.send_targets.as_deref(), Some("All"));
    assert_eq!(
        answer.text.into_bytes(),
        b"InitialR2T=Reject\0X-a=NotUnderstood\0"
    );
    let (answer, _) = ask(b"InitiatorName=iqn.a:b\0AuthMethod=None\0sENDtARGETS=aLL\0").unwrap();
    assert_eq!(
        answer.text.into_bytes(),
        b"InitiatorName=Reject\0AuthMethod=Reject\0sENDtARGETS=NotUnderstood\0"
    );
    for (text, error) in [
        (
            &b"SendTargets=All\0SendTargets=All\0"[..],
            NegotiationError::Repeated(Key::SendTargets),
        ),
        (
            b"TargetAlias=mine\0",
            NegotiationError::WrongSender(Key::TargetAlias),
        ),
        (
            b"MaxRecvDataSegmentLength=0\0",
            NegotiationError::BadDeclaration(Key::MaxRecvDataSegmentLength),
        ),
        (b"X-a=1\0X-a=1\0", NegotiationError::RepeatedUnknown),
    ] {
        assert_eq!(ask(text), Err(error));
    }
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => proptest::sample::select(KEYS.iter().map(|spec| spec.name.to_owned()).collect::<Vec<_>>()),
        1 => "X-[a-z]{1,3}",
    ]
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(vec!["Yes", "No", "None", "CRC32C", "CRC32C,None", "Reject", "?", "Irrelevant", ""])
            .prop_map(str::to_owned),
        4 => any::<u32>().prop_map(|number| (number >> (number % 32)).to_string()),
        1 => "[ -~]{0,12}",
    ]
}

proptest! {
    /// Any soup of keys: no panic, one answer to each offer, and what comes out is inside its range.
    #[test]
    fn soup_gets_one_answer_per_key(
        soup in proptest::collection::vec((any_key(), any_value()), 0..12),
        discovery in any::<bool>(),
        leading in any::<bool>(),
    ) {
        let session_type = if discovery { SessionType::Discovery } else { SessionType::Normal };
        let mut negotiation = Negotiation::new(Role::Target, session_type, leading, Offer::default());
        let pairs: Vec<_> = soup.iter().map(|(key, value)| Pair { key, value }).collect();
        let mut out = TextWriter::new();
        if negotiation.receive(&pairs, &mut out).is_ok() {
            let text = out.into_bytes();
            let answered: Vec<_> = parse(&text).unwrap().iter().map(|pair| pair.key.to_owned()).collect();
            let expected: Vec<_> = soup
                .iter()
                .filter(|(key, value)| match Key::from_name(key) {
                    Some(key) => !matches!(key.spec().rule, Rule::DeclaredNumber(..)),
                    None => !is_refusal(value),
                })
                .map(|(key, _)| key.clone())
                .collect();
            prop_assert_eq!(answered, expected);
            let distinct: BTreeSet<_> = soup.iter().map(|(key, _)| key).collect();
            let inquiries = soup.iter().filter(|(_, value)| value == "?").count();
            prop_assert!(distinct.len() + inquiries >= soup.len(), "a repeated key was let pass");
        }
        if let Ok((session, connection)) = negotiation.finish() {
            prop_assert!(session.max_connections >= 1);
            prop_assert!((512..=1 << 20).contains(&session.max_burst_length));
            prop_assert!((512..=session.max_burst_length).contains(&session.first_burst_length));
            prop_assert!((2..=3600).contains(&session.default_time2wait));
            prop_assert!(session.default_time2retain <= 20);
            prop_assert!((1..=16).contains(&session.max_outstanding_r2t));
            prop_assert!(session.error_recovery_level == 0 && session.protocol_level <= 2);
            prop_assert!((512..1 << 24).contains(&connection.peer_max_recv_data_segment_length));
        }
    }
}
