//! Why a login came to nothing, seen from the initiator.

use crate::chap::ChapError;
use crate::keys::Key;
use crate::negotiation::NegotiationError;
use crate::text::TextError;

/// The reason a login failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginFailure {
    /// The target is elsewhere (RFC 7143 11.13.5, class 1).
    #[error("the target has moved to {address}")]
    Redirected {
        /// True when this should be remembered.
        permanent: bool,
        /// TargetAddress.
        address: String,
    },
    /// The target refused (RFC 7143 11.13.5).
    #[error("login refused: {} (status {class:02x}{detail:02x}h)", status_text(*class, *detail))]
    Refused {
        /// Status-Class.
        class: u8,
        /// Status-Detail.
        detail: u8,
    },
    /// The response is not key=value text.
    #[error("the target sent {0} (RFC 7143 6.1)")]
    Text(#[from] TextError),
    /// The target broke the rules of negotiation.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The target speaks another version.
    #[error("no common protocol version (RFC 7143 11.13.2)")]
    UnsupportedVersion,
    /// CSG, NSG, T or C of the response do not fit.
    #[error("the response names a stage that does not fit (RFC 7143 11.13.4)")]
    BadStage,
    /// The target grants the end of a stage whose work is not done.
    #[error("the target ended the security stage before the authentication (RFC 7143 12)")]
    EarlyTransit,
    /// The target ends the login and has left an offer of ours open.
    #[error("the target left an offer unanswered (RFC 7143 6.2)")]
    Unanswered,
    /// Text came while our continued request was not yet sent.
    #[error("text came in the middle of a continued request (RFC 7143 11.12.2)")]
    TextDuringContinuedRequest,
    /// More responses than a login may take.
    #[error("the login takes too many responses (RFC 7143 6.3)")]
    TooManyExchanges,
    /// The time limit passed.
    #[error("the login did not end in time (RFC 7143 6.3)")]
    TimedOut,
    /// A response after the end, or before the start.
    #[error("a Login Response while no login is under way (RFC 7143 6.3)")]
    AlreadyOver,
    /// The target chose a method we did not offer.
    #[error("the target accepts none of the authentication methods offered (RFC 7143 12)")]
    AuthMethodNotOffered,
    /// The target chose an algorithm we did not offer.
    #[error("the target chose a CHAP algorithm that was not offered (RFC 7143 12.1.3)")]
    AlgorithmNotOffered,
    /// A CHAP key is missing.
    #[error("{} is missing from the CHAP exchange (RFC 7143 12.1.3)", .0.name())]
    ChapIncomplete(Key),
    /// A CHAP value is malformed.
    #[error("{0} (RFC 7143 12.1.3)")]
    Chap(#[from] ChapError),
    /// The target did not prove who it is.
    #[error("the target did not authenticate itself (RFC 7143 12.1.3)")]
    TargetNotAuthenticated,
    /// The same secret is set up for both directions.
    #[error("the same CHAP secret is used in both directions (RFC 7143 9.2.1)")]
    SameSecretBothWays,
}

/// The words of RFC 7143 11.13.5.
fn status_text(class: u8, detail: u8) -> &'static str {
    match (class, detail) {
        (1, _) => "the target has moved and did not say where",
        (2, 0) => "initiator error",
        (2, 1) => "authentication failure",
        (2, 2) => "authorization failure",
        (2, 3) => "target not found",
        (2, 4) => "target removed",
        (2, 5) => "unsupported version",
        (2, 6) => "too many connections",
        (2, 7) => "missing parameter",
        (2, 8) => "cannot include in session",
        (2, 9) => "session type not supported",
        (2, 0x0a) => "session does not exist",
        (2, 0x0b) => "invalid request during login",
        (3, 0) => "target error",
        (3, 1) => "service unavailable",
        (3, 2) => "out of resources",
        _ => "unknown reason",
    }
}
