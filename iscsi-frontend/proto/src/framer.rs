//! Bytes to PDUs and back (RFC 7143 11.1, 11.2).
//!
//! Receiving: [`Framer::survey`] tells how many whole PDUs are at the front of the received bytes, and how long the
//! next one will be, after checking every limit and header digest: nothing is allocated for a length that is not
//! allowed. The caller takes the whole PDUs off as one piece and walks it with [`Framer::open`], which yields views.
//!
//! Sending: [`Outbound`] collects the PDUs of a batch as slices for one vectored write. Headers, digests, padding and
//! short data go into one arena; long data is referred to where it lies.

mod outbound;

pub use outbound::Outbound;

use std::ops::Range;

use zerocopy::FromBytes;

use crate::{
    bhs::{BHS_LENGTH, Bhs},
    digest::{DIGEST_LENGTH, crc32c, crc32c_of, padding},
};

/// How PDUs look on a connection in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framer {
    /// HeaderDigest=CRC32C is in force.
    pub header_digest: bool,
    /// DataDigest=CRC32C is in force.
    pub data_digest: bool,
    /// The MaxRecvDataSegmentLength that we declared, in bytes.
    pub max_data_segment: u32,
    /// Most bytes of additional header segments.
    pub max_ahs: usize,
}

/// Additional header segments of at most this many bytes are accepted: an extended CDB of 260 bytes (the largest
/// SPC-4 4.2.3 allows) and a bidirectional read length.
pub const MAX_AHS: usize = 256;

/// Why bytes are not a PDU we take. The connection cannot go on after any of them: the place of the next header is
/// not known, or not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header digest does not match.
    #[error("header digest error")]
    HeaderDigest,
    /// More data than we declared to take.
    #[error("data segment of {length} bytes, MaxRecvDataSegmentLength is {limit}")]
    DataSegmentTooLong {
        /// DataSegmentLength.
        length: u32,
        /// What we declared.
        limit: u32,
    },
    /// More additional header segments than any command we know needs.
    #[error("additional header segments of {length} bytes, {limit} at most")]
    AhsTooLong {
        /// TotalAHSLength in bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
}

/// What is at the front of the received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Survey {
    /// Length of all whole PDUs together.
    pub whole: usize,
    /// How many bytes from `whole` on the next PDU needs as far as is known: a header at least.
    pub next: usize,
}

/// The parts of a PDU whose header segments are all there, and perhaps not more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front {
    /// Length of the header segments, with their digest.
    pub header: usize,
    /// Length of the data segment, without padding.
    pub data: usize,
    /// Length of the padding and digest behind it.
    pub tail: usize,
}

/// One PDU, seen in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Basic header segment.
    pub bhs: &'a Bhs,
    /// Additional header segments.
    pub ahs: &'a [u8],
    /// Where the data segment is, without padding.
    pub data: Range<usize>,
    /// The data digest matches, or there is none.
    pub data_intact: bool,
    /// Length of the PDU with digests and padding: where the next one starts.
    pub length: usize,
}

impl Framer {
    /// As the login phase begins: no digests, 8192 bytes (RFC 7143 13.12).
    pub fn login() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            max_data_segment: 8192,
            max_ahs: 0,
        }
    }

    /// Measures what is at the front of `bytes`, which start with a header.
    pub fn survey(&self, bytes: &[u8]) -> Result<Survey, FrameError> {
        let mut whole = 0;
        loop {
            let rest = &bytes[whole..];
            let next = self.measure(rest)?;
            if next > rest.len() {
                return Ok(Survey { whole, next });
            }
            whole += next;
        }
    }

    /// How many bytes the PDU at the front of `bytes` needs, as far as these can tell: more than there are when it
    /// is not whole.
    fn measure(&self, bytes: &[u8]) -> Result<usize, FrameError> {
        let Ok((bhs, _)) = Bhs::ref_from_prefix(bytes) else {
            return Ok(BHS_LENGTH);
        };
        let ahs = bhs.ahs_length();
        if ahs > self.max_ahs {
            return Err(FrameError::AhsTooLong {
                length: ahs,
                limit: self.max_ahs,
            });
        }
        let mut header = BHS_LENGTH + ahs;
        if self.header_digest {
            // Nothing in a header is to be believed before its digest is checked.
            header += DIGEST_LENGTH;
            match bytes.get(header - DIGEST_LENGTH..header) {
                None => return Ok(header),
                Some(digest) if digest != crc32c(&bytes[..header - DIGEST_LENGTH]) => {
                    return Err(FrameError::HeaderDigest);
                }
                Some(_) => {}
            }
        }
        let data = bhs.data_segment_length();
        if data > self.max_data_segment {
            return Err(FrameError::DataSegmentTooLong {
                length: data,
                limit: self.max_data_segment,
            });
        }
        Ok(header + self.data_and_digest(data as usize))
    }

    /// The header of the PDU at the front of `bytes`, which [`Framer::survey`] has looked at, and its parts; `None` while its header
    /// segments are not all there.
    pub fn front<'a>(&self, bytes: &'a [u8]) -> Option<(&'a Bhs, Front)> {
        let (bhs, _) = Bhs::ref_from_prefix(bytes).ok()?;
        let header = self.header_length(bhs);
        let data = bhs.data_segment_length() as usize;
        let tail = self.data_and_digest(data) - data;
        (bytes.len() >= header).then_some((bhs, Front { header, data, tail }))
    }

    /// Does the digest in the `tail` of a PDU fit its data and padding? Always, when there is none.
    pub fn is_intact(&self, data: &[u8], tail: &[u8]) -> bool {
        match tail.split_last_chunk::<DIGEST_LENGTH>() {
            Some((padding, digest)) if self.data_digest => crc32c_of(&[data, padding]) == *digest,
            _ => true,
        }
    }

    /// The PDU at the front of `bytes`, which [`Framer::survey`] has found whole; `None` if it is not.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Option<Frame<'a>> {
        let (bhs, _) = Bhs::ref_from_prefix(bytes).ok()?;
        let ahs = bytes.get(BHS_LENGTH..BHS_LENGTH + bhs.ahs_length())?;
        let start = self.header_length(bhs);
        let data = start..start + bhs.data_segment_length() as usize;
        let length = start + self.data_and_digest(data.len());
        let segment = bytes.get(start..length)?;
        let data_intact = !self.data_digest || segment.is_empty() || {
            let (padded, digest) = segment.split_at(segment.len() - DIGEST_LENGTH);
            crc32c(padded) == digest
        };
        Some(Frame {
            bhs,
            ahs,
            data,
            data_intact,
            length,
        })
    }

    /// Length of the header segments with their digest.
    fn header_length(&self, bhs: &Bhs) -> usize {
        BHS_LENGTH + bhs.ahs_length() + if self.header_digest { DIGEST_LENGTH } else { 0 }
    }

    /// Length of a data segment with its padding and digest.
    fn data_and_digest(&self, data: usize) -> usize {
        match data {
            0 => 0,
            _ => data + padding(data) + if self.data_digest { DIGEST_LENGTH } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests;
