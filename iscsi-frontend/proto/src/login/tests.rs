//! Login sequences as real initiators send them, and every refusal.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::chap::{Algorithm, Credentials, Secret, decode_binary, encode_hex};
use crate::limits::{LOGIN_TIMEOUT, TEXT_PAIRS_MAX};
use crate::negotiation::DigestKind;

const INITIATOR: &str = "iqn.1993-08.org.debian:01:host-a";
const TARGET: &str = "iqn.2026-11.io.holdfast:default";
const ENTROPY: [u8; ENTROPY_LENGTH] = [0xa5; ENTROPY_LENGTH];
const ISID: [u8; 6] = [0, 2, 0x3d, 1, 2, 3];

/// The surroundings of a login, with every answer settable.
struct House {
    admission: Admission,
    joining: Joining,
    live: Option<u16>,
    room: bool,
}

impl Default for House {
    fn default() -> Self {
        Self {
            admission: Admission::Admit(AuthPolicy::none()),
            joining: Joining::Added,
            live: None,
            room: true,
        }
    }
}

impl House {
    fn with(admission: Admission) -> Self {
        Self {
            admission,
            ..Self::default()
        }
    }

    fn chap(mutual: bool) -> Self {
        let policy = AuthPolicy::chap(vec![
            credentials("old", "an older secret"),
            credentials("host-a", "open sesame!"),
        ]);
        let policy = if mutual {
            policy.with_mutual(credentials("target", "it is really me"))
        } else {
            policy
        };
        Self::with(Admission::Admit(policy))
    }
}

impl LoginFacts for House {
    fn target(&self, _: &InitiatorPort, target: &str) -> Admission {
        if target == TARGET {
            self.admission.clone()
        } else {
            Admission::NotFound
        }
    }

    fn discovery(&self, _: &InitiatorPort) -> Admission {
        self.admission.clone()
    }

    fn session_of(&self, _: &InitiatorPort, _: &str) -> Option<u16> {
        self.live
    }

    fn join(&self, _: &InitiatorPort, _: &str, _: u16, _: u16) -> Joining {
        self.joining
    }

    fn allocate_tsih(&mut self) -> Option<u16> {
        self.room.then_some(77)
    }
}

fn credentials(name: &str, secret: &str) -> Credentials {
    Credentials {
        name: name.into(),
        secret: Secret::new(secret),
    }
}

/// One login under test.
struct Bench {
    login: Login,
    house: House,
    now: Duration,
    header: LoginRequestView<'static>,
}

impl Bench {
    fn new(house: House) -> Self {
        Self::offering(
            house,
            TargetOffer {
                alias: Some("Holdfast".into()),
                ..TargetOffer::default()
            },
        )
    }

    fn offering(house: House, offer: TargetOffer) -> Self {
        let header = LoginRequestView {
            transit: false,
            cont: false,
            csg: 0,
            nsg: 0,
            version_max: 0,
            version_min: 0,
            isid: ISID,
            tsih: 0,
            itt: 1,
            cid: 0,
            cmd_sn: 1,
            exp_stat_sn: 0,
            data: &[],
        };
        let now = Duration::from_secs(1000);
        Self {
            login: Login::new(offer, ENTROPY, now, LOGIN_TIMEOUT),
            house,
            now,
            header,
        }
    }

    /// Sends raw text; `stages` are CSG and, with the T bit, NSG.
    fn raw(&mut self, stages: (u8, Option<u8>), cont: bool, data: &[u8]) -> LoginProgress {
        let (csg, nsg) = stages;
        let request = LoginRequestView {
            transit: nsg.is_some(),
            cont,
            csg,
            nsg: nsg.unwrap_or(0),
            data,
            ..self.header
        };
        self.login.handle(&request, &mut self.house, self.now)
    }

    /// Sends pairs, written as words with blanks between them.
    fn send(&mut self, stages: (u8, Option<u8>), pairs: &str) -> LoginProgress {
        let text: String = pairs.split_whitespace().map(|pair| format!("{pair}\0")).collect();
        self.raw(stages, false, text.as_bytes())
    }

    /// Sends pairs and expects a plain reply: its pairs and the stage granted.
    fn talk(&mut self, stages: (u8, Option<u8>), pairs: &str) -> (String, Option<u8>) {
        match self.send(stages, pairs) {
            LoginProgress::Reply(reply) => {
                assert_eq!((reply.status, reply.csg, reply.cont), ((0, 0), stages.0, false));
                (words(&reply), reply.transit.then_some(reply.nsg))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends pairs and expects the end of login.
    fn finish(&mut self, stages: (u8, Option<u8>), pairs: &str) -> (String, LoginOutcome) {
        match self.send(stages, pairs) {
            LoginProgress::Done { reply, outcome } => {
                assert_eq!(
                    (reply.status, reply.transit, reply.nsg, reply.tsih),
                    ((0, 0), true, 3, outcome.tsih)
                );
                (words(&reply), *outcome)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn words(reply: &LoginReply) -> String {
    let pairs = text::parse(&reply.data).unwrap();
    pairs
        .iter()
        .map(|pair| format!("{}={}", pair.key, pair.value))
        .collect::<Vec<_>>()
        .join(" ")
}

fn names() -> String {
    format!("InitiatorName={INITIATOR} TargetName={TARGET} SessionType=Normal")
}

fn refusal(progress: LoginProgress) -> Misbehaviour {
    match progress {
        LoginProgress::Refuse { reply, why } => {
            assert_eq!(reply.status, why.status());
            assert!(reply.status.0 != 0 && !reply.transit && !reply.cont);
            why
        }
        other => panic!("{other:?}"),
    }
}

fn leading(outcome: &LoginOutcome) -> SessionParameters {
    match outcome.membership {
        Membership::Leading { parameters, .. } => parameters,
        Membership::Joining { .. } => panic!("{outcome:?}"),
    }
}

/// CHAP_N and CHAP_R for our fixed challenge, and one of our own.
fn chap_answer(name: &str, secret: &str, algorithm: Algorithm) -> String {
    let response = Secret::new(secret).response(algorithm, 0xa5, &[0xa5; 32]);
    format!("CHAP_N={name} CHAP_R={}", encode_hex(&response))
}

// Golden sequences.

#[test]
fn libiscsi_without_authentication_starts_in_the_operational_stage() {
    let mut bench = Bench::new(House::default());
    let (answer, outcome) = bench.finish(
        (1, Some(3)),
        &format!(
            "{} HeaderDigest=None,CRC32C DataDigest=None InitialR2T=No ImmediateData=Yes MaxBurstLength=262144 \
             FirstBurstLength=262144 DefaultTime2Wait=2 DefaultTime2Retain=0 MaxOutstandingR2T=1 ErrorRecoveryLevel=0 \
             IFMarker=No OFMarker=No MaxConnections=1 MaxRecvDataSegmentLength=262144 DataPDUInOrder=Yes \
             DataSequenceInOrder=Yes",
            names()
        ),
    );
    assert_eq!(
        answer,
        "TargetAlias=Holdfast TargetPortalGroupTag=1 MaxRecvDataSegmentLength=262144 HeaderDigest=None \
         DataDigest=None InitialR2T=No ImmediateData=Yes MaxBurstLength=262144 FirstBurstLength=262144 \
         DefaultTime2Wait=2 DefaultTime2Retain=0 MaxOutstandingR2T=1 ErrorRecoveryLevel=0 IFMarker=Reject \
         OFMarker=Reject MaxConnections=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes"
    );
    assert_eq!((outcome.tsih, outcome.authenticated_as.as_deref()), (77, None));
    assert_eq!(outcome.connection.peer_max_recv_data_segment_length, 262_144);
    assert_eq!(leading(&outcome).default_time2retain, 0);
}

#[test]
fn libiscsi_with_chap_repeats_its_names_in_the_operational_stage() {
    let mut bench = Bench::new(House::chap(false));
    let (answer, next) = bench.talk((0, Some(1)), &format!("{} AuthMethod=CHAP,None", names()));
    assert_eq!(
        (answer.as_str(), next),
        (
            "TargetAlias=Holdfast TargetPortalGroupTag=1 AuthMethod=CHAP",
            None
        )
    );
    let challenge = format!("CHAP_A=5 CHAP_I=165 CHAP_C=0x{}", "a5".repeat(32));
    assert_eq!(bench.talk((0, None), "CHAP_A=5"), (challenge, None));
    let response = chap_answer("host-a", "open sesame!", Algorithm::Md5);
    assert_eq!(bench.talk((0, Some(1)), &response), (String::new(), Some(1)));
    let (_, outcome) = bench.finish((1, Some(3)), &format!("{} InitialR2T=Yes", names()));
    assert_eq!(outcome.authenticated_as.as_deref(), Some("host-a"));
    assert!(leading(&outcome).initial_r2t);
}

#[test]
fn open_iscsi_goes_through_both_stages_without_authentication() {
    let mut bench = Bench::new(House::default());
    let first =
        format!("InitiatorName={INITIATOR} InitiatorAlias=host-a TargetName={TARGET} SessionType=Normal");
    let (answer, next) = bench.talk((0, Some(1)), &format!("{first} AuthMethod=None"));
    assert_eq!(
        (answer.as_str(), next),
        (
            "TargetAlias=Holdfast TargetPortalGroupTag=1 AuthMethod=None",
            Some(1)
        )
    );
    let (answer, outcome) = bench.finish(
        (1, Some(3)),
        "HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 IFMarker=No OFMarker=No \
         ErrorRecoveryLevel=0 InitialR2T=No ImmediateData=Yes MaxBurstLength=16776192 FirstBurstLength=262144 \
         MaxOutstandingR2T=1 MaxConnections=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes \
         MaxRecvDataSegmentLength=262144",
    );
    // It gives up on any key it did not send.
    assert_eq!(
        answer,
        "MaxRecvDataSegmentLength=262144 HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 \
         IFMarker=Reject OFMarker=Reject ErrorRecoveryLevel=0 InitialR2T=No ImmediateData=Yes \
         MaxBurstLength=1048576 FirstBurstLength=262144 MaxOutstandingR2T=1 MaxConnections=1 DataPDUInOrder=Yes \
         DataSequenceInOrder=Yes"
    );
    assert_eq!(outcome.initiator_alias.as_deref(), Some("host-a"));
}

#[test]
fn open_iscsi_discovery_jumps_from_security_to_full_feature_phase() {
    let mut bench = Bench::new(House::default());
    let text = format!("InitiatorName={INITIATOR} SessionType=Discovery AuthMethod=None");
    let (answer, outcome) = bench.finish((0, Some(3)), &text);
    assert_eq!(answer, "AuthMethod=None");
    assert_eq!(
        (outcome.session_type, outcome.target),
        (SessionType::Discovery, None)
    );
    assert_eq!(outcome.connection.own_max_recv_data_segment_length, 8192);
}

#[test]
fn microsoft_sends_two_stages_with_high_recovery_level_and_mutual_chap() {
    let mut bench = Bench::new(House::chap(true));
    let (_, next) = bench.talk((0, Some(1)), &format!("{} AuthMethod=CHAP", names()));
    assert_eq!(next, None);
    bench.talk((0, None), "CHAP_A=5");
    let response = chap_answer("host-a", "open sesame!", Algorithm::Md5);
    let (answer, next) = bench.talk((0, Some(1)), &format!("{response} CHAP_I=9 CHAP_C=0bAQIDBA=="));
    let proof = Secret::new("it is really me").response(Algorithm::Md5, 9, &[1, 2, 3, 4]);
    assert_eq!(
        (answer, next),
        (format!("CHAP_N=target CHAP_R={}", encode_hex(&proof)), Some(1))
    );
    let (answer, outcome) = bench.finish(
        (1, Some(3)),
        "HeaderDigest=CRC32C,None DataDigest=CRC32C,None ErrorRecoveryLevel=2 InitialR2T=No ImmediateData=Yes \
         MaxRecvDataSegmentLength=65536 MaxBurstLength=262144 FirstBurstLength=65536 MaxConnections=1 \
         DataPDUInOrder=Yes DataSequenceInOrder=Yes DefaultTime2Wait=0 DefaultTime2Retain=60 MaxOutstandingR2T=16",
    );
    assert!(
        answer.contains("ErrorRecoveryLevel=0") && answer.contains("DefaultTime2Wait=2"),
        "{answer}"
    );
    assert_eq!(outcome.connection.header_digest, DigestKind::Crc32c);
    assert_eq!(outcome.connection.data_digest, DigestKind::Crc32c);
    assert_eq!(
        (
            leading(&outcome).default_time2retain,
            leading(&outcome).max_outstanding_r2t
        ),
        (20, 16)
    );
}

// What the machine does beside the golden path.

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
    // The same bytes in base64: 16 zero bytes stand for a wrong response, so the answer is a refusal by value.
    assert_eq!(decode_binary("0bAAAAAAAAAAAAAAAAAAAAAA=="), Some(vec![0; 16]));
    let mut bench = at_response(false);
    assert_eq!(
        refusal(bench.send((0, Some(1)), "CHAP_N=host-a CHAP_R=0bAAAAAAAAAAAAAAAAAAAAAA==")),
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
    let unknown: String = (0..100).map(|n| format!(" X-org.example.key{n}=1")).collect();
    let text = format!("{} MaxRecvDataSegmentLength=512{unknown}", names());
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
    assert!(
        bench
            .login
            .expire(bench.login.deadline() - Duration::from_nanos(1))
            .is_none()
    );
    let deadline = bench.login.deadline();
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

// Refusals.

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

/// A login whose next request is the CHAP response.
fn at_response(mutual: bool) -> Bench {
    let mut bench = Bench::new(House::chap(mutual));
    bench.talk((0, None), &format!("{} AuthMethod=CHAP", names()));
    bench.talk((0, None), "CHAP_A=5");
    bench
}

/// A login in the operational stage.
fn at_operational() -> Bench {
    let mut bench = Bench::new(House::default());
    bench.talk((1, None), &names());
    bench
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
    let many: String = (0..=TEXT_PAIRS_MAX).map(|n| format!("X-{n}=1 ")).collect();
    expect(first(&many), M::Text(TextError::TooManyPairs), (2, 0));
    let mut bench = Bench::new(House::default());
    let unknown: String = (0..200)
        .map(|n| format!("X-org.example.a.rather.long.key.name{n}=1 "))
        .collect();
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
