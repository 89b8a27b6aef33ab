//! The basic header segment (RFC 7143 11.2.1), as the load generator and the floor see it.
//!
//! Written a second time, beside `iscsi-proto`: an instrument that had the product's own idea of a PDU would agree with its mistakes.
//! What is large is big-endian.

/// Bytes of a header without its digest.
pub(crate) const LENGTH: usize = 48;
/// An ITT or TTT that names nothing.
pub(crate) const NO_TAG: u32 = 0xffff_ffff;
/// The I bit: delivered at once, numbered by nobody.
pub(crate) const IMMEDIATE: u8 = 0x40;
/// The F bit (T in a login).
pub(crate) const FINAL: u8 = 0x80;

/// Opcodes (RFC 7143 11.2.1.2).
pub(crate) mod opcode {
    pub(crate) const NOP_OUT: u8 = 0x00;
    pub(crate) const SCSI_COMMAND: u8 = 0x01;
    pub(crate) const TASK_MANAGEMENT: u8 = 0x02;
    pub(crate) const LOGIN: u8 = 0x03;
    pub(crate) const DATA_OUT: u8 = 0x05;
    pub(crate) const LOGOUT: u8 = 0x06;
    pub(crate) const NOP_IN: u8 = 0x20;
    pub(crate) const SCSI_RESPONSE: u8 = 0x21;
    pub(crate) const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub(crate) const LOGIN_RESPONSE: u8 = 0x23;
    pub(crate) const TEXT_RESPONSE: u8 = 0x24;
    pub(crate) const DATA_IN: u8 = 0x25;
    pub(crate) const LOGOUT_RESPONSE: u8 = 0x26;
    pub(crate) const R2T: u8 = 0x31;
    pub(crate) const ASYNC: u8 = 0x32;
    pub(crate) const REJECT: u8 = 0x3f;
}

/// Where the words of a header lie. One place has several names: what it holds depends on the opcode.
pub(crate) mod word {
    /// Initiator task tag.
    pub(crate) const ITT: usize = 16;
    /// Target transfer tag.
    pub(crate) const TTT: usize = 20;
    /// Expected data transfer length of a command.
    pub(crate) const EXPECTED_LENGTH: usize = 20;
    /// Of what an initiator sends.
    pub(crate) const CMD_SN: usize = 24;
    pub(crate) const EXP_STAT_SN: usize = 28;
    /// Of what a target sends.
    pub(crate) const STAT_SN: usize = 24;
    pub(crate) const EXP_CMD_SN: usize = 28;
    pub(crate) const MAX_CMD_SN: usize = 32;
    pub(crate) const DATA_SN: usize = 36;
    pub(crate) const BUFFER_OFFSET: usize = 40;
    /// Desired data transfer length of an R2T.
    pub(crate) const DESIRED_LENGTH: usize = 44;
    pub(crate) const RESIDUAL: usize = 44;
}

/// 48 bytes of header.
#[derive(Clone, Copy)]
pub(crate) struct Header(pub(crate) [u8; LENGTH]);

impl Header {
    /// One with these first two bytes; the rest is zero.
    pub(crate) fn new(opcode: u8, flags: u8) -> Self {
        let mut bytes = [0; LENGTH];
        (bytes[0], bytes[1]) = (opcode, flags);
        Self(bytes)
    }

    /// The first bytes of a PDU; there must be as many as a header has.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(*bytes.first_chunk().expect("a whole header has been received"))
    }

    /// Without the I bit.
    pub(crate) fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    pub(crate) fn is_immediate(&self) -> bool {
        self.0[0] & IMMEDIATE != 0
    }

    pub(crate) fn is_final(&self) -> bool {
        self.0[1] & FINAL != 0
    }

    pub(crate) fn word(&self, at: usize) -> u32 {
        be32(&self.0, at)
    }

    pub(crate) fn set_word(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Sets a word, for a header that is being made.
    pub(crate) fn with(mut self, at: usize, value: u32) -> Self {
        self.set_word(at, value);
        self
    }

    /// `DataSegmentLength`, without padding.
    pub(crate) fn data_length(&self) -> usize {
        be32(&self.0, 4) as usize & 0x00ff_ffff
    }

    /// Sets `DataSegmentLength`, and no additional header segments.
    pub(crate) fn set_data_length(&mut self, length: usize) {
        self.set_word(4, length as u32 & 0x00ff_ffff);
    }

    /// The CDB of a SCSI command.
    pub(crate) fn cdb(&self) -> [u8; 16] {
        *self.0.last_chunk().expect("a header is longer than a CDB")
    }
}

/// Bytes with the padding that follows them.
pub(crate) fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// CRC32C of a data segment, its padding of zeros included (RFC 7143 13.1).
pub(crate) fn data_digest(data: &[u8]) -> u32 {
    let digest = crc32c::crc32c(data);
    match padded(data.len()) - data.len() {
        0 => digest,
        padding => crc32c::crc32c_append(digest, &[0; 4][..padding]),
    }
}

/// The digest that follows what it is of: least significant byte first.
pub(crate) fn digest_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(bytes, at))
}

fn array<const LENGTH: usize>(bytes: &[u8], at: usize) -> [u8; LENGTH] {
    *bytes[at..].first_chunk().expect("the caller knows the length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_data_has_three_bytes_and_leaves_the_fourth_alone() {
        let mut header = Header::new(opcode::DATA_OUT, FINAL);
        header.set_data_length(0x01_0203);
        assert_eq!(header.0[4..8], [0, 1, 2, 3]);
        header.0[4] = 9;
        assert_eq!(header.data_length(), 0x01_0203);
        assert!(header.is_final() && !header.is_immediate());
    }

    #[test]
    fn a_data_digest_covers_the_padding() {
        assert_eq!(data_digest(b"12345678"), crc32c::crc32c(b"12345678"));
        assert_eq!(data_digest(b"12345"), crc32c::crc32c(b"12345\0\0\0"));
    }
}
