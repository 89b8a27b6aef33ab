//! LoginOperationalNegotiation, and the end of login (RFC 7143 6.3.3).

use super::facts::LoginFacts;
use super::first::{Claim, Peer, declare};
use super::misbehaviour::Misbehaviour;
use super::{LoginOutcome, Membership, State, Transit};
use crate::keys::{Key, Rule};
use crate::limits::TEXT_SEGMENT_DEFAULT;
use crate::negotiation::{Negotiation, NegotiationError, Role};
use crate::text::{Pair, TextWriter};

/// The initiator is in; the operational keys are being settled.
#[derive(Debug)]
pub(super) struct ExpectOperational {
    peer: Box<Peer>,
    negotiation: Negotiation,
}

impl ExpectOperational {
    pub(super) fn new(peer: Box<Peer>) -> Self {
        let leading = peer.claim == Claim::New;
        let negotiation = Negotiation::new(Role::Target, peer.session_type, leading, peer.offer.keys.clone());
        Self { peer, negotiation }
    }

    pub(super) fn text_segment_max(&self) -> usize {
        let declared = self
            .negotiation
            .peer_max_recv()
            .map_or(TEXT_SEGMENT_DEFAULT, |length| length as usize);
        declared.min(TEXT_SEGMENT_DEFAULT)
    }

    pub(super) fn receive(
        mut self: Box<Self>,
        pairs: &[Pair<'_>],
        out: &mut TextWriter,
    ) -> Result<State, Misbehaviour> {
        let mut operational = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match Key::from_name(pair.key).map(|key| (key, key.spec().rule)) {
                Some((key, Rule::DeclaredText)) => declare(&mut self.peer.declarations, key, pair.value)?,
                Some((key, Rule::Authentication | Rule::Request)) => {
                    return Err(NegotiationError::OutOfPhase(key).into());
                }
                Some(_) | None => operational.push(*pair),
            }
        }
        self.negotiation.declare_own(out);
        self.negotiation.receive(&operational, out)?;
        Ok(State::Operational(self))
    }

    /// Held back while a key is open, or needs an offer of ours because its default will not do.
    pub(super) fn transit(
        mut self: Box<Self>,
        facts: &mut dyn LoginFacts,
        out: &mut TextWriter,
    ) -> Result<Transit, Misbehaviour> {
        self.negotiation.offer_missing(out);
        if !out.is_empty() || !self.negotiation.is_settled() {
            return Ok(Transit::Held(State::Operational(self)));
        }
        Ok(Transit::Finished(self.finish(facts)?))
    }

    /// Ends the login with what is settled.
    pub(super) fn finish(
        mut self: Box<Self>,
        facts: &mut dyn LoginFacts,
    ) -> Result<Box<LoginOutcome>, Misbehaviour> {
        let (parameters, connection) = self.negotiation.finish()?;
        let peer = *self.peer;
        let (tsih, membership) = match peer.claim {
            Claim::Existing { tsih, reinstates } => (tsih, Membership::Joining { reinstates }),
            Claim::New => {
                let reinstates = peer
                    .target
                    .as_deref()
                    .and_then(|target| facts.session_of(&peer.port, target));
                let tsih = facts.allocate_tsih().ok_or(Misbehaviour::OutOfResources)?;
                (
                    tsih,
                    Membership::Leading {
                        parameters,
                        reinstates,
                    },
                )
            }
        };
        Ok(Box::new(LoginOutcome {
            initiator_alias: peer.declarations.get(Key::InitiatorAlias).map(str::to_owned),
            port: peer.port,
            target: peer.target,
            session_type: peer.session_type,
            tsih,
            cid: peer.cid,
            authenticated_as: peer.authenticated_as,
            membership,
            connection,
        }))
    }
}
