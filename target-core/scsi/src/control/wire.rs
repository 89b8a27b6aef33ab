//! What C0h returns, byte by byte (docs/control-cdb.md, "Service actions of C0h"): [`Reply`] to bytes for the
//! target, bytes to [`Reply`] for the command line.

mod decode;

pub use decode::{DecodedReply, ReplyError, decode_reply};

use super::{
    Capabilities, CopyMode, CopyTableEntry, OnLinkLoss, PairDescriptor, PendingExtent, Preview, Reply,
    VerifySummary, VolumeDescriptor, VolumeNumber,
};
use crate::{big_endian::push_padded, plan::ControlCall};

const FORMAT_VERSION: u8 = 1;
const LIST_HEADER: usize = 16;
const PAIR: usize = 96;
const VOLUME: usize = 96;
const EXTENT: usize = 16;
const TABLE_ENTRY: usize = 64;
const CAPABILITIES: usize = 64;
const SUMMARY: usize = 32;

const HELD: u8 = 1 << 0;
const STRICTLY_HELD: u8 = 1 << 1;
const MIRROR_READY: u8 = 1 << 2;
const HISTORY: u8 = 1 << 3;
const FULL_COPY: u8 = 1 << 4;
const LINK_UP: u8 = 1 << 5;
const ASYNC: u8 = 1 << 6;
const INCONSISTENT: u8 = 1 << 7;

const READY: u8 = 1 << 0;
const READ_ONLY: u8 = 1 << 1;
const THIN: u8 = 1 << 2;

const NOT_EXPORTED: u16 = 0xFFFF;
const ETA_UNKNOWN: u32 = 0xFFFF_FFFF;

/// A reply in bytes, not yet cut at the allocation length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedReply {
    /// The data; empty for an OUT command.
    pub data: Vec<u8>,
    /// READ PENDING MAP: the LBA after the last extent that fits the allocation length.
    pub next_lba: u64,
}

/// Writes the reply to `call`. `lun_of` tells through which LUN the receiving target exports a volume.
pub fn encode_reply(
    reply: &Reply,
    call: &ControlCall,
    lun_of: &dyn Fn(VolumeNumber) -> Option<u16>,
) -> EncodedReply {
    let data = match reply {
        Reply::Done => Vec::new(),
        Reply::Pairs(pairs) => list(PAIR, pairs, encode_pair),
        Reply::Verify(summary) => encode_verify(summary),
        Reply::Volumes(volumes) => list(VOLUME, volumes, |data, volume| {
            encode_volume(data, volume, lun_of);
        }),
        Reply::Capabilities(capabilities) => encode_capabilities(capabilities),
        Reply::Pending(extents) => return encode_pending(extents, call),
        Reply::Table(entries) => list(TABLE_ENTRY, entries, encode_table_entry),
        Reply::Preview(preview) => encode_preview(preview),
    };
    EncodedReply { data, next_lba: 0 }
}

/// The header of 16 bytes, then the descriptors.
fn list<T>(width: usize, items: &[T], mut encode: impl FnMut(&mut Vec<u8>, &T)) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 0, FORMAT_VERSION, 0];
    data.extend((width as u16).to_be_bytes());
    data.extend((items.len() as u32).to_be_bytes());
    data.extend([0; 4]);
    for (index, item) in items.iter().enumerate() {
        encode(&mut data, item);
        data.resize(LIST_HEADER + width * (index + 1), 0);
    }
    finish(data)
}

/// Fills in LENGTH: what follows byte 3.
fn finish(mut data: Vec<u8>) -> Vec<u8> {
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

fn encode_pair(data: &mut Vec<u8>, pair: &PairDescriptor) {
    data.extend(pair.primary.0.to_be_bytes());
    data.extend(pair.mirror.0.to_be_bytes());
    data.extend([
        u8::from(pair.peer.is_some()),
        pair.role,
        pair.state,
        pair_bits(pair),
    ]);
    data.extend(pair.track_size.to_be_bytes());
    for count in [
        pair.tracks,
        pair.mirror_invalid,
        pair.primary_invalid,
        pair.remaining,
        pair.split_at_ms,
        pair.rate,
    ] {
        data.extend(count.to_be_bytes());
    }
    data.extend(pair.eta_seconds.unwrap_or(ETA_UNKNOWN).to_be_bytes());
    data.push(pair.reason as u8);
    data.push(u8::from(pair.on_link_loss == Some(OnLinkLoss::Refuse)));
    data.extend([0; 2]);
    data.extend(pair.handle.map_or(0, |handle| handle.0).to_be_bytes());
    data.extend([0; 4]);
    match &pair.peer {
        Some(peer) => data.extend(peer.to_wire()),
        None => data.extend([b' '; 16]),
    }
}

fn pair_bits(pair: &PairDescriptor) -> u8 {
    set_bits([
        (pair.held, HELD),
        (pair.strictly_held, STRICTLY_HELD),
        (pair.mirror_ready, MIRROR_READY),
        (pair.history, HISTORY),
        (pair.full, FULL_COPY),
        (pair.link_up == Some(true), LINK_UP),
        (pair.mode == Some(CopyMode::Async), ASYNC),
        (pair.mirror_inconsistent, INCONSISTENT),
    ])
}

fn set_bits<const N: usize>(bits: [(bool, u8); N]) -> u8 {
    bits.into_iter()
        .filter(|(set, _)| *set)
        .fold(0, |byte, (_, bit)| byte | bit)
}

fn encode_verify(summary: &VerifySummary) -> Vec<u8> {
    let mut data = vec![0; 4];
    data.extend(summary.selected.to_be_bytes());
    data.extend(summary.in_state.to_be_bytes());
    data.extend(summary.settled.to_be_bytes());
    data.extend(summary.invalid_tracks.to_be_bytes());
    data.extend(summary.lowest_share.to_be_bytes());
    data.push(match summary.in_state {
        0 => 2,
        all if all == summary.selected => 0,
        _ => 1,
    });
    data.resize(SUMMARY, 0);
    finish(data)
}

fn encode_volume(
    data: &mut Vec<u8>,
    volume: &VolumeDescriptor,
    lun_of: &dyn Fn(VolumeNumber) -> Option<u16>,
) {
    let bits = set_bits([
        (volume.ready, READY),
        (volume.read_only, READ_ONLY),
        (volume.thin, THIN),
    ]);
    data.extend(volume.number.0.to_be_bytes());
    data.extend([u8::from(volume.mirror_class), bits]);
    data.extend(volume.pairs.to_be_bytes());
    data.extend(volume.blocks.to_be_bytes());
    data.extend(volume.block_size.to_be_bytes());
    data.extend(volume.track_size.to_be_bytes());
    data.extend(volume.naa);
    push_padded(data, &volume.serial, 16);
    data.extend(
        lun_of(volume.number)
            .or(volume.lun)
            .unwrap_or(NOT_EXPORTED)
            .to_be_bytes(),
    );
    data.extend([0; 6]);
    data.extend(whole_characters(&volume.name, 32).as_bytes());
}

/// The longest prefix of at most `width` bytes that does not cut a character.
fn whole_characters(text: &str, width: usize) -> &str {
    let end = (0..=width.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

fn encode_capabilities(capabilities: &Capabilities) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 0, FORMAT_VERSION, 0, 0, 0];
    data.extend(capabilities.system.to_wire());
    data.extend(capabilities.pairs_per_volume.to_be_bytes());
    data.extend(capabilities.list_descriptors.to_be_bytes());
    data.extend(capabilities.track_size.to_be_bytes());
    push_padded(&mut data, &capabilities.version, 16);
    data.resize(CAPABILITIES, 0);
    finish(data)
}

/// From `continue_at` on. When the allocation length cuts the list, bytes 12 to 15 hold how many extents it has
/// room for.
fn encode_pending(extents: &[PendingExtent], call: &ControlCall) -> EncodedReply {
    let from = call.continue_at;
    let wanted: Vec<PendingExtent> = extents
        .iter()
        .filter(|extent| extent.lba + extent.blocks > from)
        .map(|extent| {
            let lba = extent.lba.max(from);
            PendingExtent {
                lba,
                blocks: extent.lba + extent.blocks - lba,
            }
        })
        .collect();
    let mut data = list(EXTENT, &wanted, |data, extent| {
        data.extend(extent.lba.to_be_bytes());
        data.extend(extent.blocks.to_be_bytes());
    });
    let room = (call.allocation_length as usize).saturating_sub(LIST_HEADER) / EXTENT;
    let returned = room.min(wanted.len());
    if returned < wanted.len() {
        data[12..16].copy_from_slice(&(returned as u32).to_be_bytes());
    }
    let next_lba = wanted[..returned]
        .last()
        .map_or(from, |extent| extent.lba + extent.blocks);
    EncodedReply { data, next_lba }
}

fn encode_table_entry(data: &mut Vec<u8>, entry: &CopyTableEntry) {
    data.extend([u8::from(entry.remote), u8::from(entry.primary), entry.status, 0]);
    data.extend(entry.other.0.to_be_bytes());
    data.extend(entry.system.to_wire());
    data.extend(entry.pending.to_be_bytes());
    data.extend(entry.bytes_per_bit.to_be_bytes());
}

fn encode_preview(preview: &Preview) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 0, 1, 0, 0, 0];
    data.extend(preview.tracks.to_be_bytes());
    data.extend(preview.bytes.to_be_bytes());
    data.resize(SUMMARY, 0);
    finish(data)
}

#[cfg(test)]
mod tests;
