//! Every reason to refuse a login, by name.

use crate::chap::ChapError;
use crate::keys::Key;
use crate::negotiation::NegotiationError;
use crate::text::TextError;

/// Why a login was refused. The message names the section that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    /// The target is at another address; not the initiator's fault (RFC 7143 11.13.5, class 1).
    #[error("the target has moved to {address} (RFC 7143 11.13.5)")]
    Moved {
        /// True when the initiator should remember it.
        permanent: bool,
        /// Where it is now.
        address: String,
    },
    /// The text is not key=value text.
    #[error("{0} (RFC 7143 6.1)")]
    Text(#[from] TextError),
    /// The rules of negotiation were broken.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// CSG is reserved or full feature phase.
    #[error("CSG names no stage of login (RFC 7143 11.12.3)")]
    BadCurrentStage,
    /// CSG is not the stage the login is in.
    #[error("CSG is not the stage that the login is in (RFC 7143 11.12.3)")]
    WrongCurrentStage,
    /// NSG with the T bit is reserved or not behind CSG.
    #[error("NSG is not a stage behind CSG (RFC 7143 11.12.3)")]
    BadNextStage,
    /// T and C are both set.
    #[error("the T and the C bit are both set (RFC 7143 11.12.2)")]
    TransitWithContinuation,
    /// Text came while our continued answer was not yet sent.
    #[error("text came in the middle of a continued answer (RFC 7143 11.13.3)")]
    TextDuringContinuedAnswer,
    /// ISID is not that of the first request.
    #[error("the ISID changed during login (RFC 7143 11.12.5)")]
    IsidChanged,
    /// TSIH is not that of the first request.
    #[error("the TSIH changed during login (RFC 7143 11.12.6)")]
    TsihChanged,
    /// CID is not that of the first request.
    #[error("the CID changed during login (RFC 7143 11.12.7)")]
    CidChanged,
    /// The initiator task tag is not that of the first request.
    #[error("the initiator task tag changed during login (RFC 7143 6.3)")]
    TaskTagChanged,
    /// Version-min or Version-max is not that of the first request.
    #[error("the version range changed during login (RFC 7143 11.12.4)")]
    VersionChanged,
    /// More requests than a login may take.
    #[error("the login takes too many requests (RFC 7143 6.3)")]
    TooManyExchanges,
    /// The time limit passed.
    #[error("the login did not end in time (RFC 7143 6.3)")]
    TimedOut,
    /// The login has ended before.
    #[error("a Login Request after the login ended (RFC 7143 6.3)")]
    AlreadyOver,
    /// A PDU other than a Login Request.
    #[error("a request other than Login during login (RFC 7143 11.13.5)")]
    NotALoginRequest,
    /// Version-min is higher than ours.
    #[error("no common protocol version (RFC 7143 11.12.4)")]
    UnsupportedVersion,
    /// The first request lacks a key it must have.
    #[error("{} is missing from the first request (RFC 7143 {})", .0.name(), .0.spec().section)]
    Missing(Key),
    /// A name is not an iSCSI name.
    #[error("{} is not an iSCSI name (RFC 7143 4.2.7)", .0.name())]
    BadName(Key),
    /// SessionType is neither Normal nor Discovery.
    #[error("SessionType is neither Normal nor Discovery (RFC 7143 13.21)")]
    UnknownSessionType,
    /// Sessions of this type are not served here.
    #[error("sessions of this type are not served here (RFC 7143 13.21)")]
    SessionTypeNotSupported,
    /// The target does not exist.
    #[error("no such target (RFC 7143 11.13.5)")]
    TargetNotFound,
    /// The target was removed.
    #[error("the target was removed (RFC 7143 11.13.5)")]
    TargetRemoved,
    /// The initiator may not use the target.
    #[error("the initiator is not allowed to use the target (RFC 7143 11.13.5)")]
    NotAllowed,
    /// The target cannot serve now.
    #[error("the target cannot serve now (RFC 7143 11.13.5)")]
    Unavailable,
    /// No room for another session.
    #[error("no room for another session (RFC 7143 11.13.5)")]
    OutOfResources,
    /// The session to join does not exist.
    #[error("the session to join does not exist (RFC 7143 11.12.6)")]
    NoSuchSession,
    /// The session to join is full.
    #[error("the session has all its connections (RFC 7143 13.2)")]
    TooManyConnections,
    /// The session cannot take this connection.
    #[error("the session cannot take this connection (RFC 7143 11.13.5)")]
    CannotInclude,
    /// Authentication is required and was left out.
    #[error("authentication is required and was left out (RFC 7143 12)")]
    AuthenticationRequired,
    /// No AuthMethod offered is one we ask for.
    #[error("no authentication method in common (RFC 7143 12)")]
    NoCommonAuthMethod,
    /// No CHAP_A offered is one we take.
    #[error("no CHAP algorithm in common (RFC 7143 12.1.3)")]
    NoCommonChapAlgorithm,
    /// A key of the authentication exchange out of its order.
    #[error("{} came out of order (RFC 7143 {})", .0.name(), .0.spec().section)]
    AuthenticationOutOfOrder(Key),
    /// A key of the authentication step is missing.
    #[error("{} is missing from the CHAP exchange (RFC 7143 12.1.3)", .0.name())]
    ChapIncomplete(Key),
    /// A CHAP value is malformed.
    #[error("{0} (RFC 7143 12.1.3)")]
    Chap(#[from] ChapError),
    /// Name or response is wrong; which one is not said.
    #[error("CHAP name or response is wrong (RFC 7143 12.1.3)")]
    ChapFailed,
    /// The initiator's challenge is ours.
    #[error("the initiator reflected our CHAP challenge (RFC 7143 9.2.1)")]
    ChapReflected,
    /// The initiator wants us to authenticate and we cannot.
    #[error("target authentication is not configured (RFC 7143 12.1.3)")]
    MutualNotConfigured,
    /// The same secret is set up for both directions.
    #[error("the same CHAP secret is used in both directions (RFC 7143 9.2.1)")]
    SameSecretBothWays,
}

impl Misbehaviour {
    /// Status-Class and Status-Detail of the Login Response (RFC 7143 11.13.5).
    pub fn status(&self) -> (u8, u8) {
        match self {
            Self::Moved { permanent: false, .. } => (1, 1),
            Self::Moved { permanent: true, .. } => (1, 2),
            Self::Text(_)
            | Self::Negotiation(_)
            | Self::BadCurrentStage
            | Self::WrongCurrentStage
            | Self::BadNextStage
            | Self::TransitWithContinuation
            | Self::TextDuringContinuedAnswer
            | Self::IsidChanged
            | Self::TsihChanged
            | Self::CidChanged
            | Self::TaskTagChanged
            | Self::VersionChanged
            | Self::TooManyExchanges
            | Self::TimedOut
            | Self::AlreadyOver
            | Self::BadName(_)
            | Self::AuthenticationOutOfOrder(_) => (2, 0),
            Self::AuthenticationRequired
            | Self::NoCommonAuthMethod
            | Self::NoCommonChapAlgorithm
            | Self::ChapIncomplete(_)
            | Self::Chap(_)
            | Self::ChapFailed
            | Self::ChapReflected
            | Self::MutualNotConfigured
            | Self::SameSecretBothWays => (2, 1),
            Self::NotAllowed => (2, 2),
            Self::TargetNotFound => (2, 3),
            Self::TargetRemoved => (2, 4),
            Self::UnsupportedVersion => (2, 5),
            Self::TooManyConnections => (2, 6),
            Self::Missing(_) => (2, 7),
            Self::CannotInclude => (2, 8),
            Self::UnknownSessionType | Self::SessionTypeNotSupported => (2, 9),
            Self::NoSuchSession => (2, 0x0a),
            Self::NotALoginRequest => (2, 0x0b),
            Self::Unavailable => (3, 1),
            Self::OutOfResources => (3, 2),
        }
    }
}
