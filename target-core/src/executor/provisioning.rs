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

    /// Extents alternate, so at least every second one that is looked at is shown, or none ever is.
    pub(super) async fn extents(
        &self,
        (offset, length): (u64, u64),
        limit: usize,
        layout: LbaStatusLayout,
    ) -> Result<Outcome, IoError> {
        let end = offset + length;
        let mut at = offset;
        let mut shown = Vec::new();
        while at < end && shown.len() < limit && layout.report.shows_any() {
            for extent in self.volume().extents(at, limit).await? {
                let stop = (extent.offset + extent.length).min(end);
                let extent = StatusExtent {
                    offset: at,
                    length: stop - at,
                    mapped: extent.mapped,
                };
                if shown.len() < limit && at < stop && layout.report.shows(&extent) {
                    shown.push(extent);
                }
                at = stop;
            }
        }
        let data = layout.encode(shown, limit);
        Ok(Outcome::Answer(Answer::data(
            data,
            layout.allocation_length as usize,
        )))
    }
}
