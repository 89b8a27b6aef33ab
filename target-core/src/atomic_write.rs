//! WRITE ATOMIC on a unit: recorded, written, forgotten; see [`crate::redo`].

use bytes::Bytes;

use crate::{
    buffer::Buffer,
    logical_unit::{LogicalUnit, RecoverError},
    redo::Record,
    volume::IoError,
};

impl LogicalUnit {
    /// Writes again what a WRITE ATOMIC may have left in pieces. To be called before the unit serves.
    pub async fn recover(&self) -> Result<(), RecoverError> {
        let Some(redo) = self.redo() else { return Ok(()) };
        let Some(record) = redo.load()? else { return Ok(()) };
        let end = record.offset.saturating_add(record.data.len() as u64);
        if end > self.volume().info().bytes() {
            tracing::warn!(unit = ?self, "a redo record is for more than the volume has: it is not used");
        } else {
            tracing::info!(unit = ?self, offset = record.offset, length = record.data.len(), "an atomic write is finished");
            match self.put(record.offset, record.data).await {
                // It has become a mirror since, and what it holds is the standard's.
                Ok(()) | Err(IoError::NotReady) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(redo.clear().await?)
    }

    /// All of it or nothing, stably. The unit is quiet.
    pub(crate) async fn write_atomic(&self, offset: u64, data: Bytes) -> Result<(), IoError> {
        let Some(redo) = self.redo() else {
            return self.put(offset, data).await;
        };
        let before = self
            .volume()
            .clone()
            .read(offset, Buffer::new(data.len()))
            .await?
            .freeze();
        let record = Record {
            offset,
            data: data.clone(),
        };
        let mut result = redo.record(record).await;
        if result.is_ok() {
            result = self.put(offset, data).await;
            if result.is_err()
                && let Err(error) = self.put(offset, before).await
            {
                tracing::error!(unit = ?self, %error, "an atomic write failed, and so did putting the old content back");
            }
        }
        // Also after a failed record: it may be valid for all we know.
        if let Err(error) = redo.clear().await {
            tracing::error!(unit = ?self, %error, "a redo record cannot be made void: the unit takes no writes any more");
            self.with_device(scsi_model::device_server::DeviceServer::refuse_writes);
            return Err(error);
        }
        result
    }

    /// With no other write in between, stably.
    async fn put(&self, offset: u64, data: Bytes) -> Result<(), IoError> {
        let length = data.len() as u64;
        self.volume()
            .clone()
            .update(offset, length, Box::new(move |_| Ok(data)), true)
            .await
    }
}
