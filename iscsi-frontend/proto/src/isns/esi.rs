//! Entity status inquiries (RFC 4171 5.6.5.13, 5.7.5.13): an entity that does not answer them is forgotten.

use super::{
    attribute::{self, tag},
    message::{Message, flag, function},
};

/// The answer to an inquiry about `entity`, which repeats what was asked; `None` to anything else, which is not answered.
pub fn answer(message: &Message, entity: &str) -> Option<Message> {
    if message.function != function::ESI {
        return None;
    }
    let attributes = attribute::parse(&message.payload).ok()?;
    let asked = attributes.iter().find(|attribute| attribute.tag == tag::ENTITY)?;
    if !asked.as_text()?.eq_ignore_ascii_case(entity) {
        return None;
    }
    // Status 0: it is here.
    let payload = [&[0; 4], message.payload.as_slice()].concat();
    Some(Message {
        function: function::ESI | function::RESPONSE,
        flags: flag::CLIENT,
        transaction: message.transaction,
        payload,
    })
}
