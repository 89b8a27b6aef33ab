//! Messages, and the PDUs they travel in (RFC 4171 5.1-5.3).
//!
//! A message is a function and a payload. One that does not fit into a PDU goes in several, which share its transaction id
//! and are counted; the first and the last are marked.

/// Bytes of a PDU header.
pub const HEADER: usize = 12;

/// Bytes of payload in one PDU: the largest multiple of four that its 16-bit length can say.
pub const PAYLOAD_MAX: usize = 65_532;

const VERSION: u16 = 1;

/// Functions (RFC 4171 5.1.2). A response has its request's and [`RESPONSE`](function::RESPONSE).
pub mod function {
    /// Register, or replace a registration.
    pub const REGISTER: u16 = 1;
    /// Look something up.
    pub const QUERY: u16 = 2;
    /// Deregister.
    pub const DEREGISTER: u16 = 4;
    /// Entity status inquiry: the server asks whether a portal is there.
    pub const ESI: u16 = 0x000d;
    /// Set in a response.
    pub const RESPONSE: u16 = 0x8000;
}

/// Flags (RFC 4171 5.1.4).
pub mod flag {
    /// Sent by a client.
    pub const CLIENT: u16 = 0x8000;
    /// Sent by the server.
    pub const SERVER: u16 = 0x4000;
    /// An authentication block follows.
    pub const AUTHENTICATED: u16 = 0x2000;
    /// What is registered replaces what was.
    pub const REPLACE: u16 = 0x1000;
    /// The last PDU of a message.
    pub const LAST: u16 = 0x0800;
    /// The first PDU of a message.
    pub const FIRST: u16 = 0x0400;
}

/// What is wrong with bytes that a server sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IsnsError {
    /// Version other than 1.
    #[error("version {0} of iSNSP is unknown")]
    Version(u16),
    /// A length that is no multiple of four.
    #[error("a length is no multiple of four")]
    Unaligned,
    /// More than the receiver takes.
    #[error("the message is longer than {0} bytes")]
    TooLong(usize),
    /// PDUs of different messages, or of one in disorder.
    #[error("the PDUs of a message are in disorder")]
    Disorder,
    /// A message with an authentication block.
    #[error("the message is authenticated, which is not supported")]
    Authenticated,
    /// The payload ends within an attribute.
    #[error("the payload ends within an attribute")]
    AttributeCutShort,
    /// A response without a status.
    #[error("the response has no status")]
    NoStatus,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it asks for, or answers.
    pub function: u16,
    /// [`flag::CLIENT`], [`flag::SERVER`], [`flag::REPLACE`]; those of its PDUs are not kept.
    pub flags: u16,
    /// The same in a request and its response.
    pub transaction: u16,
    /// Attributes; in a response the status before them.
    pub payload: Vec<u8>,
}

impl Message {
    /// As it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let pieces = self.payload.chunks(PAYLOAD_MAX);
        // A message without payload is one PDU all the same.
        let count = pieces.len().max(1);
        let pieces = pieces.chain(self.payload.is_empty().then_some(&[][..]));
        let mut bytes = Vec::with_capacity(self.payload.len() + count * HEADER);
        for (number, piece) in pieces.enumerate() {
            let mut flags = self.flags & !(flag::FIRST | flag::LAST);
            if number == 0 {
                flags |= flag::FIRST;
            }
            if number + 1 == count {
                flags |= flag::LAST;
            }
            // Both fit: pieces are no longer than PAYLOAD_MAX, and as many as sequence ids are more than memory holds.
            let fields = [
                VERSION,
                self.function,
                piece.len() as u16,
                flags,
                self.transaction,
                number as u16,
            ];
            bytes.extend(fields.iter().flat_map(|field| field.to_be_bytes()));
            bytes.extend_from_slice(piece);
        }
        bytes
    }
}

/// Puts messages together from what a stream brings. Holds one message of at most `limit` bytes, and one PDU.
#[derive(Debug)]
pub struct Assembler {
    limit: usize,
    bytes: Vec<u8>,
    begun: Option<(Message, u16)>,
}

impl Assembler {
    /// For messages of at most `limit` bytes of payload.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: Vec::new(),
            begun: None,
        }
    }

    /// Takes what was received. To be followed by calls of [`Self::take`] until there is nothing more: what waits then is
    /// less than one PDU.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message. After an error the stream is of no use.
    pub fn take(&mut self) -> Result<Option<Message>, IsnsError> {
        loop {
            let Some(header) = self.bytes.first_chunk::<HEADER>() else {
                return Ok(None);
            };
            let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
            let (version, function, length) = (field(0), field(2), usize::from(field(4)));
            let (flags, transaction, sequence) = (field(6), field(8), field(10));
            if version != VERSION {
                return Err(IsnsError::Version(version));
            }
            if length % 4 != 0 {
                return Err(IsnsError::Unaligned);
            }
            if flags & flag::AUTHENTICATED != 0 {
                return Err(IsnsError::Authenticated);
            }
            let before = self
                .begun
                .as_ref()
                .map_or(0, |(message, _)| message.payload.len());
            if before + length > self.limit {
                return Err(IsnsError::TooLong(self.limit));
            }
            if self.bytes.len() < HEADER + length {
                return Ok(None);
            }
            let mut pdu: Vec<u8> = self.bytes.drain(..HEADER + length).collect();
            pdu.drain(..HEADER);
            let message = match self.begun.take() {
                None if flags & flag::FIRST != 0 => Message {
                    function,
                    flags: flags & !(flag::FIRST | flag::LAST),
                    transaction,
                    payload: pdu,
                },
                Some((mut message, next))
                    if flags & flag::FIRST == 0
                        && (message.function, message.transaction, next)
                            == (function, transaction, sequence) =>
                {
                    message.payload.extend_from_slice(&pdu);
                    message
                }
                _ => return Err(IsnsError::Disorder),
            };
            if flags & flag::LAST != 0 {
                return Ok(Some(message));
            }
            self.begun = Some((message, sequence.wrapping_add(1)));
        }
    }
}

/// Why a server refuses (RFC 4171 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// Done.
    pub const SUCCESS: Self = Self(0);
    /// There is nothing of that name.
    pub const NO_SUCH_ENTRY: Self = Self(9);
    /// It does not send inquiries.
    pub const ESI_NOT_AVAILABLE: Self = Self(21);
}

impl core::fmt::Display for Status {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = match self.0 {
            0 => "successful",
            2 => "message format error",
            3 => "invalid registration",
            5 => "invalid query",
            6 => "source unknown",
            7 => "source absent",
            8 => "source unauthorized",
            9 => "no such entry",
            10 => "version not supported",
            11 => "internal error",
            12 => "busy",
            13 => "option not understood",
            14 => "invalid update",
            15 => "message not supported",
            18 => "attribute not implemented",
            21 => "ESI not available",
            22 => "invalid deregistration",
            23 => "registration feature not supported",
            _ => "unknown error",
        };
        write!(formatter, "{name} (status {})", self.0)
    }
}
