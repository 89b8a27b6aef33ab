//! Data compressed on the wire: docs/link.md, "Compression".
//!
//! A frame is compressed after all else is done with it, when it leaves, and is what it was again before anything looks at it: its checksum,
//! what it takes of the window and what it answers are those of the data as it was made.
//!
//! Both ways are bounded before they begin. The header says how long the data was, no longer than it may be without compression;
//! so much memory is made, and the data must fill it to the byte.

use crate::{
    frame::{Encoded, FrameError},
    header::{HEADER_BYTES, Header, LZ4, ZSTD},
    message::Hello,
};
use bytes::{Bytes, BytesMut};
use std::fmt;
use zstd::bulk::{Compressor, Decompressor};

/// Shorter data is never compressed.
pub const LEAST_PACKED: usize = 512;
/// Compressed data that is not shorter by this part is sent as it was: reading it would cost more than it spares.
const LEAST_SPARED: usize = 16;
/// The level of zstd: the quickest of those that it counts from 1.
const LEVEL: i32 = 1;
/// After so many frames in a row that compression did not make shorter, not every one is tried.
const PATIENCE: u32 = 4;
/// Then twice as many as before pass untried each time, up to two to this power.
const LONGEST_PAUSE: u32 = 6;

/// What data is compressed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// LZ4, its block format.
    Lz4,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Lz4, Self::Zstd];
    /// Features of a system that reads every one.
    pub const FEATURES: u32 = Hello::LZ4 | Hello::ZSTD;

    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// A system that says so in its Hello reads it.
    pub fn feature(self) -> u32 {
        match self {
            Self::Lz4 => Hello::LZ4,
            Self::Zstd => Hello::ZSTD,
        }
    }

    /// The flag of the header.
    pub(crate) fn flag(self) -> u8 {
        match self {
            Self::Lz4 => LZ4,
            Self::Zstd => ZSTD,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Compresses what leaves on one connection, where that makes it shorter.
#[derive(Default)]
pub struct Packer {
    zstd: Option<Compressor<'static>>,
    /// What the compressed data is made in.
    room: Vec<u8>,
    /// Frames in a row that did not become shorter.
    misses: u32,
    /// Frames that are not tried.
    pause: u32,
}

impl Packer {
    /// The frame, compressed if that pays.
    pub fn pack(&mut self, by: Compression, frame: Encoded) -> Encoded {
        if frame.data.len() < LEAST_PACKED {
            return frame;
        }
        let Ok(Some(header)) = Header::decode(&frame.head) else {
            return frame;
        };
        if !header.kind.may_have(by.flag()) || header.compression().is_some() {
            return frame;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return frame;
        }
        let Some(data) = self.compress(by, &frame.data) else {
            self.misses = (self.misses + 1).min(PATIENCE + LONGEST_PAUSE);
            self.pause = (1 << self.misses.saturating_sub(PATIENCE)) - 1;
            return frame;
        };
        self.misses = 0;
        let header = Header {
            flags: header.flags | by.flag(),
            length: header.kind.fields() + data.len(),
            unpacked: header.length,
            ..header
        };
        let mut head = BytesMut::from(frame.head);
        head[..HEADER_BYTES].copy_from_slice(&header.encode());
        Encoded {
            head: head.freeze(),
            data,
        }
    }

    /// `None`: it does not become short enough.
    fn compress(&mut self, by: Compression, data: &[u8]) -> Option<Bytes> {
        let most = data.len() - data.len() / LEAST_SPARED;
        let room = match by {
            Compression::Lz4 => lz4_flex::block::get_maximum_output_size(data.len()),
            Compression::Zstd => most,
        };
        if self.room.len() < room {
            self.room.resize(room, 0);
        }
        let room = &mut self.room[..room];
        let length = match by {
            Compression::Lz4 => lz4_flex::block::compress_into(data, room).ok()?,
            Compression::Zstd => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none.insert(Compressor::new(LEVEL).ok()?),
                };
                zstd.compress_to_buffer(data, room).ok()?
            }
        };
        (length <= most).then(|| Bytes::copy_from_slice(&room[..length]))
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("misses", &self.misses)
            .field("pause", &self.pause)
            .finish_non_exhaustive()
    }
}

/// Makes compressed payloads of one connection what they were.
pub struct Unpacker {
    features: u32,
    zstd: Option<Decompressor<'static>>,
}

impl Unpacker {
    /// For a side that said these features in its Hello.
    pub fn new(features: u32) -> Self {
        Self { features, zstd: None }
    }

    /// A frame with this header may come.
    pub(crate) fn check(&self, header: &Header) -> Result<(), FrameError> {
        match header.compression() {
            Some(by) if self.features & by.feature() == 0 => Err(FrameError::NotAgreed {
                kind: header.kind,
                by,
            }),
            _ => Ok(()),
        }
    }

    /// The payload of a frame with this header as it was.
    pub(crate) fn unpack(&mut self, header: &Header, payload: Bytes) -> Result<Bytes, FrameError> {
        let Some(by) = header.compression() else {
            return Ok(payload);
        };
        let (fields, packed) = payload.split_at(header.kind.fields());
        let mut whole = vec![0; header.unpacked];
        let (head, data) = whole.split_at_mut(fields.len());
        head.copy_from_slice(fields);
        if self.decompress(by, packed, data) != Some(data.len()) {
            return Err(FrameError::Unpack {
                kind: header.kind,
                by,
                unpacked: header.unpacked,
                id: header.id,
            });
        }
        Ok(whole.into())
    }

    /// How many bytes it was; `None`: it is damaged, or was longer than there is room for.
    fn decompress(&mut self, by: Compression, packed: &[u8], data: &mut [u8]) -> Option<usize> {
        match by {
            Compression::Lz4 => lz4_flex::block::decompress_into(packed, data).ok(),
            Compression::Zstd => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none.insert(Decompressor::new().ok()?),
                };
                zstd.decompress_to_buffer(packed, data).ok()
            }
        }
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker")
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
