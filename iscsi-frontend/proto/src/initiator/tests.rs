//! Both ends of login against each other, on a clock that only the test moves.

use proptest::prelude::*;

use super::*;
use crate::chap::Secret;
use crate::limits::LOGIN_TIMEOUT;
use crate::login::{
    Admission, AuthPolicy, InitiatorPort, Joining, Login, LoginFacts, LoginOutcome, LoginProgress,
    Membership, Misbehaviour,
};
use crate::negotiation::{DigestKind, TargetOffer, TaskReporting};

const TARGET: &str = "iqn.2026-11.io.holdfast:default";

struct House(Admission);

impl LoginFacts for House {
    fn target(&self, _: &InitiatorPort, _: &str) -> Admission {
        self.0.clone()
    }

    fn discovery(&self, _: &InitiatorPort) -> Admission {
        self.0.clone()
    }

    fn session_of(&self, _: &InitiatorPort, _: &str) -> Option<u16> {
        None
    }

    fn join(&self, _: &InitiatorPort, _: &str, _: u16, _: u16) -> Joining {
        Joining::Added
    }

    fn allocate_tsih(&mut self) -> Option<u16> {
        Some(3)
    }
}

#[derive(Debug)]
enum End {
    Done(Box<InitiatorOutcome>, Box<LoginOutcome>),
    Failed(LoginFailure, Option<Misbehaviour>),
}

/// Carries requests and responses between the two until the login ends. Each way takes `latency`.
fn drive(config: InitiatorConfig, house: &mut House, offer: TargetOffer, latency: Duration) -> End {
    let mut now = Duration::ZERO;
    let mut initiator = InitiatorLogin::new(config, [1; ENTROPY_LENGTH], now, LOGIN_TIMEOUT);
    let mut target = Login::new(offer, [2; ENTROPY_LENGTH], now, LOGIN_TIMEOUT);
    let mut request = match initiator.start() {
        Ok(request) => request,
        Err(failure) => return End::Failed(failure, None),
    };
    loop {
        now += latency;
        let (reply, outcome, why) = match target.handle(&request.view(7, 1, 0), house, now) {
            LoginProgress::Reply(reply) => (reply, None, None),
            LoginProgress::Done { reply, outcome } => (reply, Some(outcome), None),
            LoginProgress::Refuse { reply, why } => (reply, None, Some(why)),
        };
        assert!(reply.data.len() <= TEXT_SEGMENT_DEFAULT);
        now += latency;
        match initiator.handle(&reply, now) {
            InitiatorProgress::Send(next) => {
                assert!(
                    outcome.is_none() && why.is_none(),
                    "the initiator goes on after the end"
                );
                request = next;
            }
            InitiatorProgress::Done(ours) => {
                return End::Done(ours, outcome.expect("both ends are done at once"));
            }
            InitiatorProgress::Failed(failure) => return End::Failed(failure, why),
        }
    }
}

fn config() -> InitiatorConfig {
    InitiatorConfig::new(
        "iqn.2026-11.org.example:host",
        Some(TARGET.into()),
        [2, 0, 0, 0, 0, 1],
    )
}

fn credentials(name: &str, secret: &str) -> Credentials {
    Credentials {
        name: name.into(),
        secret: Secret::new(secret),
    }
}

fn open() -> House {
    House(Admission::Admit(AuthPolicy::none()))
}

fn guarded() -> House {
    let policy = AuthPolicy::chap(vec![credentials("0xhost", "a secret of hosts")]);
    House(Admission::Admit(
        policy.with_mutual(credentials("0bus", "a secret of targets")),
    ))
}

fn with_chap(name: &str, secret: &str) -> InitiatorConfig {
    InitiatorConfig {
        chap: Some(credentials(name, secret)),
        ..config()
    }
}

fn meet(config: InitiatorConfig, house: &mut House) -> End {
    drive(config, house, TargetOffer::default(), Duration::from_millis(1))
}

fn agreed(end: End) -> LoginOutcome {
    match end {
        End::Done(ours, theirs) => {
            assert_eq!(ours.tsih, theirs.tsih);
            assert_eq!(mirrored(ours.connection), theirs.connection);
            if let Membership::Leading { parameters, .. } = theirs.membership {
                assert_eq!(ours.session, parameters);
            }
            *theirs
        }
        End::Failed(failure, why) => panic!("{failure} / {why:?}"),
    }
}

fn mirrored(ours: ConnectionParameters) -> ConnectionParameters {
    ConnectionParameters {
        peer_max_recv_data_segment_length: ours.own_max_recv_data_segment_length,
        own_max_recv_data_segment_length: ours.peer_max_recv_data_segment_length,
        ..ours
    }
}

#[test]
fn both_ends_agree_with_and_without_a_security_stage() {
    for security_stage in [false, true] {
        let outcome = agreed(meet(
            InitiatorConfig {
                security_stage,
                ..config()
            },
            &mut open(),
        ));
        assert_eq!(outcome.target.as_deref(), Some(TARGET));
        assert_eq!(outcome.authenticated_as, None);
        let discovery = InitiatorConfig {
            target: None,
            security_stage,
            ..config()
        };
        assert_eq!(
            agreed(meet(discovery, &mut open())).session_type,
            SessionType::Discovery
        );
    }
    let joining = InitiatorConfig {
        tsih: 3,
        cid: 1,
        ..config()
    };
    assert_eq!(
        agreed(meet(joining, &mut open())).membership,
        Membership::Joining { reinstates: false }
    );
}

#[test]
fn chap_one_way_and_mutual_with_every_algorithm() {
    for algorithm in Algorithm::PREFERENCE {
        for mutual in [None, Some(credentials("0bus", "a secret of targets"))] {
            let one = with_chap("0xhost", "a secret of hosts");
            let config = InitiatorConfig {
                mutual,
                algorithms: vec![algorithm],
                ..one
            };
            let outcome = agreed(meet(config, &mut guarded()));
            assert_eq!(outcome.authenticated_as.as_deref(), Some("0xhost"));
        }
    }
    // Offered, but not asked for.
    assert_eq!(
        agreed(meet(with_chap("0xhost", "a secret of hosts"), &mut open())).authenticated_as,
        None
    );
}

#[test]
fn a_proof_that_fails_ends_the_login_on_the_right_side() {
    let refused = |class, detail| LoginFailure::Refused { class, detail };
    let fail = |config, house: &mut House| match meet(config, house) {
        End::Failed(failure, why) => (failure, why),
        End::Done(..) => panic!("logged in"),
    };
    let (failure, why) = fail(with_chap("0xhost", "wrong"), &mut guarded());
    assert_eq!((failure, why), (refused(2, 1), Some(Misbehaviour::ChapFailed)));
    let (failure, why) = fail(config(), &mut guarded());
    assert_eq!(
        (failure, why),
        (refused(2, 1), Some(Misbehaviour::AuthenticationRequired))
    );
    let asking = |name: &str, secret: &str| InitiatorConfig {
        mutual: Some(credentials(name, secret)),
        ..with_chap("0xhost", "a secret of hosts")
    };
    for (name, secret) in [("0bus", "not that"), ("another", "a secret of targets")] {
        assert_eq!(
            fail(asking(name, secret), &mut guarded()),
            (LoginFailure::TargetNotAuthenticated, None)
        );
    }
    let (failure, why) = fail(asking("0bus", "a secret of targets"), &mut open());
    assert_eq!(
        (failure, why),
        (refused(2, 1), Some(Misbehaviour::NoCommonAuthMethod))
    );
    assert_eq!(
        fail(asking("0bus", "a secret of hosts"), &mut guarded()).0,
        LoginFailure::SameSecretBothWays
    );
}

#[test]
fn a_redirection_reaches_the_initiator() {
    let address = "192.0.2.1:3260".to_owned();
    let mut house = House(Admission::Moved {
        permanent: true,
        address: address.clone(),
    });
    match meet(config(), &mut house) {
        End::Failed(failure, _) => assert_eq!(
            failure,
            LoginFailure::Redirected {
                permanent: true,
                address
            }
        ),
        End::Done(..) => panic!("logged in"),
    }
}

#[test]
fn a_slow_network_ends_the_login_at_the_limit() {
    let (fast, slow) = (Duration::from_secs(1), Duration::from_secs(6));
    agreed(drive(
        InitiatorConfig {
            security_stage: true,
            ..config()
        },
        &mut open(),
        TargetOffer::default(),
        fast,
    ));
    let config = InitiatorConfig {
        security_stage: true,
        ..config()
    };
    match drive(config, &mut open(), TargetOffer::default(), slow) {
        End::Failed(failure, why) => {
            assert_eq!(
                (failure, why),
                (LoginFailure::TimedOut, Some(Misbehaviour::TimedOut))
            );
        }
        End::Done(..) => panic!("logged in"),
    }
}

#[test]
fn an_initiator_refuses_what_a_broken_target_sends() {
    let reply = |csg, transit: Option<u8>, text: &str| LoginReply {
        transit: transit.is_some(),
        cont: false,
        csg,
        nsg: transit.unwrap_or(0),
        status: (0, 0),
        tsih: 1,
        data: text
            .split_whitespace()
            .flat_map(|pair| [pair.as_bytes(), b"\0"].concat())
            .collect(),
        version_max: 0,
        version_active: 0,
    };
    let fails = |config: InitiatorConfig, replies: &[LoginReply]| {
        let mut initiator = InitiatorLogin::new(config, [1; ENTROPY_LENGTH], Duration::ZERO, LOGIN_TIMEOUT);
        initiator.start().unwrap();
        let (last, before) = replies.split_last().unwrap();
        for reply in before {
            assert!(matches!(
                initiator.handle(reply, Duration::ZERO),
                InitiatorProgress::Send(_)
            ));
        }
        match initiator.handle(last, Duration::ZERO) {
            InitiatorProgress::Failed(failure) => {
                assert!(matches!(
                    initiator.handle(last, Duration::ZERO),
                    InitiatorProgress::Failed(LoginFailure::AlreadyOver)
                ));
                failure
            }
            other => panic!("{other:?}"),
        }
    };
    let chap = || with_chap("0xhost", "a secret of hosts");
    let challenge = "CHAP_I=1 CHAP_C=0x0102";
    assert_eq!(fails(config(), &[reply(0, None, "")]), LoginFailure::BadStage);
    assert_eq!(
        fails(config(), &[reply(1, Some(3), "")]),
        LoginFailure::Unanswered
    );
    assert_eq!(fails(config(), &[reply(1, Some(1), "")]), LoginFailure::BadStage);
    assert_eq!(
        fails(
            config(),
            &[LoginReply {
                version_active: 1,
                ..reply(1, None, "")
            }]
        ),
        LoginFailure::UnsupportedVersion
    );
    assert_eq!(
        fails(
            config(),
            &[LoginReply {
                data: b"x".to_vec(),
                ..reply(1, None, "")
            }]
        ),
        LoginFailure::Text(text::TextError::MissingEquals)
    );
    assert_eq!(
        fails(config(), &[reply(1, None, "InitialR2T=Maybe")]),
        LoginFailure::Negotiation(NegotiationError::IllegalAnswer(Key::InitialR2T))
    );
    assert_eq!(
        fails(chap(), &[reply(0, None, "AuthMethod=KRB5")]),
        LoginFailure::AuthMethodNotOffered
    );
    assert_eq!(
        fails(chap(), &[reply(0, Some(1), "AuthMethod=CHAP")]),
        LoginFailure::EarlyTransit
    );
    let agreed = reply(0, None, "AuthMethod=CHAP");
    assert_eq!(
        fails(chap(), &[agreed.clone(), reply(0, None, "CHAP_A=5")]),
        LoginFailure::ChapIncomplete(Key::ChapI)
    );
    let strange = reply(0, None, &format!("CHAP_A=4 {challenge}"));
    assert_eq!(
        fails(chap(), &[agreed.clone(), strange]),
        LoginFailure::AlgorithmNotOffered
    );
    let mutual = InitiatorConfig {
        mutual: Some(credentials("0bus", "a secret of targets")),
        ..chap()
    };
    let asked = reply(0, None, &format!("CHAP_A=5 {challenge}"));
    let silent = [agreed.clone(), asked, reply(0, Some(1), "")];
    assert_eq!(
        fails(mutual.clone(), &silent),
        LoginFailure::ChapIncomplete(Key::ChapN)
    );
    assert_eq!(
        fails(mutual, &[reply(0, Some(1), "AuthMethod=None")]),
        LoginFailure::TargetNotAuthenticated
    );
    let endless = vec![reply(1, None, ""); LOGIN_EXCHANGES_MAX as usize + 1];
    assert_eq!(fails(config(), &endless), LoginFailure::TooManyExchanges);
    let refused = LoginReply {
        status: (3, 1),
        ..reply(1, None, "")
    };
    assert_eq!(
        fails(config(), &[refused]),
        LoginFailure::Refused { class: 3, detail: 1 }
    );
}

fn digests() -> impl Strategy<Value = Vec<DigestKind>> {
    use DigestKind::{Crc32c, None};
    proptest::sample::select(vec![
        vec![None],
        vec![Crc32c],
        vec![None, Crc32c],
        vec![Crc32c, None],
    ])
}

fn any_offer() -> impl Strategy<Value = Offer> {
    use TaskReporting::{FastAbort, ResponseFence, Rfc3720};
    let reporting = proptest::sample::select(vec![
        vec![],
        vec![Rfc3720],
        vec![FastAbort, ResponseFence, Rfc3720],
    ]);
    let length =
        (0..25_u32, any::<u32>()).prop_map(|(bits, noise)| (1 << bits) | (noise & ((1 << bits) - 1)));
    let lengths = [length.clone(), length.clone(), length];
    let small = (
        any::<u16>(),
        0..4000_u16,
        0..4000_u16,
        any::<u16>(),
        0..4_u8,
        0..40_u8,
    );
    (
        digests(),
        digests(),
        lengths,
        small,
        any::<[bool; 4]>(),
        reporting,
    )
        .prop_map(
            |(header_digest, data_digest, lengths, small, flags, task_reporting)| Offer {
                header_digest,
                data_digest,
                max_connections: small.0,
                initial_r2t: flags[0],
                immediate_data: flags[1],
                max_recv_data_segment_length: lengths[0],
                max_burst_length: lengths[1],
                first_burst_length: lengths[2],
                default_time2wait: small.1,
                default_time2retain: small.2,
                max_outstanding_r2t: small.3,
                data_pdu_in_order: flags[2],
                data_sequence_in_order: flags[3],
                error_recovery_level: small.4,
                task_reporting,
                protocol_level: small.5,
            },
        )
}

fn have_common(ours: &[DigestKind], theirs: &[DigestKind]) -> bool {
    ours.iter().any(|kind| theirs.contains(kind))
}

proptest! {
    /// Whatever the two offer, they end with the same values, and fail only for want of a common digest.
    #[test]
    fn both_ends_hold_the_same_parameters(
        ours in any_offer(),
        theirs in any_offer(),
        discovery in any::<bool>(),
        security_stage in any::<bool>(),
    ) {
        let common = have_common(&ours.header_digest, &theirs.header_digest)
            && have_common(&ours.data_digest, &theirs.data_digest);
        let target = (!discovery).then(|| TARGET.to_owned());
        let config = InitiatorConfig { keys: ours.clone(), target, security_stage, ..config() };
        let offer = TargetOffer { keys: theirs.clone(), ..TargetOffer::default() };
        match drive(config, &mut open(), offer, Duration::from_millis(1)) {
            End::Failed(failure, why) => prop_assert!(!common, "{failure} / {why:?}"),
            end @ End::Done(..) => {
                prop_assert!(common);
                let outcome = agreed(end);
                let Membership::Leading { parameters, .. } = outcome.membership else { panic!("{outcome:?}") };
                if discovery {
                    return Ok(());
                }
                let limit = |a: u32, b: u32| a.min(b).max(512);
                prop_assert!(parameters.max_burst_length <= limit(ours.max_burst_length, theirs.max_burst_length));
                prop_assert!(parameters.first_burst_length <= parameters.max_burst_length);
                prop_assert_eq!(parameters.initial_r2t, ours.initial_r2t || theirs.initial_r2t);
                prop_assert_eq!(parameters.immediate_data, ours.immediate_data && theirs.immediate_data);
                if !parameters.initial_r2t || parameters.immediate_data {
                    let ceiling = limit(ours.first_burst_length, theirs.first_burst_length);
                    prop_assert!(parameters.first_burst_length <= ceiling);
                }
            }
        }
    }

    /// Bytes of any kind in a first request end in a refusal or a reply, never in a panic.
    #[test]
    fn any_request_is_answered(
        text in "([A-Z][A-Za-z0-9_]{0,12}=[ -~]{0,20}\u{0}){0,6}",
        noise in proptest::collection::vec(any::<u8>(), 0..20),
        csg in 0..4_u8,
        nsg in 0..4_u8,
        transit in any::<bool>(),
        cont in any::<bool>(),
    ) {
        let mut login = Login::new(TargetOffer::default(), [2; ENTROPY_LENGTH], Duration::ZERO, LOGIN_TIMEOUT);
        let named = format!("InitiatorName=iqn.a:b\0TargetName={TARGET}\0{text}");
        for data in [named.as_bytes(), &noise, &[]] {
            let request = LoginRequest { transit, cont, csg, nsg, isid: [0; 6], tsih: 0, cid: 0, data: data.to_vec() };
            let _ = login.handle(&request.view(1, 1, 1), &mut guarded(), Duration::ZERO);
        }
    }

    /// The same for responses, at every step of a login with CHAP.
    #[test]
    fn any_response_is_taken(
        noise in "([A-Za-z0-9_]{0,12}=?[ -~]{0,20}\u{0}){0,4}",
        steps in 0..3_usize,
        nsg in 0..4_u8,
        transit in any::<bool>(),
        cont in any::<bool>(),
    ) {
        let reply = |data: &str, transit: bool, cont: bool| LoginReply {
            transit,
            cont,
            csg: 0,
            nsg,
            status: (0, 0),
            tsih: 1,
            data: data.as_bytes().to_vec(),
            version_max: 0,
            version_active: 0,
        };
        let config = InitiatorConfig { mutual: Some(credentials("0bus", "b")), ..with_chap("a", "c") };
        let mut initiator = InitiatorLogin::new(config, [1; ENTROPY_LENGTH], Duration::ZERO, LOGIN_TIMEOUT);
        initiator.start().unwrap();
        let good = ["AuthMethod=CHAP\0", "CHAP_A=5\0CHAP_I=1\0CHAP_C=0x01\0"];
        for text in &good[..steps] {
            let progress = initiator.handle(&reply(text, false, false), Duration::ZERO);
            prop_assert!(matches!(progress, InitiatorProgress::Send(_)));
        }
        let progress = initiator.handle(&reply(&noise, transit, cont), Duration::ZERO);
        prop_assert!(!matches!(progress, InitiatorProgress::Done(_)), "a target got in without a proof");
    }
}
