//! SecurityNegotiation: the choice of a method, and the way out (RFC 7143 12).

use super::chap::ExpectChapAlgorithm;
use super::facts::LoginFacts;
use super::first::{Peer, declare};
use super::misbehaviour::Misbehaviour;
use super::operational::ExpectOperational;
use super::{Stage, State, Transit};
use crate::keys::{Key, Rule};
use crate::negotiation::{NegotiationError, UnknownKeys, is_security_phase};
use crate::text::{NONE, Pair, TextWriter};

/// The initiator is known and has not yet named its authentication methods.
#[derive(Debug)]
pub(super) struct ExpectAuthMethod {
    peer: Box<Peer>,
    unknown: UnknownKeys,
}

/// The initiator is in; only the T bit is missing.
#[derive(Debug)]
pub(super) struct ExpectSecurityEnd {
    peer: Box<Peer>,
    unknown: UnknownKeys,
}

impl ExpectAuthMethod {
    pub(super) fn new(peer: Box<Peer>) -> Self {
        Self {
            peer,
            unknown: UnknownKeys::default(),
        }
    }

    pub(super) fn receive(mut self, pairs: &[Pair<'_>], out: &mut TextWriter) -> Result<State, Misbehaviour> {
        let keys = SecurityKeys::sort(&mut self.peer, &mut self.unknown, pairs, out)?;
        let Some(offered) = keys.take_only(Key::AuthMethod)? else {
            return Ok(State::AuthMethod(self));
        };
        let chosen = if self.peer.policy.chap.is_empty() {
            NONE
        } else {
            "CHAP"
        };
        if !offered.split(',').any(|method| method == chosen) {
            return Err(Misbehaviour::NoCommonAuthMethod);
        }
        out.put(Key::AuthMethod.name(), chosen);
        Ok(if self.peer.policy.chap.is_empty() {
            State::SecurityEnd(ExpectSecurityEnd::new(self.peer, self.unknown))
        } else {
            State::ChapAlgorithm(ExpectChapAlgorithm::new(self.peer, self.unknown))
        })
    }

    /// An initiator that names no method wants none (RFC 7143 6.3.2).
    pub(super) fn transit(self, next: Stage, facts: &mut dyn LoginFacts) -> Result<Transit, Misbehaviour> {
        if !self.peer.policy.chap.is_empty() {
            return Err(Misbehaviour::AuthenticationRequired);
        }
        leave(self.peer, next, facts)
    }
}

impl ExpectSecurityEnd {
    pub(super) fn new(peer: Box<Peer>, unknown: UnknownKeys) -> Self {
        Self { peer, unknown }
    }

    pub(super) fn receive(mut self, pairs: &[Pair<'_>], out: &mut TextWriter) -> Result<State, Misbehaviour> {
        SecurityKeys::sort(&mut self.peer, &mut self.unknown, pairs, out)?.take_none()?;
        Ok(State::SecurityEnd(self))
    }

    pub(super) fn transit(self, next: Stage, facts: &mut dyn LoginFacts) -> Result<Transit, Misbehaviour> {
        leave(self.peer, next, facts)
    }
}

fn leave(peer: Box<Peer>, next: Stage, facts: &mut dyn LoginFacts) -> Result<Transit, Misbehaviour> {
    let operational = Box::new(ExpectOperational::new(peer));
    match next {
        Stage::FullFeature => Ok(Transit::Finished(operational.finish(facts)?)),
        _ => Ok(Transit::To(State::Operational(operational))),
    }
}

/// The authentication keys of one text, each at most once; everything else in it is dealt with.
#[derive(Debug)]
pub(super) struct SecurityKeys<'a>(Vec<(Key, &'a str)>);

impl<'a> SecurityKeys<'a> {
    /// Declares the names, answers the unknown keys, refuses the operational ones ("Other keys MUST NOT be used",
    /// RFC 7143 12) and keeps the rest.
    pub(super) fn sort(
        peer: &mut Peer,
        unknown: &mut UnknownKeys,
        pairs: &[Pair<'a>],
        out: &mut TextWriter,
    ) -> Result<Self, Misbehaviour> {
        let mut kept: Vec<(Key, &'a str)> = Vec::new();
        for pair in pairs {
            let Some(key) = Key::from_name(pair.key) else {
                if let Some(answer) = unknown.answer(pair)? {
                    out.put(pair.key, answer);
                }
                continue;
            };
            let spec = key.spec();
            match spec.rule {
                _ if !is_security_phase(spec.phase) => return Err(NegotiationError::OutOfPhase(key).into()),
                Rule::DeclaredText => declare(&mut peer.declarations, key, pair.value)?,
                _ if kept.iter().any(|(earlier, _)| *earlier == key) => {
                    return Err(NegotiationError::Repeated(key).into());
                }
                _ => kept.push((key, pair.value)),
            }
        }
        Ok(Self(kept))
    }

    /// The value of `key`, taken out.
    pub(super) fn take(&mut self, key: Key) -> Option<&'a str> {
        let index = self.0.iter().position(|(found, _)| *found == key)?;
        Some(self.0.remove(index).1)
    }

    /// The value of `key`; errors when other authentication keys stand beside it.
    pub(super) fn take_only(mut self, key: Key) -> Result<Option<&'a str>, Misbehaviour> {
        let value = self.take(key);
        self.take_none()?;
        Ok(value)
    }

    /// Errors when authentication keys are left.
    pub(super) fn take_none(self) -> Result<(), Misbehaviour> {
        match self.0.first() {
            Some((key, _)) => Err(Misbehaviour::AuthenticationOutOfOrder(*key)),
            None => Ok(()),
        }
    }

    /// True when no authentication key is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
