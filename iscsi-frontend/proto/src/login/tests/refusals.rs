//! Every refusal, by name and status.

use std::collections::BTreeSet;

use super::*;

macro_rules! kinds {
    ($($variant:ident)*) => {
        const KINDS: &[&str] = &[$(stringify!($variant)),*];

        fn kind(why: &Misbehaviour) -> &'static str {
            match why { $(Misbehaviour::$variant { .. } => stringify!($variant)),* }
        }
    };
}

kinds! {
    Moved Text Negotiation BadCurrentStage WrongCurrentStage BadNextStage TransitWithContinuation
    TextDuringContinuedAnswer IsidChanged TsihChanged CidChanged TaskTagChanged VersionChanged TooManyExchanges
    TimedOut AlreadyOver NotALoginRequest UnsupportedVersion Missing BadName UnknownSessionType
    SessionTypeNotSupported TargetNotFound TargetRemoved NotAllowed Unavailable OutOfResources NoSuchSession
    TooManyConnections CannotInclude AuthenticationRequired NoCommonAuthMethod NoCommonChapAlgorithm
    AuthenticationOutOfOrder ChapIncomplete Chap ChapFailed ChapReflected MutualNotConfigured SameSecretBothWays
}

/// Changes one header field after the first request.
fn changing(change: impl Fn(&mut LoginRequestView<'static>)) -> LoginProgress {
    let mut bench = at_operational();
    change(&mut bench.header);
    bench.send((1, None), "")
}

fn first(text: &str) -> LoginProgress {
    Bench::new(House::default()).send((1, Some(3)), text)
}

fn admission(admission: Admission) -> LoginProgress {
    Bench::new(House::with(admission)).send((0, Some(1)), &names())
}

fn joining(joining: Joining) -> LoginProgress {
    let mut bench = Bench::new(House {
        joining,
        ..House::default()
    });
    bench.header.tsih = 9;
    bench.send((1, Some(3)), &names())
}

fn response(mutual: bool, more: &str) -> LoginProgress {
    let good = chap_answer("host-a", "open sesame!", Algorithm::Md5);
    at_response(mutual).send((0, Some(1)), &format!("{good} {more}"))
}

#[test]
fn every_refusal_has_its_name_and_status() {
    use crate::chap::ChapError;
    use crate::keys::Key;
    use crate::negotiation::NegotiationError;
    use crate::text::TextError;
    use Misbehaviour as M;

    let mut seen = BTreeSet::new();
    let mut expect = |progress: LoginProgress, why: Misbehaviour, status: (u8, u8)| {
        assert_eq!(why.status(), status, "{why}");
        assert_eq!(refusal(progress), why);
        seen.insert(kind(&why));
    };
    let names = names();

    // Header.
    let mut bench = Bench::new(House::default());
    bench.header.version_min = 1;
    bench.header.version_max = 2;
    expect(bench.send((1, Some(3)), &names), M::UnsupportedVersion, (2, 5));
    for csg in [2, 3] {
        expect(
            Bench::new(House::default()).send((csg, None), &names),
            M::BadCurrentStage,
            (2, 0),
        );
    }
    for stages in [(0, Some(0)), (0, Some(2)), (1, Some(1)), (1, Some(0))] {
        expect(
            Bench::new(House::default()).send(stages, &names),
            M::BadNextStage,
            (2, 0),
        );
    }
    expect(
        at_operational().send((0, Some(1)), ""),
        M::WrongCurrentStage,
        (2, 0),
    );
    let mut bench = Bench::new(House::default());
    bench.raw((0, None), true, b"Initiator");
    expect(
        bench.raw((1, None), false, b"Name=x\0"),
        M::WrongCurrentStage,
        (2, 0),
    );
    expect(
        Bench::new(House::default()).raw((1, Some(3)), true, names.as_bytes()),
        M::TransitWithContinuation,
        (2, 0),
    );
    expect(changing(|h| h.isid[5] ^= 1), M::IsidChanged, (2, 0));
    expect(changing(|h| h.tsih = 1), M::TsihChanged, (2, 0));
    expect(changing(|h| h.cid = 1), M::CidChanged, (2, 0));
    expect(changing(|h| h.itt = 2), M::TaskTagChanged, (2, 0));
    expect(changing(|h| h.version_max = 1), M::VersionChanged, (2, 0));
    let mut bench = at_operational();
    for _ in 1..LOGIN_EXCHANGES_MAX {
        bench.talk((1, None), "");
    }
    expect(bench.send((1, None), ""), M::TooManyExchanges, (2, 0));
    let mut bench = at_operational();
    bench.now += LOGIN_TIMEOUT;
    expect(bench.send((1, Some(3)), ""), M::TimedOut, (2, 0));
    expect(bench.send((1, Some(3)), ""), M::AlreadyOver, (2, 0));
    expect(
        at_operational().login.refuse_other_request(),
        M::NotALoginRequest,
        (2, 0x0b),
    );

    // Text.
    expect(first("Lonely"), M::Text(TextError::MissingEquals), (2, 0));
    let many = "X-a=1 ".repeat(TEXT_PAIRS_MAX + 1);
    expect(first(&many), M::Text(TextError::TooManyPairs), (2, 0));
    let mut bench = Bench::new(House::default());
    let unknown = unknown_keys(200);
    assert!(matches!(
        bench.send((1, Some(3)), &format!("{names} {unknown}")),
        LoginProgress::Reply(LoginReply { cont: true, .. })
    ));
    expect(
        bench.send((1, Some(3)), "InitialR2T=No"),
        M::TextDuringContinuedAnswer,
        (2, 0),
    );

    // Names and sessions.
    expect(
        first(&format!("TargetName={TARGET}")),
        M::Missing(Key::InitiatorName),
        (2, 7),
    );
    expect(
        first(&format!("InitiatorName={INITIATOR}")),
        M::Missing(Key::TargetName),
        (2, 7),
    );
    for bad in ["host-a", "iqn.", &format!("iqn.{}", "a".repeat(220))] {
        let text = format!("InitiatorName={bad} TargetName={TARGET}");
        expect(first(&text), M::BadName(Key::InitiatorName), (2, 0));
    }
    expect(
        first(&format!("{names} SessionType=Other").replace("SessionType=Normal ", "")),
        M::UnknownSessionType,
        (2, 9),
    );
    expect(
        first(&names.replace(TARGET, "iqn.2026-11.io.holdfast:none")),
        M::TargetNotFound,
        (2, 3),
    );
    expect(admission(Admission::NotFound), M::TargetNotFound, (2, 3));
    expect(admission(Admission::Removed), M::TargetRemoved, (2, 4));
    expect(admission(Admission::NotAllowed), M::NotAllowed, (2, 2));
    expect(
        admission(Admission::SessionTypeNotSupported),
        M::SessionTypeNotSupported,
        (2, 9),
    );
    expect(admission(Admission::Unavailable), M::Unavailable, (3, 1));
    expect(admission(Admission::OutOfResources), M::OutOfResources, (3, 2));
    let address = "127.0.0.1:3261".to_owned();
    let moved = Admission::Moved {
        permanent: true,
        address: address.clone(),
    };
    expect(
        admission(moved),
        M::Moved {
            permanent: true,
            address,
        },
        (1, 2),
    );
    let full = Bench::new(House {
        room: false,
        ..House::default()
    })
    .send((1, Some(3)), &names);
    expect(full, M::OutOfResources, (3, 2));
    expect(joining(Joining::NoSuchSession), M::NoSuchSession, (2, 0x0a));
    expect(
        joining(Joining::TooManyConnections),
        M::TooManyConnections,
        (2, 6),
    );
    expect(joining(Joining::CannotInclude), M::CannotInclude, (2, 8));
    let mut bench = Bench::new(House::default());
    bench.header.tsih = 9;
    let discovery = format!("InitiatorName={INITIATOR} SessionType=Discovery");
    expect(bench.send((1, Some(3)), &discovery), M::CannotInclude, (2, 8));

    // Authentication.
    let chap = |stages, text: &str| Bench::new(House::chap(false)).send(stages, text);
    expect(chap((1, Some(3)), &names), M::AuthenticationRequired, (2, 1));
    expect(chap((0, Some(1)), &names), M::AuthenticationRequired, (2, 1));
    expect(
        chap((0, Some(1)), &format!("{names} AuthMethod=None")),
        M::NoCommonAuthMethod,
        (2, 1),
    );
    let open = Bench::new(House::default()).send((0, Some(1)), &format!("{names} AuthMethod=CHAP"));
    expect(open, M::NoCommonAuthMethod, (2, 1));
    for algorithms in ["CHAP_A=", "CHAP_A=56", "CHAP_A=4"] {
        let mut bench = Bench::new(House::chap(false));
        bench.talk((0, None), &format!("{names} AuthMethod=CHAP"));
        expect(
            bench.send((0, None), algorithms),
            M::NoCommonChapAlgorithm,
            (2, 1),
        );
    }
    let early = format!("{names} AuthMethod=CHAP CHAP_A=5");
    expect(
        chap((0, None), &early),
        M::AuthenticationOutOfOrder(Key::ChapA),
        (2, 0),
    );
    expect(
        chap((0, None), &format!("{names} CHAP_N=host-a")),
        M::AuthenticationOutOfOrder(Key::ChapN),
        (2, 0),
    );
    expect(
        response(false, "CHAP_A=5"),
        M::AuthenticationOutOfOrder(Key::ChapA),
        (2, 0),
    );
    expect(
        at_response(false).send((0, None), "CHAP_N=host-a"),
        M::ChapIncomplete(Key::ChapR),
        (2, 1),
    );
    expect(
        at_response(false).send((0, None), "CHAP_R=0x00"),
        M::ChapIncomplete(Key::ChapN),
        (2, 1),
    );
    expect(response(true, "CHAP_I=1"), M::ChapIncomplete(Key::ChapC), (2, 1));
    expect(
        response(true, "CHAP_C=0x01"),
        M::ChapIncomplete(Key::ChapI),
        (2, 1),
    );
    expect(
        response(true, "CHAP_I=300 CHAP_C=0x01"),
        M::Chap(ChapError::BadIdentifier),
        (2, 1),
    );
    let short = at_response(false).send((0, None), "CHAP_N=host-a CHAP_R=0x00");
    expect(short, M::Chap(ChapError::BadResponseLength), (2, 1));
    for (name, secret) in [
        ("host-a", "wrong"),
        ("someone", "open sesame!"),
        ("old", "open sesame!"),
    ] {
        let answer = chap_answer(name, secret, Algorithm::Md5);
        expect(
            at_response(false).send((0, Some(1)), &answer),
            M::ChapFailed,
            (2, 1),
        );
    }
    let reflected = format!("CHAP_I=1 CHAP_C=0x{}", "A5".repeat(32));
    expect(response(true, &reflected), M::ChapReflected, (2, 1));
    expect(
        response(false, "CHAP_I=1 CHAP_C=0x01"),
        M::MutualNotConfigured,
        (2, 1),
    );
    let policy = AuthPolicy::chap(vec![credentials("host-a", "open sesame!")]);
    let policy = policy.with_mutual(credentials("target", "open sesame!"));
    let mut bench = Bench::new(House::with(Admission::Admit(policy)));
    bench.talk((0, None), &format!("{names} AuthMethod=CHAP"));
    bench.talk((0, None), "CHAP_A=5");
    let answer = chap_answer("host-a", "open sesame!", Algorithm::Md5);
    expect(
        bench.send((0, Some(1)), &format!("{answer} CHAP_I=1 CHAP_C=0x01")),
        M::SameSecretBothWays,
        (2, 1),
    );

    // Keys.
    let negotiation = |error| M::Negotiation(error);
    let cases = [
        (
            "InitialR2T=No InitialR2T=No",
            NegotiationError::Repeated(Key::InitialR2T),
        ),
        (
            "InitiatorName=iqn.another:name",
            NegotiationError::Repeated(Key::InitiatorName),
        ),
        ("X-a=1 X-a=1", NegotiationError::RepeatedUnknown),
        (
            "TargetAlias=mine",
            NegotiationError::WrongSender(Key::TargetAlias),
        ),
        ("SendTargets=All", NegotiationError::OutOfPhase(Key::SendTargets)),
        ("AuthMethod=None", NegotiationError::OutOfPhase(Key::AuthMethod)),
        (
            "MaxRecvDataSegmentLength=511",
            NegotiationError::BadDeclaration(Key::MaxRecvDataSegmentLength),
        ),
    ];
    let long = format!("InitiatorAlias={}", "a".repeat(256));
    let error = NegotiationError::BadDeclaration(Key::InitiatorAlias);
    expect(
        at_operational().send((1, None), &long),
        negotiation(error),
        (2, 0),
    );
    for (text, error) in cases {
        expect(at_operational().send((1, None), text), negotiation(error), (2, 0));
    }
    let early = Bench::new(House::default()).send((0, None), &format!("{names} InitialR2T=No"));
    expect(
        early,
        negotiation(NegotiationError::OutOfPhase(Key::InitialR2T)),
        (2, 0),
    );
    let mut bench = Bench::new(House::default());
    bench.header.tsih = 9;
    let later = bench.send((1, Some(3)), &format!("{names} MaxConnections=2"));
    expect(
        later,
        negotiation(NegotiationError::LeadingOnly(Key::MaxConnections)),
        (2, 0),
    );
    let mut offer = TargetOffer::default();
    offer.keys.data_digest = vec![DigestKind::Crc32c];
    let mut bench = Bench::offering(House::default(), offer);
    let progress = bench.send((1, Some(3)), &format!("{names} DataDigest=None"));
    expect(
        progress,
        negotiation(NegotiationError::Unacceptable(Key::DataDigest)),
        (2, 0),
    );

    let missing: Vec<_> = KINDS.iter().filter(|kind| !seen.contains(**kind)).collect();
    assert!(missing.is_empty(), "never refused for {missing:?}");
}
