//! Negotiation of operational keys (RFC 7143 6.2, 6.3.3, 6.4): from two offers to one set of parameters.
//!
//! The same machine serves both sides. A key that the peer names is an answer when we asked for it, else an offer,
//! and an offer gets exactly one answer. What each side may answer follows from the key's row in
//! [`crate::keys::KEYS`] and from our [`Offer`].
//!
//! An initiator offers everything it has an opinion on. A target only answers; it originates a key just when the
//! initiator has been silent about it and the default is not acceptable (say, digests are required), because some
//! initiators give up on keys they did not send.
//!
//! A key that was answered Reject, Irrelevant or NotUnderstood keeps its default. Whether we can live with it is
//! asked once, at the end.

mod declarations;
mod full_feature;
mod offer;
mod parameters;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

pub use declarations::Declarations;
pub use full_feature::{TextAnswer, negotiate_text};
pub use offer::{Offer, TargetOffer};
pub use parameters::{ConnectionParameters, DigestKind, SessionParameters, SessionType, TaskReporting};

use crate::keys::{KEYS, Key, Phase, Rule, Sender};
use crate::limits::UNKNOWN_KEYS_MAX;
use crate::text::{IRRELEVANT, NOT_UNDERSTOOD, Pair, REJECT, TextWriter, boolean, number, yes_or_no};

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The initiator.
    Initiator,
    /// The target.
    Target,
}

/// How the peer broke the rules of negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// A key was offered or declared a second time (RFC 7143 6.3, 6.4).
    #[error("{} was offered or declared twice (RFC 7143 6.3)", .0.name())]
    Repeated(Key),
    /// A key we do not know came a second time (RFC 7143 6.3).
    #[error("a key unknown here came twice (RFC 7143 6.3)")]
    RepeatedUnknown,
    /// More keys we do not know than [`UNKNOWN_KEYS_MAX`].
    #[error("more than {UNKNOWN_KEYS_MAX} unknown keys")]
    TooManyUnknown,
    /// The key belongs to the other side (RFC 7143 13).
    #[error("{} may not be sent by this side (RFC 7143 {})", .0.name(), .0.spec().section)]
    WrongSender(Key),
    /// The key belongs to another stage or phase (RFC 7143 12, 13).
    #[error("{} may not be sent in this stage (RFC 7143 {})", .0.name(), .0.spec().section)]
    OutOfPhase(Key),
    /// A session-wide key on a connection that is not the leading one (RFC 7143 13).
    #[error("{} is for the leading connection only (RFC 7143 {})", .0.name(), .0.spec().section)]
    LeadingOnly(Key),
    /// A declared value is malformed or outside its range (RFC 7143 6.2).
    #[error("the value declared for {} is outside its range (RFC 7143 {})", .0.name(), .0.spec().section)]
    BadDeclaration(Key),
    /// The answer is not one our offer allows (RFC 7143 6.2.1, 6.2.2).
    #[error("the answer to {} is not one that the offer allows (RFC 7143 6.2)", .0.name())]
    IllegalAnswer(Key),
    /// The negotiation ended with a value we are not configured to work with.
    #[error("{} ended with a value that this side is not configured to accept", .0.name())]
    Unacceptable(Key),
}

/// One settled value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Of a boolean key.
    Flag(bool),
    /// Of a numerical key.
    Number(u32),
    /// Of a list key.
    Word(&'static str),
}

impl Value {
    /// Reads `text` as a value of `rule`; `None` when malformed or out of range.
    fn parse(rule: Rule, text: &str) -> Option<Self> {
        match rule {
            Rule::List(words) => words
                .iter()
                .find(|word| **word == text)
                .map(|word| Self::Word(word)),
            Rule::And | Rule::Or => boolean(text).map(Self::Flag),
            Rule::Minimum(low, high) | Rule::Maximum(low, high) | Rule::DeclaredNumber(low, high) => {
                let value = u32::try_from(number(text)?).ok()?;
                (low..=high).contains(&value).then_some(Self::Number(value))
            }
            _ => None,
        }
    }

    fn to_text(self) -> Cow<'static, str> {
        match self {
            Self::Flag(value) => yes_or_no(value).into(),
            Self::Number(value) => value.to_string().into(),
            Self::Word(word) => word.into(),
        }
    }
}

/// What we want of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Of a boolean key.
    Flag(bool),
    /// Of a numerical key.
    Number(u32),
    /// The words we take, best first.
    Words(Vec<&'static str>),
}

impl Wish {
    fn to_text(&self) -> Cow<'static, str> {
        match self {
            Self::Flag(value) => yes_or_no(*value).into(),
            Self::Number(value) => value.to_string().into(),
            Self::Words(words) => words.join(",").into(),
        }
    }

    /// True when `value` can be the outcome of `rule` with this wish on one side: the test of an answer to our
    /// offer, and of a default nobody spoke about.
    fn tolerates(&self, rule: Rule, value: Value) -> bool {
        match (self, value) {
            (Self::Flag(ours), Value::Flag(outcome)) => match rule {
                Rule::And => *ours || !outcome,
                _ => !ours || outcome,
            },
            (Self::Number(ours), Value::Number(outcome)) => match rule {
                Rule::Maximum(..) => outcome >= *ours,
                _ => outcome <= *ours,
            },
            (Self::Words(ours), Value::Word(outcome)) => ours.contains(&outcome),
            _ => false,
        }
    }

    /// True when the outcome is ours whatever the peer says, so that its answer may be left out (RFC 7143 6.2.2).
    fn decides(&self, rule: Rule) -> bool {
        matches!(
            (self, rule),
            (Self::Flag(false), Rule::And) | (Self::Flag(true), Rule::Or)
        )
    }
}

/// The negotiation of operational keys on one connection during login.
#[derive(Debug)]
pub struct Negotiation {
    role: Role,
    session_type: SessionType,
    leading: bool,
    offer: Offer,
    settled: BTreeMap<Key, Value>,
    /// Our offers that wait for an answer.
    asked: BTreeMap<Key, Wish>,
    /// Keys that are done: the peer has offered, declared or answered them.
    heard: BTreeSet<Key>,
    unknown: UnknownKeys,
    own_max_recv: Option<u32>,
    peer_max_recv: Option<u32>,
}

impl Negotiation {
    /// A negotiation in which nothing was said. `leading` is false for further connections of a session.
    pub fn new(role: Role, session_type: SessionType, leading: bool, offer: Offer) -> Self {
        Self {
            role,
            session_type,
            leading,
            offer,
            settled: BTreeMap::new(),
            asked: BTreeMap::new(),
            heard: BTreeSet::new(),
            unknown: UnknownKeys::default(),
            own_max_recv: None,
            peer_max_recv: None,
        }
    }

    /// Declares our MaxRecvDataSegmentLength, once.
    pub fn declare_own(&mut self, out: &mut TextWriter) {
        if self.own_max_recv.is_none() {
            let length = self.offer.max_recv_data_segment_length();
            out.put(Key::MaxRecvDataSegmentLength.name(), &length.to_string());
            self.own_max_recv = Some(length);
        }
    }

    /// Offers every key that means something on this connection: the initiator's opening.
    pub fn offer_all(&mut self, out: &mut TextWriter) {
        self.ask(out, |_, _| true);
    }

    /// Offers the keys the peer has not spoken about whose defaults we cannot work with: the target's originations.
    pub fn offer_missing(&mut self, out: &mut TextWriter) {
        self.ask(out, |negotiation, key| !negotiation.is_acceptable(key));
    }

    /// Takes the operational pairs of one complete text, in order, and writes one answer to each offer.
    pub fn receive(&mut self, pairs: &[Pair<'_>], out: &mut TextWriter) -> Result<(), NegotiationError> {
        let mut answers = vec![None; pairs.len()];
        let mut dependent = Vec::new();
        for (index, pair) in pairs.iter().enumerate() {
            answers[index] = match Key::from_name(pair.key) {
                // Their answers depend on others, which may stand behind them.
                Some(key @ (Key::FirstBurstLength | Key::MaxOutstandingR2T))
                    if dependent.iter().all(|(_, other)| *other != key) =>
                {
                    dependent.push((index, key));
                    None
                }
                Some(key) => self.take(key, pair.value)?,
                None => self.unknown.answer(pair)?.map(Cow::from),
            };
        }
        for (index, key) in dependent {
            answers[index] = self.take(key, pairs[index].value)?;
        }
        for (pair, answer) in pairs.iter().zip(answers) {
            if let Some(answer) = answer {
                out.put(pair.key, &answer);
            }
        }
        Ok(())
    }

    /// True when none of our offers still needs an answer.
    pub fn is_settled(&self) -> bool {
        self.asked.iter().all(|(key, wish)| wish.decides(key.spec().rule))
    }

    /// The longest data segment the peer takes, if it has said so.
    pub fn peer_max_recv(&self) -> Option<u32> {
        self.peer_max_recv
    }

    /// The outcome. Errors with the first key whose value we cannot work with.
    pub fn finish(&mut self) -> Result<(SessionParameters, ConnectionParameters), NegotiationError> {
        for (key, wish) in std::mem::take(&mut self.asked) {
            if let (true, Wish::Flag(flag)) = (wish.decides(key.spec().rule), wish) {
                self.settled.insert(key, Value::Flag(flag));
            }
        }
        match self.relevant_keys().find(|key| !self.is_acceptable(*key)) {
            Some(key) => Err(NegotiationError::Unacceptable(key)),
            None => Ok((self.session_parameters(), self.connection_parameters())),
        }
    }

    fn ask(&mut self, out: &mut TextWriter, wanted: impl Fn(&Self, Key) -> bool) {
        let keys: Vec<_> = self
            .relevant_keys()
            .filter(|key| !self.heard.contains(key) && !self.asked.contains_key(key) && wanted(self, *key))
            .collect();
        for key in keys {
            if let Some(wish) = self.wish(key) {
                out.put(key.name(), &wish.to_text());
                self.asked.insert(key, wish);
            }
        }
    }

    fn take(&mut self, key: Key, text: &str) -> Result<Option<Cow<'static, str>>, NegotiationError> {
        let spec = key.spec();
        if let Some(wish) = self.asked.remove(&key) {
            self.answered(key, &wish, text)?;
            return Ok(None);
        }
        if text == "?" && spec.rule.is_negotiated() {
            return Ok(Some(self.current(key).to_text()));
        }
        if self.own_max_recv.is_some() && key == Key::MaxRecvDataSegmentLength && is_refusal(text) {
            return Ok(None);
        }
        if !self.heard.insert(key) {
            return Err(NegotiationError::Repeated(key));
        }
        check_sender(key, self.role)?;
        if spec.leading_only && !self.leading {
            return Err(NegotiationError::LeadingOnly(key));
        }
        if self.session_type == SessionType::Discovery && !spec.in_discovery {
            return Ok(Some(IRRELEVANT.into()));
        }
        match spec.rule {
            Rule::Obsolete => Ok(Some(REJECT.into())),
            Rule::DeclaredNumber(..) => match Value::parse(spec.rule, text) {
                Some(Value::Number(length)) => {
                    self.peer_max_recv = Some(length);
                    Ok(None)
                }
                _ => Err(NegotiationError::BadDeclaration(key)),
            },
            rule if rule.is_negotiated() => Ok(Some(self.answer(key, text))),
            _ => Err(NegotiationError::OutOfPhase(key)),
        }
    }

    /// The peer's answer to our offer.
    fn answered(&mut self, key: Key, wish: &Wish, text: &str) -> Result<(), NegotiationError> {
        self.heard.insert(key);
        if is_refusal(text) {
            return Ok(());
        }
        let rule = key.spec().rule;
        match Value::parse(rule, text) {
            Some(value) if wish.tolerates(rule, value) => {
                self.settled.insert(key, value);
                Ok(())
            }
            _ => Err(NegotiationError::IllegalAnswer(key)),
        }
    }

    /// Our answer to the peer's offer.
    fn answer(&mut self, key: Key, text: &str) -> Cow<'static, str> {
        if key == Key::FirstBurstLength && !self.first_burst_matters() {
            return IRRELEVANT.into();
        }
        match self.outcome(key, text) {
            Some(value) => {
                self.settled.insert(key, value);
                value.to_text()
            }
            None => REJECT.into(),
        }
    }

    fn outcome(&self, key: Key, text: &str) -> Option<Value> {
        let rule = key.spec().rule;
        let wish = self.wish(key)?;
        if let Wish::Words(ours) = &wish {
            return text
                .split(',')
                .find_map(|word| ours.iter().find(|our| **our == word))
                .map(|word| Value::Word(word));
        }
        Some(match (Value::parse(rule, text)?, wish, rule) {
            (Value::Flag(theirs), Wish::Flag(ours), Rule::And) => Value::Flag(theirs && ours),
            (Value::Flag(theirs), Wish::Flag(ours), _) => Value::Flag(theirs || ours),
            (Value::Number(theirs), Wish::Number(ours), Rule::Maximum(..)) => Value::Number(theirs.max(ours)),
            (Value::Number(theirs), Wish::Number(ours), _) if key == Key::FirstBurstLength => {
                Value::Number(theirs.min(ours).min(self.number(Key::MaxBurstLength)))
            }
            (Value::Number(theirs), Wish::Number(ours), _) => Value::Number(theirs.min(ours)),
            _ => return None,
        })
    }

    /// What we want of `key` now. With sequences in order, error recovery goes with one R2T at a time (RFC 7143 13.19), so
    /// whichever of the two is settled first binds the other. A discovery session has nothing to recover.
    fn wish(&self, key: Key) -> Option<Wish> {
        let in_order = self.flag(Key::DataSequenceInOrder);
        match key {
            Key::MaxOutstandingR2T if in_order && self.number(Key::ErrorRecoveryLevel) > 0 => {
                Some(Wish::Number(1))
            }
            Key::ErrorRecoveryLevel
                if self.session_type == SessionType::Discovery
                    || in_order && self.number(Key::MaxOutstandingR2T) > 1 =>
            {
                Some(Wish::Number(0))
            }
            _ => self.offer.wish(key),
        }
    }

    /// FirstBurstLength means nothing when no unsolicited data may be sent (RFC 7143 13.14).
    fn first_burst_matters(&self) -> bool {
        !self.flag(Key::InitialR2T) || self.flag(Key::ImmediateData)
    }

    fn is_acceptable(&self, key: Key) -> bool {
        if key == Key::FirstBurstLength && !self.first_burst_matters() {
            return true;
        }
        self.wish(key)
            .is_none_or(|wish| wish.tolerates(key.spec().rule, self.current(key)))
    }

    fn relevant_keys(&self) -> impl Iterator<Item = Key> + use<> {
        let (leading, discovery) = (self.leading, self.session_type == SessionType::Discovery);
        KEYS.iter()
            .filter(move |spec| {
                spec.rule.is_negotiated()
                    && (leading || !spec.leading_only)
                    && (!discovery || spec.in_discovery)
            })
            .map(|spec| spec.key)
    }

    /// The settled value, else the default of the table.
    fn current(&self, key: Key) -> Value {
        let spec = key.spec();
        self.settled
            .get(&key)
            .copied()
            .or_else(|| Value::parse(spec.rule, spec.default))
            .expect("every negotiated key has a default inside its rule")
    }

    fn flag(&self, key: Key) -> bool {
        self.current(key) == Value::Flag(true)
    }

    fn number(&self, key: Key) -> u32 {
        match self.current(key) {
            Value::Number(value) => value,
            Value::Flag(_) | Value::Word(_) => 0,
        }
    }
}

/// Keys outside the table: each is answered NotUnderstood, once (RFC 7143 6.2).
#[derive(Debug, Default)]
pub(crate) struct UnknownKeys(BTreeSet<String>);

impl UnknownKeys {
    /// The answer to `pair`, whose key is not in the table. A refusal of a key is itself not answered.
    pub(crate) fn answer(&mut self, pair: &Pair<'_>) -> Result<Option<&'static str>, NegotiationError> {
        if !self.0.insert(pair.key.to_owned()) {
            return Err(NegotiationError::RepeatedUnknown);
        }
        if self.0.len() > UNKNOWN_KEYS_MAX {
            return Err(NegotiationError::TooManyUnknown);
        }
        Ok((!is_refusal(pair.value)).then_some(NOT_UNDERSTOOD))
    }
}

/// One of the answers that leave a key as it was (RFC 7143 6.2).
pub(crate) fn is_refusal(text: &str) -> bool {
    matches!(text, REJECT | IRRELEVANT | NOT_UNDERSTOOD)
}

/// Errors when the peer of `role` may not send `key`.
pub(crate) fn check_sender(key: Key, role: Role) -> Result<(), NegotiationError> {
    match (key.spec().sender, role) {
        (Sender::Both, _) | (Sender::Initiator, Role::Target) | (Sender::Target, Role::Initiator) => Ok(()),
        _ => Err(NegotiationError::WrongSender(key)),
    }
}

/// True when `phase` allows a key in the security stage of login.
pub(crate) fn is_security_phase(phase: Phase) -> bool {
    matches!(phase, Phase::Security | Phase::AnyLogin | Phase::Any)
}

#[cfg(test)]
mod tests;
