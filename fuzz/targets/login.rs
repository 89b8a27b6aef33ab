#![no_main]
//! Any sequence of Login Requests: the machine always answers, and nobody gets in without the secret.
use std::time::Duration;

use iscsi_proto::{
    chap::{Credentials, Secret},
    login::{Admission, AuthPolicy, InitiatorPort, Joining, Login, LoginFacts, LoginProgress, LoginRequestView},
    negotiation::TargetOffer,
};
use libfuzzer_sys::fuzz_target;

struct Facts;

impl LoginFacts for Facts {
    fn target(&self, _: &InitiatorPort, target: &str) -> Admission {
        match target {
            "iqn.2026-11.io.holdfast:open" => Admission::Admit(AuthPolicy::none()),
            "iqn.2026-11.io.holdfast:shut" => {
                Admission::Admit(AuthPolicy::chap(vec![Credentials { name: "user".to_owned(), secret: Secret::new(*b"a secret nobody guesses") }]))
            }
            _ => Admission::NotFound,
        }
    }
    fn discovery(&self, _: &InitiatorPort) -> Admission {
        Admission::Admit(AuthPolicy::none())
    }
    fn session_of(&self, _: &InitiatorPort, _: &str) -> Option<u16> {
        None
    }
    fn join(&self, _: &InitiatorPort, _: &str, _: u16, _: u16) -> Joining {
        Joining::NoSuchSession
    }
    fn allocate_tsih(&mut self) -> Option<u16> {
        Some(7)
    }
}

fuzz_target!(|data: &[u8]| {
    let mut login = Login::new(TargetOffer::default(), [7; _], Duration::ZERO, Duration::from_secs(15));
    // Each request: a byte of bits, a byte of stages, two of length, the text.
    let mut rest = data;
    while let [bits, stages, high, low, tail @ ..] = rest {
        let length = (usize::from(*high) << 8 | usize::from(*low)).min(tail.len());
        let (text, next) = tail.split_at(length);
        rest = next;
        let request = LoginRequestView {
            transit: bits & 1 != 0,
            cont: bits & 2 != 0,
            csg: stages & 3,
            nsg: stages >> 2 & 3,
            version_max: bits >> 6,
            version_min: 0,
            isid: [0x80, 0, 0, 0, 0, bits >> 2 & 1],
            tsih: u16::from(bits >> 3 & 1),
            itt: u32::from(bits >> 4 & 1),
            cid: 0,
            cmd_sn: 1,
            exp_stat_sn: 1,
            data: text,
        };
        match login.handle(&request, &mut Facts, Duration::ZERO) {
            LoginProgress::Reply(reply) => assert_eq!(reply.status.0, 0),
            LoginProgress::Done { outcome, .. } => {
                assert_ne!(outcome.target.as_deref(), Some("iqn.2026-11.io.holdfast:shut"), "in without the secret");
                break;
            }
            LoginProgress::Refuse { reply, .. } => {
                assert_ne!(reply.status.0, 0);
                break;
            }
        }
    }
});
