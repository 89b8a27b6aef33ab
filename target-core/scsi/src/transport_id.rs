//! iSCSI TransportIDs (SPC-4 7.6.4.6) and the names of ports.

use std::fmt::Write as _;

use crate::{
    big_endian::field,
    unit::{InitiatorPort, TargetPort},
};

/// What a TransportID names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportId {
    /// TPID FORMAT 00b: every port of the initiator device with this name.
    Device(String),
    /// TPID FORMAT 01b.
    Port(InitiatorPort),
}

/// Bytes that are no iSCSI TransportID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an iSCSI TransportID")]
pub struct BadTransportId;

impl TransportId {
    /// Reads one TransportID from the front of `bytes`; gives it and its length.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), BadTransportId> {
        let length = 4 + field(bytes, 2..4) as usize;
        let body = bytes.get(4..length).ok_or(BadTransportId)?;
        if bytes[0] & 0x3F != 0x05 || bytes[1] != 0 || body.len() < 20 || body.len() % 4 != 0 {
            return Err(BadTransportId);
        }
        let end = body.iter().position(|byte| *byte == 0).ok_or(BadTransportId)?;
        if body[end..].iter().any(|byte| *byte != 0) {
            return Err(BadTransportId);
        }
        let text = std::str::from_utf8(&body[..end]).map_err(|_| BadTransportId)?;
        let id = match bytes[0] >> 6 {
            0b00 => Self::Device(checked_name(text)?),
            0b01 => Self::Port(parse_port(text)?),
            _ => return Err(BadTransportId),
        };
        Ok((id, length))
    }
}

fn parse_port(text: &str) -> Result<InitiatorPort, BadTransportId> {
    let (name, digits) = text.split_once(",i,0x").ok_or(BadTransportId)?;
    if digits.len() != 12 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(BadTransportId);
    }
    let value = u64::from_str_radix(digits, 16).map_err(|_| BadTransportId)?;
    let [_, _, isid @ ..] = value.to_be_bytes();
    Ok(InitiatorPort {
        name: checked_name(name)?,
        isid,
    })
}

fn checked_name(name: &str) -> Result<String, BadTransportId> {
    let legal = !name.is_empty() && name.len() <= 223 && !name.contains(',');
    legal.then(|| name.to_owned()).ok_or(BadTransportId)
}

/// TPID FORMAT 01b: name, `,i,0x`, ISID in hex, a NUL, padded to a multiple of four.
pub fn encode_transport_id(port: &InitiatorPort) -> Vec<u8> {
    let mut text = format!("{},i,0x", port.name);
    for byte in port.isid {
        let _ = write!(text, "{byte:02x}");
    }
    let padded = pad_name(&text).max(20);
    let mut bytes = vec![0x45, 0];
    bytes.extend((padded as u16).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.resize(4 + padded, 0);
    bytes
}

/// The SCSI name of a target port: name, `,t,0x`, portal group tag in hex (RFC 7143 4.4.2).
pub fn target_port_name(port: &TargetPort) -> String {
    format!("{},t,0x{:04x}", port.name, port.portal_group)
}

/// Length of a NUL-terminated name padded to a multiple of four.
pub(crate) fn pad_name(name: &str) -> usize {
    (name.len() + 1).next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_reads_back() {
        let port = InitiatorPort {
            name: "iqn.2026-11.org.example:h".into(),
            isid: [0x80, 1, 2, 3, 0xAB, 0xCD],
        };
        let bytes = encode_transport_id(&port);
        assert_eq!(bytes[..4], [0x45, 0, 0, 44]);
        assert_eq!(&bytes[4..46], b"iqn.2026-11.org.example:h,i,0x80010203abcd");
        assert_eq!(TransportId::parse(&bytes), Ok((TransportId::Port(port), 48)));
    }

    #[test]
    fn broken_ones_are_refused() {
        assert_eq!(TransportId::parse(&[]), Err(BadTransportId));
        let mut bytes = vec![0x45, 0, 0, 20];
        bytes.extend(b"iqn.a,i,0x00000000000");
        assert_eq!(TransportId::parse(&bytes), Err(BadTransportId));
        let mut device = vec![0x05, 0, 0, 20];
        device.extend(b"iqn.a");
        device.resize(24, 0);
        assert_eq!(
            TransportId::parse(&device),
            Ok((TransportId::Device("iqn.a".into()), 24))
        );
        device[0] = 0x06;
        assert_eq!(TransportId::parse(&device), Err(BadTransportId));
    }
}
