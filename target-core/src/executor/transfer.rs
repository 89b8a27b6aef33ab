//! READ, WRITE, VERIFY, WRITE AND VERIFY, WRITE SAME, SYNCHRONIZE CACHE, PRE-FETCH.

use bytes::Bytes;
use scsi_model::status::Status;

use super::{Outcome, Task, wanted};
use crate::{
    buffer::Buffer,
    volume::{Fast, IoError},
};

/// Work on ranges of any length is done in pieces of at most this many bytes.
const PIECE: u64 = 1 << 20;
/// PRE-FETCH reads no more than this ahead.
const PREFETCH_LIMIT: u64 = 16 << 20;

impl Task {
    pub(super) async fn read(&self, offset: u64, length: u64, fua: bool) -> Result<Outcome, IoError> {
        if fua {
            self.volume().flush().await?;
        }
        let data = self
            .fetch(
                offset,
                wanted(length, self.data_in_limit, self.identity.block_size),
            )
            .await?;
        Ok(Outcome::Data(data.freeze(), length))
    }

    pub(super) async fn write(&self, offset: u64, length: u64, fua: bool) -> Result<Outcome, IoError> {
        self.put(offset, self.data_out.slice(..length as usize), fua)
            .await?;
        Ok(Outcome::Good)
    }

    /// Reads what is not a hole.
    pub(super) async fn verify(&self, offset: u64, length: u64) -> Result<Outcome, IoError> {
        let end = offset + length;
        let mut at = offset;
        while at < end {
            for extent in self.volume().extents(at, 64).await? {
                let stop = (extent.offset + extent.length).min(end);
                while extent.mapped && at < stop {
                    at += self.fetch(at, (stop - at).min(PIECE)).await?.len() as u64;
                }
                at = at.max(stop);
                if at == end {
                    break;
                }
            }
        }
        Ok(Outcome::Good)
    }

    pub(super) async fn compare(&self, offset: u64, length: u64, repeat: bool) -> Result<Outcome, IoError> {
        let block = u64::from(self.identity.block_size);
        let mut done = 0;
        while done < length {
            let piece = (length - done).min(PIECE);
            let medium = self.fetch(offset + done, piece).await?;
            let different = if repeat {
                let pattern = &self.data_out[..block as usize];
                medium
                    .chunks(block as usize)
                    .enumerate()
                    .find_map(|(index, chunk)| {
                        first_difference(chunk, pattern).map(|at| index as u64 * block + at)
                    })
            } else {
                first_difference(&medium, &self.data_out[done as usize..(done + piece) as usize])
            };
            if let Some(at) = different {
                return Err(IoError::Miscompare { offset: done + at });
            }
            done += piece;
        }
        Ok(Outcome::Good)
    }

    pub(super) async fn write_verify(
        &self,
        offset: u64,
        length: u64,
        compare: bool,
    ) -> Result<Outcome, IoError> {
        self.put(offset, self.data_out.slice(..length as usize), true)
            .await?;
        if compare {
            self.compare(offset, length, false).await
        } else {
            self.verify(offset, length).await
        }
    }

    pub(super) async fn write_same(&self, offset: u64, length: u64) -> Result<Outcome, IoError> {
        let mut pattern = Buffer::new(length.min(PIECE) as usize);
        for block in pattern.chunks_mut(self.data_out.len()) {
            block.copy_from_slice(&self.data_out[..block.len()]);
        }
        let pattern = pattern.freeze();
        let mut done = 0;
        while done < length {
            let piece = (length - done).min(PIECE);
            self.put(offset + done, pattern.slice(..piece as usize), false)
                .await?;
            done += piece;
        }
        Ok(Outcome::Good)
    }

    /// With IMMED the answer comes first. A flush that then fails is remembered by the disk, and the next one tells.
    pub(super) async fn flush(&self, immediate: bool) -> Result<Outcome, IoError> {
        let flush = self.volume().flush();
        if immediate {
            tokio::spawn(flush);
        } else {
            flush.await?;
        }
        Ok(Outcome::Good)
    }

    pub(super) async fn prefetch(&self, offset: u64, length: u64) -> Result<Outcome, IoError> {
        let end = offset + length.min(PREFETCH_LIMIT);
        let mut at = offset;
        while at < end {
            at += self.fetch(at, (end - at).min(PIECE)).await?.len() as u64;
        }
        Ok(Outcome::Status(Status::ConditionMet))
    }

    /// Reads whole blocks.
    pub(super) async fn fetch(&self, offset: u64, length: u64) -> Result<Buffer, IoError> {
        let mut buffer = Buffer::new(length as usize);
        if length == 0 {
            return Ok(buffer);
        }
        match self.volume().try_read(offset, &mut buffer) {
            Fast::Done(result) => result.map(|()| buffer),
            Fast::Later => self.volume().read(offset, buffer).await,
        }
    }

    /// Writes whole blocks.
    async fn put(&self, offset: u64, data: Bytes, fua: bool) -> Result<(), IoError> {
        let fua = fua || self.write_through;
        if data.is_empty() {
            return Ok(());
        }
        match self.volume().try_write(offset, &data, fua) {
            Fast::Done(result) => result,
            Fast::Later => self.volume().write(offset, data, fua).await,
        }
    }
}

/// Index of the first byte in which two slices of one length differ.
pub(super) fn first_difference(a: &[u8], b: &[u8]) -> Option<u64> {
    if a == b {
        return None;
    }
    a.iter().zip(b).position(|(a, b)| a != b).map(|at| at as u64)
}
