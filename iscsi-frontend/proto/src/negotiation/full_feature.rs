//! Text negotiation in full feature phase (RFC 7143 6.4).

use std::collections::BTreeSet;

use super::parameters::ConnectionParameters;
use super::{NegotiationError, Role, UnknownKeys, Value, check_sender, is_refusal};
use crate::keys::{Key, Phase, Rule};
use crate::text::{Pair, REJECT, TextWriter};

/// What a Text Request asked for and what to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextAnswer {
    /// One answer to every key that wants one. SendTargets is not among them.
    pub text: TextWriter,
    /// The value of SendTargets, for [`crate::discovery`].
    pub send_targets: Option<String>,
    /// The initiator's new MaxRecvDataSegmentLength in bytes, already set in the parameters passed in.
    pub max_recv_data_segment_length: Option<u32>,
}

/// The target's side of one complete Text Request sequence in full feature phase. Errors mean a Reject PDU with the
/// reason Protocol Error (RFC 7143 6.4) and leave `connection` as it was.
///
/// Only MaxRecvDataSegmentLength, InitiatorAlias and SendTargets may change anything here; the keys of login are
/// answered Reject.
pub fn negotiate_text(
    pairs: &[Pair<'_>],
    connection: &mut ConnectionParameters,
) -> Result<TextAnswer, NegotiationError> {
    let mut answer = TextAnswer::default();
    let mut heard = BTreeSet::new();
    let mut unknown = UnknownKeys::default();
    for pair in pairs {
        let Some(key) = Key::from_name(pair.key) else {
            if let Some(text) = unknown.answer(pair)? {
                answer.text.put(pair.key, text);
            }
            continue;
        };
        if !heard.insert(key) {
            return Err(NegotiationError::Repeated(key));
        }
        if is_refusal(pair.value) {
            continue;
        }
        check_sender(key, Role::Target)?;
        let spec = key.spec();
        match (spec.rule, spec.phase) {
            (Rule::Request, _) => answer.send_targets = Some(pair.value.to_owned()),
            (Rule::DeclaredNumber(..), _) => match Value::parse(spec.rule, pair.value) {
                Some(Value::Number(length)) => answer.max_recv_data_segment_length = Some(length),
                _ => return Err(NegotiationError::BadDeclaration(key)),
            },
            (Rule::DeclaredText, Phase::Any) => {}
            _ => answer.text.put(pair.key, REJECT),
        }
    }
    if let Some(length) = answer.max_recv_data_segment_length {
        connection.peer_max_recv_data_segment_length = length;
    }
    Ok(answer)
}
