//! Attributes: tag, length, value (RFC 4171 5.6.2, 6.1).

use core::net::{IpAddr, SocketAddr};

use super::message::IsnsError;

/// The tags a target has a use for (RFC 4171 6.1).
pub mod tag {
    /// Separates the message key from the operating attributes.
    pub const DELIMITER: u32 = 0;
    /// Entity identifier.
    pub const ENTITY: u32 = 1;
    /// Entity protocol; [`super::ISCSI`] is iSCSI.
    pub const ENTITY_PROTOCOL: u32 = 2;
    /// Time of an inquiry.
    pub const TIMESTAMP: u32 = 4;
    /// Seconds after which the server forgets an entity that it does not hear of.
    pub const REGISTRATION_PERIOD: u32 = 6;
    /// Address of a portal.
    pub const PORTAL_ADDRESS: u32 = 16;
    /// Port of a portal, with a bit for UDP.
    pub const PORTAL_PORT: u32 = 17;
    /// Seconds between two inquiries.
    pub const ESI_INTERVAL: u32 = 19;
    /// Port that inquiries go to.
    pub const ESI_PORT: u32 = 20;
    /// Name of a node.
    pub const ISCSI_NAME: u32 = 32;
    /// What kind of a node it is; [`super::TARGET`] is a target.
    pub const ISCSI_NODE_TYPE: u32 = 33;
    /// What people call a node.
    pub const ISCSI_ALIAS: u32 = 34;
    /// Address of a portal in a portal group of the node before it.
    pub const GROUP_ADDRESS: u32 = 49;
    /// Port of that portal.
    pub const GROUP_PORT: u32 = 50;
    /// Tag of the portal group that the portal behind it is in.
    pub const PORTAL_GROUP_TAG: u32 = 51;
}

/// Entity protocol: iSCSI (RFC 4171 6.2.2).
pub const ISCSI: u32 = 2;

/// Node type: target (RFC 4171 6.4.2).
pub const TARGET: u32 = 1;

/// Bytes of a text with its end (RFC 4171 6.1).
const TEXT_MAX: usize = 256;

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// What it says; [`tag`] has those we know.
    pub tag: u32,
    /// Padded to a multiple of four bytes.
    pub value: Vec<u8>,
}

impl Attribute {
    /// Ends the message key.
    pub fn delimiter() -> Self {
        Self::empty(tag::DELIMITER)
    }

    /// Without a value: in a query, the wish to be told it.
    pub fn empty(tag: u32) -> Self {
        Self {
            tag,
            value: Vec::new(),
        }
    }

    /// A number of 32 bits.
    pub fn number(tag: u32, value: u32) -> Self {
        Self {
            tag,
            value: value.to_be_bytes().to_vec(),
        }
    }

    /// A text, ended by a zero byte. One that is too long is cut, at a character.
    pub fn text(tag: u32, text: &str) -> Self {
        let mut end = text.len().min(TEXT_MAX - 1);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut value = text.as_bytes()[..end].to_vec();
        value.push(0);
        value.resize(value.len().next_multiple_of(4), 0);
        Self { tag, value }
    }

    /// An address of IPv6, or one of IPv4 mapped to it (RFC 4171 6.3.1).
    pub fn address(tag: u32, address: IpAddr) -> Self {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Self {
            tag,
            value: address.octets().to_vec(),
        }
    }

    /// Address and TCP port of a portal (RFC 4171 6.3.1, 6.3.2).
    pub fn portal(portal: SocketAddr) -> [Self; 2] {
        [
            Self::address(tag::PORTAL_ADDRESS, portal.ip()),
            Self::number(tag::PORTAL_PORT, portal.port().into()),
        ]
    }

    /// Its value as a number.
    pub fn as_number(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.as_slice().try_into().ok()?))
    }

    /// Its value as a text, without its end.
    pub fn as_text(&self) -> Option<&str> {
        let text = self.value.split(|byte| *byte == 0).next()?;
        core::str::from_utf8(text).ok()
    }

    /// Appends it as it is on the wire.
    pub fn write(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.value.len()).expect("a value of ours is short");
        out.extend_from_slice(&self.tag.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.value);
    }
}

/// All attributes of a payload. Each takes 8 bytes of it at least, so their number is bounded by its length.
pub fn parse(mut payload: &[u8]) -> Result<Vec<Attribute>, IsnsError> {
    let mut attributes = Vec::new();
    while !payload.is_empty() {
        let (tag, rest) = word(payload).ok_or(IsnsError::AttributeCutShort)?;
        let (length, rest) = word(rest).ok_or(IsnsError::AttributeCutShort)?;
        let length = usize::try_from(length).map_err(|_| IsnsError::AttributeCutShort)?;
        if length % 4 != 0 {
            return Err(IsnsError::Unaligned);
        }
        let (value, rest) = rest
            .split_at_checked(length)
            .ok_or(IsnsError::AttributeCutShort)?;
        attributes.push(Attribute {
            tag,
            value: value.to_vec(),
        });
        payload = rest;
    }
    Ok(attributes)
}

/// The 32-bit number at the front.
pub(super) fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*word), rest))
}
