//! Frames: a header and its payload.
//!
//! The payload's checksum is made by [`Sealed`], where the data comes from, before the frame waits for its turn; it is
//! checked by [`Frame::take`], and only what passed is handed on. So nothing between the two, in either system's memory
//! or on the wire, can change data unseen. Compression ([`crate::packing`]) lies between the two as well.

use crate::{
    decode, encode,
    fields::Put,
    header::{HANDSHAKE_VERSION, HEADER_BYTES, Header, Kind},
    message::Message,
    packing::{Compression, Unpacker},
    request::{Expects, Request},
    response::{FailureCode, Response},
};
use bytes::{Bytes, BytesMut};

/// Bytes that are no frame, or values that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It does not begin as a frame does.
    #[error("this is not a frame of the link")]
    Magic,
    /// The header's checksum is wrong.
    #[error("a frame's header is damaged")]
    HeaderCrc,
    /// The payload's checksum is wrong.
    #[error("the payload of a {kind:?} is damaged (id {id})")]
    PayloadCrc {
        /// What the frame is.
        kind: Kind,
        /// Which request.
        id: u64,
    },
    /// A type this program does not know.
    #[error("there is no frame of type {0}")]
    Kind(u8),
    /// A flag that this type does not have.
    #[error("a {kind:?} has no flags {flags:#04x}")]
    Flags {
        /// What the frame is.
        kind: Kind,
        /// All its flags.
        flags: u8,
    },
    /// A byte that must be 0 is not.
    #[error("byte {at} of a {kind:?} is reserved and not 0")]
    Reserved {
        /// What the frame is.
        kind: Kind,
        /// The byte, of the payload, or byte 12 of the header.
        at: usize,
    },
    /// A request or an answer without an id, or anything else with one.
    #[error("a {kind:?} cannot have the id {id}")]
    Id {
        /// What the frame is.
        kind: Kind,
        /// The id.
        id: u64,
    },
    /// A payload too short or too long for its type.
    #[error("a {kind:?} has {length} bytes of payload; {least} to {most} are accepted")]
    Length {
        /// What the frame is.
        kind: Kind,
        /// Its bytes.
        length: usize,
        /// The least accepted.
        least: usize,
        /// The most accepted.
        most: usize,
    },
    /// A compressed payload that is not shorter than what it stands for, or has no data.
    #[error("the {length} bytes of a compressed {kind:?} cannot stand for {unpacked}")]
    Packed {
        /// What the frame is.
        kind: Kind,
        /// Bytes of its payload.
        length: usize,
        /// What they should become.
        unpacked: usize,
    },
    /// It is compressed in a way that this side did not say it reads.
    #[error("a {kind:?} is compressed by {by}, which was not agreed on")]
    NotAgreed {
        /// What the frame is.
        kind: Kind,
        /// In which way.
        by: Compression,
    },
    /// Compressed data that is damaged, or of another length than was said.
    #[error("the {by} data of a {kind:?} is not {unpacked} bytes of payload (id {id})")]
    Unpack {
        /// What the frame is.
        kind: Kind,
        /// How it is compressed.
        by: Compression,
        /// What the payload should have become.
        unpacked: usize,
        /// Which request.
        id: u64,
    },
    /// A list longer than the payload.
    #[error("a {kind:?} ends too early, at byte {at}")]
    Truncated {
        /// What the frame is.
        kind: Kind,
        /// Where.
        at: usize,
    },
    /// A payload longer than its list.
    #[error("a {kind:?} should have ended at byte {at}")]
    Surplus {
        /// What the frame is.
        kind: Kind,
        /// Where.
        at: usize,
    },
    /// A value that is not accepted.
    #[error("{field} of a {kind:?} has a value that is not accepted")]
    Field {
        /// What the frame is.
        kind: Kind,
        /// Which field.
        field: &'static str,
    },
    /// A range that is empty, or ends behind the last byte there can be.
    #[error("a {kind:?} of {length} bytes from {offset} is no range")]
    Range {
        /// What the frame is.
        kind: Kind,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
}

/// A frame received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The version it follows.
    pub version: u16,
    /// What it says.
    pub message: Message,
    /// Bytes that compression spared on the wire.
    pub spared: usize,
}

impl Frame {
    /// Takes the first frame out of what was received, or says how many more bytes it needs at least. No compressed one is
    /// accepted.
    pub fn take(received: &mut BytesMut) -> Result<Result<Self, usize>, FrameError> {
        Self::take_packed(received, &mut Unpacker::new(0))
    }

    /// Likewise, compressed or not.
    pub fn take_packed(
        received: &mut BytesMut,
        unpacker: &mut Unpacker,
    ) -> Result<Result<Self, usize>, FrameError> {
        let Some(header) = Header::decode(received)? else {
            return Ok(Err(HEADER_BYTES - received.len()));
        };
        unpacker.check(&header)?;
        let whole = HEADER_BYTES + header.length;
        if received.len() < whole {
            return Ok(Err(whole - received.len()));
        }
        let payload = received.split_to(whole).freeze().slice(HEADER_BYTES..);
        let payload = unpacker.unpack(&header, payload)?;
        if crc_fast::crc32_iscsi(&payload) != header.payload_crc {
            return Err(FrameError::PayloadCrc {
                kind: header.kind,
                id: header.id,
            });
        }
        Ok(Ok(Self {
            version: header.version,
            message: decode::message(&header, payload)?,
            spared: header.unpacked.saturating_sub(header.length),
        }))
    }
}

/// What goes on the wire: the second part behind the first. Data stays where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Header and fixed fields.
    pub head: Bytes,
    /// Data; may be empty.
    pub data: Bytes,
}

impl Encoded {
    /// Bytes of both.
    pub fn len(&self) -> usize {
        self.head.len() + self.data.len()
    }

    /// Never: there is a header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message with its checksum, to which only the header is missing.
#[derive(Debug, Clone)]
pub struct Sealed {
    kind: Kind,
    flags: u8,
    /// Room for the header, and the fixed fields.
    head: Vec<u8>,
    data: Bytes,
    crc: u32,
    cost: u64,
    expects: Option<Expects>,
}

impl Sealed {
    /// Seals a request; one that the other side would refuse is refused here.
    pub fn request(request: &Request) -> Result<Self, FrameError> {
        request.check()?;
        let (flags, fixed, data) = encode::request(request);
        let mut sealed = Self::new(request.kind(), flags, fixed, data)?;
        sealed.cost = request.cost();
        sealed.expects = Some(request.expects());
        Ok(sealed)
    }

    /// Seals an answer; likewise.
    pub fn response(response: &Response) -> Result<Self, FrameError> {
        response.check()?;
        let (fixed, data) = encode::response(response);
        Self::new(response.kind(), 0, fixed, data)
    }

    /// Seals the answer that something went wrong here.
    pub fn failed(code: FailureCode, message: &str) -> Self {
        let (fixed, data) = encode::response(&Response::failed(code, message));
        Self::new(Kind::Failed, 0, fixed, data).expect("a failure's message is cut to what is accepted")
    }

    fn new(kind: Kind, flags: u8, fixed: Put, data: Bytes) -> Result<Self, FrameError> {
        let head = fixed.into_head();
        let fixed = &head[HEADER_BYTES..];
        kind.check_length(fixed.len() + data.len())?;
        let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        crc.update(fixed);
        crc.update(&data);
        Ok(Self {
            kind,
            flags,
            crc: crc.finalize() as u32,
            head,
            data,
            cost: 0,
            expects: None,
        })
    }

    /// What the request takes of the other side's window; 0 for an answer.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// What may answer the request.
    pub(crate) fn expects(&self) -> Option<Expects> {
        self.expects
    }

    /// As an answer it fits such a request.
    pub(crate) fn answers(&self, expects: Expects) -> bool {
        expects.fits(self.kind, self.data.len())
    }

    /// The frame.
    pub fn frame(self, version: u16, id: u64) -> Encoded {
        let header = Header {
            version,
            kind: self.kind,
            flags: self.flags,
            length: self.head.len() - HEADER_BYTES + self.data.len(),
            unpacked: 0,
            id,
            payload_crc: self.crc,
        };
        let mut head = self.head;
        head[..HEADER_BYTES].copy_from_slice(&header.encode());
        Encoded {
            head: head.into(),
            data: self.data,
        }
    }
}

/// The frame of a message that is neither request nor answer. The handshake's have the handshake's version.
pub(crate) fn plain(version: u16, message: &Plain<'_>) -> Encoded {
    let (kind, fixed) = encode::plain(message);
    let version = match message {
        Plain::Hello(_) | Plain::HelloAck(_) | Plain::Refuse(_) => HANDSHAKE_VERSION,
        Plain::Ping(_) | Plain::Pong(_) | Plain::Bye(_) => version,
    };
    Sealed::new(kind, 0, fixed, Bytes::new())
        .expect("fixed fields have the length of their kind")
        .frame(version, 0)
}

/// The messages that [`plain`] makes frames of.
pub(crate) enum Plain<'a> {
    Hello(&'a crate::Hello),
    HelloAck(&'a crate::Hello),
    Refuse(crate::Refusal),
    Ping(u64),
    Pong(u64),
    Bye(crate::Farewell),
}

#[cfg(test)]
pub(crate) mod tests;
