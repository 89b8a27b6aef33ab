//! A volume that follows another system's, for that system: what comes over the link is I/O like a host's, and passes where hosts are
//! refused.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use replication_engine::effects::HostIo;
use target_core::{
    buffer::Buffer,
    gate::OwnedPass,
    volume::{Extent, IoError, Volume},
};

use super::{PairedVolume, byte_range, with_mapped};
use crate::{
    array::Array,
    ops::{Op, OpFuture, Payload},
};

impl PairedVolume {
    /// Its bytes.
    pub(crate) async fn read_by_link(&self, offset: u64, buffer: Buffer) -> Result<Buffer, IoError> {
        let place = (offset, buffer.len() as u64);
        self.by_link(place, HostIo::Read, Payload::Read(Some(buffer)))
            .await?
            .ok_or_else(|| IoError::Internal("a read ended without its data".into()))
    }

    /// Writes to it.
    pub(crate) async fn write_by_link(&self, offset: u64, data: Bytes) -> Result<(), IoError> {
        let place = (offset, data.len() as u64);
        let _turns = self.wait_for_room(place.1, true).await;
        let (pass, array) = self.enter().await?;
        let array = array.ok_or(IoError::NotReady)?;
        if self.write_passing(&array, offset, &data, true).await {
            return Ok(());
        }
        self.submit_by_link((pass, array), place, HostIo::Write, Payload::Data(data))
            .await
            .map(drop)
    }

    /// Writes to it, if that has nothing in its way; otherwise nothing counts as done.
    pub(crate) fn try_write_by_link(&self, offset: u64, data: &Bytes) -> bool {
        let Some(_pass) = self.gate.enter() else {
            return false;
        };
        if !self.member.load(Ordering::Acquire) || !self.has_room() {
            return false;
        }
        let array = self.array.upgrade();
        array.is_some_and(|array| self.try_passing(&array, offset, data, true))
    }

    /// Zeros it.
    pub(crate) async fn zero_by_link(&self, offset: u64, length: u64, unmap: bool) -> Result<(), IoError> {
        let payload = Payload::Zero { unmap };
        self.by_link((offset, length), HostIo::Write, payload)
            .await
            .map(drop)
    }

    /// Makes stable what was written.
    pub(crate) async fn flush_by_link(&self) -> Result<(), IoError> {
        self.by_link((0, 0), HostIo::Flush, Payload::Flush)
            .await
            .map(drop)
    }

    /// What is data in it and what a hole.
    pub(crate) async fn extents_by_link(&self, array: &Array, offset: u64) -> Result<Vec<Extent>, IoError> {
        let limit = 2;
        let extents = Arc::clone(&self.plain).extents(offset, limit).await?;
        Ok(with_mapped(&extents, &array.elsewhere(self.id()), limit))
    }

    async fn by_link(
        &self,
        (offset, length): (u64, u64),
        io: HostIo,
        payload: Payload,
    ) -> Result<Option<Buffer>, IoError> {
        let (pass, array) = self.enter().await?;
        let array = array.ok_or(IoError::NotReady)?;
        self.submit_by_link((pass, array), (offset, length), io, payload)
            .await
    }

    fn submit_by_link(
        &self,
        (pass, array): (OwnedPass, Arc<Array>),
        (offset, length): (u64, u64),
        io: HostIo,
        payload: Payload,
    ) -> OpFuture {
        let range = byte_range(offset, length);
        let op = Arc::new(Op::new(self.id(), range, payload, Some(pass)));
        array.host(Arc::clone(&op), io, false, true);
        OpFuture(op)
    }
}
