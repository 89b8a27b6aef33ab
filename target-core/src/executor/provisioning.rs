//! Holes: WRITE SAME of zeros, UNMAP, GET LBA STATUS.

use scsi_model::{
    lba_status::{LbaStatusLayout, StatusExtent},
    plan::{Answer, ByteRange},
};

use super::{Outcome, Task};
use crate::volume::IoError;

impl Task {
    pub(super) async fn zero(&self, offset: u64, length: u64, unmap: bool) -> Result<Outcome, IoError> {
        if length > 0 {
            self.volume()
                .zero(offset, length, unmap, self.write_through)
                .await?;
        }
        Ok(Outcome::Good)
    }

    pub(super) async fn unmap(&self, ranges: &[ByteRange]) -> Result<Outcome, IoError> {
        for range in ranges {
            self.zero(range.offset, range.length, true).await?;
        }
        Ok(Outcome::Good)
    }

    pub(super) async fn extents(
        &self,
        offset: u64,
        limit: usize,
        layout: LbaStatusLayout,
    ) -> Result<Outcome, IoError> {
        let extents = self.volume().extents(offset, limit).await?;
        let described = extents.iter().map(|extent| StatusExtent {
            offset: extent.offset,
            length: extent.length,
            mapped: extent.mapped,
        });
        let data = layout.encode(described);
        Ok(Outcome::Answer(Answer::data(
            data,
            layout.allocation_length as usize,
        )))
    }
}
