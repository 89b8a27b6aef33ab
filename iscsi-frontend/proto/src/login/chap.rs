//! The CHAP exchange, target side (RFC 7143 12.1.3).
//!
//! ```text
//!   I->T  CHAP_A=<list>
//!   T->I  CHAP_A=<one> CHAP_I=<i> CHAP_C=<c>
//!   I->T  CHAP_N=<name> CHAP_R=<r> [CHAP_I=<i'> CHAP_C=<c'>]
//!   T->I  [CHAP_N=<our name> CHAP_R=<r'>]
//! ```

use super::State;
use super::first::Peer;
use super::misbehaviour::Misbehaviour;
use super::security::{ExpectSecurityEnd, SecurityKeys};
use crate::chap::{Algorithm, Challenge, decode_response, encode_hex};
use crate::keys::Key;
use crate::negotiation::UnknownKeys;
use crate::text::{Pair, TextWriter};

/// CHAP is agreed; the initiator names its algorithms next.
#[derive(Debug)]
pub(super) struct ExpectChapAlgorithm {
    peer: Box<Peer>,
    unknown: UnknownKeys,
}

/// Our challenge is out.
#[derive(Debug)]
pub(super) struct ExpectChapResponse {
    peer: Box<Peer>,
    unknown: UnknownKeys,
    algorithm: Algorithm,
    challenge: Challenge,
}

impl ExpectChapAlgorithm {
    pub(super) fn new(peer: Box<Peer>, unknown: UnknownKeys) -> Self {
        Self { peer, unknown }
    }

    pub(super) fn receive(mut self, pairs: &[Pair<'_>], out: &mut TextWriter) -> Result<State, Misbehaviour> {
        let keys = SecurityKeys::sort(&mut self.peer, &mut self.unknown, pairs, out)?;
        let Some(offered) = keys.take_only(Key::ChapA)? else {
            return Ok(State::ChapAlgorithm(self));
        };
        let algorithm = Algorithm::choose(offered, &self.peer.policy.algorithms)
            .ok_or(Misbehaviour::NoCommonChapAlgorithm)?;
        let challenge = Challenge::from_entropy(&self.peer.entropy);
        out.put(Key::ChapA.name(), &algorithm.number().to_string());
        out.put(Key::ChapI.name(), &challenge.identifier.to_string());
        out.put(Key::ChapC.name(), &encode_hex(&challenge.bytes));
        Ok(State::ChapResponse(ExpectChapResponse {
            peer: self.peer,
            unknown: self.unknown,
            algorithm,
            challenge,
        }))
    }
}

impl ExpectChapResponse {
    pub(super) fn receive(mut self, pairs: &[Pair<'_>], out: &mut TextWriter) -> Result<State, Misbehaviour> {
        let mut keys = SecurityKeys::sort(&mut self.peer, &mut self.unknown, pairs, out)?;
        if keys.is_empty() {
            return Ok(State::ChapResponse(self));
        }
        let name = keys.take(Key::ChapN);
        let response = keys.take(Key::ChapR);
        let counter = counter_challenge(&mut keys)?;
        keys.take_none()?;
        let name = name.ok_or(Misbehaviour::ChapIncomplete(Key::ChapN))?;
        let response = response.ok_or(Misbehaviour::ChapIncomplete(Key::ChapR))?;
        let response = decode_response(self.algorithm, response)?;
        if counter
            .as_ref()
            .is_some_and(|counter| counter.bytes == self.challenge.bytes)
        {
            return Err(Misbehaviour::ChapReflected);
        }
        // First the initiator proves itself, so that nobody can use us to compute responses.
        if !self
            .challenge
            .answered_by(self.algorithm, &self.peer.policy.chap, name, &response)
        {
            return Err(Misbehaviour::ChapFailed);
        }
        if let Some(counter) = counter {
            self.prove(&counter, out)?;
        }
        self.peer.authenticated_as = Some(name.to_owned());
        Ok(State::SecurityEnd(ExpectSecurityEnd::new(
            self.peer,
            self.unknown,
        )))
    }

    /// Answers the initiator's challenge (RFC 7143 9.2.1 has the conditions).
    fn prove(&self, counter: &Challenge, out: &mut TextWriter) -> Result<(), Misbehaviour> {
        let ours = self
            .peer
            .policy
            .mutual
            .as_ref()
            .ok_or(Misbehaviour::MutualNotConfigured)?;
        if self
            .peer
            .policy
            .chap
            .iter()
            .any(|theirs| theirs.secret.same_as(&ours.secret))
        {
            return Err(Misbehaviour::SameSecretBothWays);
        }
        let response = ours
            .secret
            .response(self.algorithm, counter.identifier, &counter.bytes);
        out.put(Key::ChapN.name(), &ours.name);
        out.put(Key::ChapR.name(), &encode_hex(&response));
        Ok(())
    }
}

/// The initiator's own challenge: both keys or none.
fn counter_challenge(keys: &mut SecurityKeys<'_>) -> Result<Option<Challenge>, Misbehaviour> {
    match (keys.take(Key::ChapI), keys.take(Key::ChapC)) {
        (None, None) => Ok(None),
        (Some(identifier), Some(challenge)) => Ok(Some(Challenge::decode(identifier, challenge)?)),
        (None, Some(_)) => Err(Misbehaviour::ChapIncomplete(Key::ChapI)),
        (Some(_), None) => Err(Misbehaviour::ChapIncomplete(Key::ChapC)),
    }
}
