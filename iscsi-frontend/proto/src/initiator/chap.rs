//! The CHAP exchange, initiator side (RFC 7143 12.1.3).

use super::failure::LoginFailure;
use crate::chap::{Algorithm, Challenge, Credentials, ENTROPY_LENGTH, decode_response, encode_hex};
use crate::keys::Key;
use crate::text::{TextWriter, number};

/// CHAP_A is out.
#[derive(Debug)]
pub(super) struct AlgorithmOffered {
    ours: Credentials,
    algorithms: Vec<Algorithm>,
}

/// CHAP_N and CHAP_R are out, with our own challenge when the target must prove itself.
#[derive(Debug)]
pub(super) struct ResponseSent(Option<Counter>);

#[derive(Debug)]
struct Counter {
    algorithm: Algorithm,
    challenge: Challenge,
    theirs: Credentials,
}

impl AlgorithmOffered {
    /// The step and the value of CHAP_A.
    pub(super) fn new(ours: Credentials, algorithms: Vec<Algorithm>) -> (Self, String) {
        let numbers: Vec<_> = algorithms
            .iter()
            .map(|algorithm| algorithm.number().to_string())
            .collect();
        (Self { ours, algorithms }, numbers.join(","))
    }

    /// Answers the target's challenge, and challenges it when `mutual` says what it must know.
    pub(super) fn respond<'a>(
        self,
        value: &dyn Fn(Key) -> Option<&'a str>,
        mutual: Option<Credentials>,
        entropy: &[u8; ENTROPY_LENGTH],
        out: &mut TextWriter,
    ) -> Result<ResponseSent, LoginFailure> {
        let required = |key| value(key).ok_or(LoginFailure::ChapIncomplete(key));
        let algorithm = number(required(Key::ChapA)?)
            .and_then(Algorithm::from_number)
            .filter(|chosen| self.algorithms.contains(chosen))
            .ok_or(LoginFailure::AlgorithmNotOffered)?;
        let challenge = Challenge::decode(required(Key::ChapI)?, required(Key::ChapC)?)?;
        let response = self
            .ours
            .secret
            .response(algorithm, challenge.identifier, &challenge.bytes);
        out.put(Key::ChapN.name(), &self.ours.name);
        out.put(Key::ChapR.name(), &encode_hex(&response));
        Ok(ResponseSent(mutual.map(|theirs| {
            let challenge = Challenge::from_entropy(entropy);
            out.put(Key::ChapI.name(), &challenge.identifier.to_string());
            out.put(Key::ChapC.name(), &encode_hex(&challenge.bytes));
            Counter {
                algorithm,
                challenge,
                theirs,
            }
        })))
    }
}

impl ResponseSent {
    /// Errors unless the target has proven what we asked of it.
    pub(super) fn check<'a>(self, value: &dyn Fn(Key) -> Option<&'a str>) -> Result<(), LoginFailure> {
        let Some(Counter {
            algorithm,
            challenge,
            theirs,
        }) = self.0
        else {
            return Ok(());
        };
        let name = value(Key::ChapN).ok_or(LoginFailure::ChapIncomplete(Key::ChapN))?;
        let response = value(Key::ChapR).ok_or(LoginFailure::ChapIncomplete(Key::ChapR))?;
        let response = decode_response(algorithm, response)?;
        if challenge.answered_by(algorithm, &[theirs], name, &response) {
            Ok(())
        } else {
            Err(LoginFailure::TargetNotAuthenticated)
        }
    }
}
