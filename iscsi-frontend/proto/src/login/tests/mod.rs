//! The target side of login under test: a bench that speaks to it in words.

mod golden;
mod refusals;
mod stages;

use std::time::Duration;

use super::*;
use crate::chap::{Algorithm, Credentials, Secret, encode_hex};
use crate::limits::{LOGIN_TIMEOUT, TEXT_PAIRS_MAX};
use crate::negotiation::{DigestKind, SessionParameters, SessionType};

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

    fn alias(&self, target: &str) -> Option<String> {
        (target == TARGET).then(|| "Holdfast".to_owned())
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
        Self::offering(house, TargetOffer::default())
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
        self.raw(stages, false, &wire(pairs))
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

/// Words with blanks between them as text on the wire.
fn wire(words: &str) -> Vec<u8> {
    words
        .split_whitespace()
        .flat_map(|pair| [pair.as_bytes(), b"\0"].concat())
        .collect()
}

/// Words for `count` keys that nobody knows.
fn unknown_keys(count: usize) -> String {
    (0..count)
        .map(|n| format!("X-org.example.a.rather.long.key.name{n}=1"))
        .collect::<Vec<_>>()
        .join(" ")
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
