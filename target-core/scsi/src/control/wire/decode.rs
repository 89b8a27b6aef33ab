//! Reading what C0h returned.

use super::{
    ASYNC, CAPABILITIES, ETA_UNKNOWN, EXTENT, FORMAT_VERSION, FULL_COPY, HELD, HISTORY, INCONSISTENT,
    LINK_UP, LIST_HEADER, MIRROR_READY, NOT_EXPORTED, PAIR, READ_ONLY, READY, STRICTLY_HELD, SUMMARY,
    TABLE_ENTRY, THIN, VOLUME,
};
use crate::{
    big_endian::field,
    control::{
        Capabilities, CopyMode, CopyTableEntry, OnLinkLoss, PairDescriptor, PendingExtent, Preview, Reason,
        Reply, Request, SystemId, VerifySummary, VolumeDescriptor, VolumeNumber,
    },
};

/// A reply, and whether it is all there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedReply {
    /// What was in the data.
    pub reply: Reply,
    /// ALLOCATION LENGTH that would hold everything. More than was received means that a list is cut: ask again
    /// with this length, or, for READ PENDING MAP, go on with SELECT bit 7.
    pub needed: usize,
}

/// Bytes that are no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Not even the fixed part is there.
    #[error("the reply is {got} bytes long, at least {wanted} are needed")]
    Short {
        /// Bytes received.
        got: usize,
        /// Bytes of the fixed part.
        wanted: usize,
    },
    /// A later format.
    #[error("the reply has format version {0}, this program knows {FORMAT_VERSION}")]
    Version(u8),
    /// A field with a value that the format does not have.
    #[error("byte {at} of the reply holds {value:#04x}, which means nothing")]
    Value {
        /// Offset into the reply.
        at: usize,
        /// What is there.
        value: u8,
    },
    /// A text that is none.
    #[error("the text at byte {0} of the reply is not valid")]
    Text(usize),
}

/// Reads the data that `request` brought.
pub fn decode_reply(request: &Request, data: &[u8]) -> Result<DecodedReply, ReplyError> {
    let reply = match request {
        Request::Out { .. } => {
            return Ok(DecodedReply {
                reply: Reply::Done,
                needed: 0,
            });
        }
        Request::Query(_) => Reply::Pairs(list(data, PAIR, decode_pair)?),
        Request::Verify { .. } => Reply::Verify(decode_verify(data)?),
        Request::Setup => Reply::Volumes(list(data, VOLUME, decode_volume)?),
        Request::ReportCapabilities => Reply::Capabilities(decode_capabilities(data)?),
        Request::ReadPendingMap { .. } => {
            Reply::Pending(list(data, EXTENT, |bytes, _| Ok(decode_extent(bytes)))?)
        }
        Request::CopyManagementTable(_) => Reply::Table(list(data, TABLE_ENTRY, decode_table_entry)?),
        Request::Preview { .. } => Reply::Preview(decode_preview(data)?),
    };
    Ok(DecodedReply {
        reply,
        needed: 4 + field(data, 0..4) as usize,
    })
}

fn at_least(data: &[u8], wanted: usize) -> Result<(), ReplyError> {
    if data.len() < wanted {
        return Err(ReplyError::Short {
            got: data.len(),
            wanted,
        });
    }
    Ok(())
}

/// The whole descriptors that are there. A later version may have longer ones: the width is the header's.
fn list<T>(
    data: &[u8],
    least: usize,
    decode: impl Fn(&[u8], usize) -> Result<T, ReplyError>,
) -> Result<Vec<T>, ReplyError> {
    at_least(data, LIST_HEADER)?;
    if data[4] != FORMAT_VERSION {
        return Err(ReplyError::Version(data[4]));
    }
    let width = field(data, 6..8) as usize;
    if width < least {
        return Err(ReplyError::Value {
            at: 7,
            value: data[7],
        });
    }
    let count = field(data, 8..12) as usize;
    let descriptors = data[LIST_HEADER..].chunks_exact(width).take(count).enumerate();
    descriptors
        .map(|(index, bytes)| decode(bytes, LIST_HEADER + index * width))
        .collect()
}

fn decode_pair(bytes: &[u8], at: usize) -> Result<PairDescriptor, ReplyError> {
    let remote = bytes[8] != 0;
    let bits = bytes[11];
    let eta = field(bytes, 64..68) as u32;
    let mode = if bits & ASYNC == 0 {
        CopyMode::Sync
    } else {
        CopyMode::Async
    };
    Ok(PairDescriptor {
        primary: VolumeNumber(field(bytes, 0..4) as u32),
        mirror: VolumeNumber(field(bytes, 4..8) as u32),
        peer: remote.then(|| decode_system(bytes, 80, at)).transpose()?,
        role: bytes[9],
        state: bytes[10],
        held: bits & HELD != 0,
        strictly_held: bits & STRICTLY_HELD != 0,
        mirror_ready: bits & MIRROR_READY != 0,
        history: bits & HISTORY != 0,
        full: bits & FULL_COPY != 0,
        link_up: remote.then_some(bits & LINK_UP != 0),
        mode: remote.then_some(mode),
        mirror_inconsistent: bits & INCONSISTENT != 0,
        track_size: field(bytes, 12..16) as u32,
        tracks: field(bytes, 16..24),
        mirror_invalid: field(bytes, 24..32),
        primary_invalid: field(bytes, 32..40),
        remaining: field(bytes, 40..48),
        split_at_ms: field(bytes, 48..56),
        rate: field(bytes, 56..64),
        eta_seconds: (eta != ETA_UNKNOWN).then_some(eta),
        reason: decode_reason(bytes[68]).ok_or(ReplyError::Value {
            at: at + 68,
            value: bytes[68],
        })?,
        on_link_loss: remote.then_some(if bytes[69] & 1 == 0 {
            OnLinkLoss::Mark
        } else {
            OnLinkLoss::Refuse
        }),
        handle: remote.then(|| VolumeNumber(field(bytes, 72..76) as u32)),
    })
}

fn decode_reason(code: u8) -> Option<Reason> {
    Some(match code {
        0 => Reason::None,
        1 => Reason::LinkDown,
        2 => Reason::MirrorIo,
        3 => Reason::PrimaryIo,
        4 => Reason::CrashRecovery,
        5 => Reason::PeerRefused,
        _ => return None,
    })
}

fn decode_system(bytes: &[u8], offset: usize, at: usize) -> Result<SystemId, ReplyError> {
    let text = decode_text(bytes, offset, 16, at)?;
    SystemId::new(text).map_err(|_| ReplyError::Text(at + offset))
}

/// Text without the spaces and zeros after it.
fn decode_text(bytes: &[u8], offset: usize, width: usize, at: usize) -> Result<String, ReplyError> {
    let bytes = &bytes[offset..offset + width];
    let text = std::str::from_utf8(bytes).map_err(|_| ReplyError::Text(at + offset))?;
    Ok(text.trim_end_matches([' ', '\0']).to_owned())
}

fn decode_verify(data: &[u8]) -> Result<VerifySummary, ReplyError> {
    at_least(data, SUMMARY)?;
    Ok(VerifySummary {
        selected: field(data, 4..8) as u32,
        in_state: field(data, 8..12) as u32,
        settled: field(data, 12..16) as u32,
        invalid_tracks: field(data, 16..24),
        lowest_share: field(data, 24..28) as u32,
    })
}

fn decode_volume(bytes: &[u8], at: usize) -> Result<VolumeDescriptor, ReplyError> {
    let lun = field(bytes, 56..58) as u16;
    Ok(VolumeDescriptor {
        number: VolumeNumber(field(bytes, 0..4) as u32),
        mirror_class: bytes[4] != 0,
        ready: bytes[5] & READY != 0,
        read_only: bytes[5] & READ_ONLY != 0,
        thin: bytes[5] & THIN != 0,
        pairs: field(bytes, 6..8) as u16,
        blocks: field(bytes, 8..16),
        block_size: field(bytes, 16..20) as u32,
        track_size: field(bytes, 20..24) as u32,
        naa: std::array::from_fn(|index| bytes[24 + index]),
        serial: decode_text(bytes, 40, 16, at)?,
        lun: (lun != NOT_EXPORTED).then_some(lun),
        name: decode_text(bytes, 64, 32, at)?,
    })
}

fn decode_capabilities(data: &[u8]) -> Result<Capabilities, ReplyError> {
    at_least(data, CAPABILITIES)?;
    if data[4] != FORMAT_VERSION {
        return Err(ReplyError::Version(data[4]));
    }
    Ok(Capabilities {
        system: decode_system(data, 8, 0)?,
        pairs_per_volume: field(data, 24..28) as u32,
        list_descriptors: field(data, 28..32) as u32,
        track_size: field(data, 32..36) as u32,
        version: decode_text(data, 36, 16, 0)?,
    })
}

fn decode_extent(bytes: &[u8]) -> PendingExtent {
    PendingExtent {
        lba: field(bytes, 0..8),
        blocks: field(bytes, 8..16),
    }
}

fn decode_table_entry(bytes: &[u8], at: usize) -> Result<CopyTableEntry, ReplyError> {
    Ok(CopyTableEntry {
        remote: bytes[0] != 0,
        primary: bytes[1] != 0,
        status: bytes[2],
        other: VolumeNumber(field(bytes, 4..8) as u32),
        system: decode_system(bytes, 8, at)?,
        pending: field(bytes, 24..32),
        bytes_per_bit: field(bytes, 32..36) as u32,
    })
}

fn decode_preview(data: &[u8]) -> Result<Preview, ReplyError> {
    at_least(data, SUMMARY)?;
    Ok(Preview {
        tracks: field(data, 8..16),
        bytes: field(data, 16..24),
    })
}
