//! Fixed fields, written and read one behind the other, little-endian.

use crate::{
    frame::FrameError,
    header::{HEADER_BYTES, Kind},
};
use bytes::Bytes;

/// Writes fields, behind room for the header.
#[derive(Debug)]
pub(crate) struct Put(Vec<u8>);

impl Default for Put {
    /// With memory for what a Write has, which there are the most of.
    fn default() -> Self {
        Self::of(40)
    }
}

impl Put {
    /// For so many bytes of fields.
    pub(crate) fn of(fields: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + fields);
        bytes.resize(HEADER_BYTES, 0);
        Self(bytes)
    }

    /// The header's room, all zeros, and the fields.
    pub(crate) fn into_head(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u128(&mut self, value: u128) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// ASCII text padded with spaces.
    pub(crate) fn padded(&mut self, text: &str, width: usize) -> &mut Self {
        debug_assert!(text.len() <= width, "what is padded was checked");
        self.bytes(text.as_bytes());
        let end = self.0.len() + width - text.len();
        self.0.resize(end, b' ');
        self
    }
}

/// Reads the fields of one payload. A payload that ends too early is refused by its kind's least length before this
/// is made, or by the one list whose length is a field.
#[derive(Debug)]
pub(crate) struct Take {
    kind: Kind,
    payload: Bytes,
    at: usize,
}

impl Take {
    pub(crate) fn new(kind: Kind, payload: Bytes) -> Self {
        Self { kind, payload, at: 0 }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let bytes = self.payload.get(self.at..).and_then(<[u8]>::first_chunk::<N>);
        let bytes = bytes.ok_or(FrameError::Truncated {
            kind: self.kind,
            at: self.at,
        })?;
        self.at += N;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FrameError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, FrameError> {
        self.array().map(u128::from_le_bytes)
    }

    /// Bytes that are nobody's yet, and so 0.
    pub(crate) fn zeros(&mut self, count: usize) -> Result<(), FrameError> {
        for _ in 0..count {
            let at = self.at;
            if self.u8()? != 0 {
                return Err(FrameError::Reserved { kind: self.kind, at });
            }
        }
        Ok(())
    }

    /// 0 or 1.
    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, FrameError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad(field)),
        }
    }

    /// ASCII text padded with spaces.
    pub(crate) fn padded<const N: usize>(&mut self, field: &'static str) -> Result<String, FrameError> {
        let bytes = self.array::<N>()?;
        let text = str::from_utf8(&bytes).map_err(|_| self.bad(field))?;
        let text = text.trim_end_matches(' ');
        if text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            return Ok(text.to_owned());
        }
        Err(self.bad(field))
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        let rest = self.payload.slice(self.at..);
        self.at = self.payload.len();
        rest
    }

    /// All that is left, as UTF-8.
    pub(crate) fn text(&mut self, field: &'static str) -> Result<String, FrameError> {
        let rest = self.rest();
        let text = str::from_utf8(&rest).map_err(|_| self.bad(field))?;
        Ok(text.to_owned())
    }

    /// This field cannot be what it is.
    pub(crate) fn bad(&self, field: &'static str) -> FrameError {
        FrameError::Field {
            kind: self.kind,
            field,
        }
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), FrameError> {
        if self.at == self.payload.len() {
            return Ok(());
        }
        Err(FrameError::Surplus {
            kind: self.kind,
            at: self.at,
        })
    }
}
