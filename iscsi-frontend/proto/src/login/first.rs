//! The first Login Request: who is it, and may it come in?

use super::facts::{Admission, AuthPolicy, InitiatorPort, Joining, LoginFacts};
use super::misbehaviour::Misbehaviour;
use super::operational::ExpectOperational;
use super::security::ExpectAuthMethod;
use super::{LoginRequestView, Stage, State};
use crate::chap::ENTROPY_LENGTH;
use crate::keys::{Key, Rule, Sender};
use crate::limits::NAME_MAX;
use crate::negotiation::{Declarations, Role, SessionType, TargetOffer, check_sender, is_refusal};
use crate::text::{Pair, TextWriter};

/// Nothing is known yet.
#[derive(Debug)]
pub(super) struct ExpectFirstRequest {
    offer: TargetOffer,
    entropy: [u8; ENTROPY_LENGTH],
}

/// What the first request has told and every later state carries.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) port: InitiatorPort,
    pub(super) target: Option<String>,
    pub(super) session_type: SessionType,
    pub(super) cid: u16,
    pub(super) claim: Claim,
    pub(super) policy: AuthPolicy,
    pub(super) offer: TargetOffer,
    pub(super) entropy: [u8; ENTROPY_LENGTH],
    pub(super) declarations: Declarations,
    pub(super) authenticated_as: Option<String>,
}

/// The session that the connection asks to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// A new one.
    New,
    /// The one with this handle; `reinstates` when its connection of the same CID ends.
    Existing { tsih: u16, reinstates: bool },
}

impl ExpectFirstRequest {
    pub(super) fn new(offer: TargetOffer, entropy: [u8; ENTROPY_LENGTH]) -> Self {
        Self { offer, entropy }
    }

    /// Looks at the names first, wherever they stand, then gives all pairs to the state the initiator starts in.
    pub(super) fn receive(
        self,
        stage: Stage,
        request: &LoginRequestView<'_>,
        pairs: &[Pair<'_>],
        facts: &mut dyn LoginFacts,
        out: &mut TextWriter,
    ) -> Result<State, Misbehaviour> {
        let mut declarations = Declarations::default();
        for pair in pairs {
            if let Some(key) = Key::from_name(pair.key).filter(|key| key.spec().rule == Rule::DeclaredText) {
                declare(&mut declarations, key, pair.value)?;
            }
        }
        let peer = self.identify(request, declarations, facts)?;
        if let Some(target) = &peer.target {
            if let Some(alias) = facts.alias(target) {
                out.put(Key::TargetAlias.name(), &alias);
            }
            out.put(
                Key::TargetPortalGroupTag.name(),
                &peer.offer.portal_group_tag.to_string(),
            );
        }
        match stage {
            Stage::Security => ExpectAuthMethod::new(Box::new(peer)).receive(pairs, out),
            _ if !peer.policy.chap.is_empty() => Err(Misbehaviour::AuthenticationRequired),
            _ => Box::new(ExpectOperational::new(Box::new(peer))).receive(pairs, out),
        }
    }

    fn identify(
        self,
        request: &LoginRequestView<'_>,
        declarations: Declarations,
        facts: &mut dyn LoginFacts,
    ) -> Result<Peer, Misbehaviour> {
        let name = declarations
            .get(Key::InitiatorName)
            .ok_or(Misbehaviour::Missing(Key::InitiatorName))?;
        if !is_iscsi_name(name) {
            return Err(Misbehaviour::BadName(Key::InitiatorName));
        }
        let port = InitiatorPort {
            name: name.to_owned(),
            isid: request.isid,
        };
        let session_type = match declarations.get(Key::SessionType) {
            None | Some("Normal") => SessionType::Normal,
            Some("Discovery") => SessionType::Discovery,
            Some(_) => return Err(Misbehaviour::UnknownSessionType),
        };
        let (target, admission, claim) = match session_type {
            SessionType::Discovery if request.tsih != 0 => return Err(Misbehaviour::CannotInclude),
            SessionType::Discovery => (None, facts.discovery(&port), Claim::New),
            SessionType::Normal => {
                let target = declarations
                    .get(Key::TargetName)
                    .ok_or(Misbehaviour::Missing(Key::TargetName))?
                    .to_owned();
                let admission = facts.target(&port, &target);
                let claim = claim(&port, &target, &admission, request, facts)?;
                (Some(target), admission, claim)
            }
        };
        let policy = admitted(admission)?;
        let keys = target.as_deref().and_then(|target| facts.offer(&port, target));
        let offer = TargetOffer {
            keys: keys.unwrap_or(self.offer.keys),
            ..self.offer
        };
        Ok(Peer {
            policy,
            port,
            target,
            session_type,
            cid: request.cid,
            claim,
            offer,
            entropy: self.entropy,
            declarations,
            authenticated_as: None,
        })
    }
}

/// Takes a declaration of the initiator.
pub(super) fn declare(declarations: &mut Declarations, key: Key, value: &str) -> Result<(), Misbehaviour> {
    // An initiator may decline what we declared about ourselves; that is no declaration of its own.
    if is_refusal(value) && key.spec().sender == Sender::Target {
        return Ok(());
    }
    check_sender(key, Role::Target)?;
    Ok(declarations.declare(key, value)?)
}

fn claim(
    port: &InitiatorPort,
    target: &str,
    admission: &Admission,
    request: &LoginRequestView<'_>,
    facts: &dyn LoginFacts,
) -> Result<Claim, Misbehaviour> {
    if request.tsih == 0 || !matches!(admission, Admission::Admit(_)) {
        return Ok(Claim::New);
    }
    let existing = |reinstates| Claim::Existing {
        tsih: request.tsih,
        reinstates,
    };
    match facts.join(port, target, request.tsih, request.cid) {
        Joining::Added => Ok(existing(false)),
        Joining::Reinstated => Ok(existing(true)),
        Joining::NoSuchSession => Err(Misbehaviour::NoSuchSession),
        Joining::TooManyConnections => Err(Misbehaviour::TooManyConnections),
        Joining::CannotInclude => Err(Misbehaviour::CannotInclude),
    }
}

fn admitted(admission: Admission) -> Result<AuthPolicy, Misbehaviour> {
    Err(match admission {
        Admission::Admit(policy) => return Ok(policy),
        Admission::Moved { permanent, address } => Misbehaviour::Moved { permanent, address },
        Admission::NotFound => Misbehaviour::TargetNotFound,
        Admission::NotAllowed => Misbehaviour::NotAllowed,
        Admission::Removed => Misbehaviour::TargetRemoved,
        Admission::SessionTypeNotSupported => Misbehaviour::SessionTypeNotSupported,
        Admission::Unavailable => Misbehaviour::Unavailable,
        Admission::OutOfResources => Misbehaviour::OutOfResources,
    })
}

/// An iSCSI name: type designator, no space, at most 223 bytes (RFC 7143 4.2.7.1, 4.2.7.3). The characters beyond
/// ASCII are left to the access list, which compares whole names.
fn is_iscsi_name(name: &str) -> bool {
    let typed = ["iqn.", "eui.", "naa."]
        .iter()
        .any(|kind| name.len() > kind.len() && name.starts_with(kind));
    typed && name.len() <= NAME_MAX && !name.contains(|c: char| c.is_whitespace())
}
