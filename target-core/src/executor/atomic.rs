//! Commands that look before they write, in one: COMPARE AND WRITE, ORWRITE; and WRITE ATOMIC.

use bytes::Bytes;
use scsi_model::orwrite::NewGeneration;

use super::{Outcome, Task, transfer::first_difference};
use crate::{
    buffer::Buffer,
    volume::{IoError, Modify},
};

impl Task {
    pub(super) async fn compare_and_write(
        &self,
        offset: u64,
        length: u64,
        fua: bool,
    ) -> Result<Outcome, IoError> {
        let expected = self.data_out.slice(..length as usize);
        let replacement = self.data_out.slice(length as usize..2 * length as usize);
        let modify: Modify = Box::new(move |current| match first_difference(current, &expected) {
            Some(offset) => Err(IoError::Miscompare { offset }),
            None => Ok(replacement),
        });
        self.update(offset, length, modify, fua).await
    }

    pub(super) async fn write_atomic(&self, offset: u64, length: u64) -> Result<Outcome, IoError> {
        if length > 0 {
            self.unit
                .write_atomic(offset, self.data_out.slice(..length as usize))
                .await?;
        }
        Ok(Outcome::Good)
    }

    pub(super) async fn or_write(&self, offset: u64, length: u64, fua: bool) -> Result<Outcome, IoError> {
        let modify = self.combine(length, |current, bits| current | bits);
        self.update(offset, length, modify, fua).await
    }

    /// The unit is quiet, so that nobody sees the cleared bits under the old generation.
    pub(super) async fn change_generation(
        &self,
        (offset, length): (u64, u64),
        fua: bool,
        new: NewGeneration,
    ) -> Result<Outcome, IoError> {
        let modify = self.combine(length, |current, bits| current & bits);
        let outcome = self.update(offset, length, modify, fua).await?;
        self.unit.with_device(|device| device.generation_changed(new));
        Ok(outcome)
    }

    /// Each byte of the medium with that of the data sent.
    fn combine(&self, length: u64, with: fn(u8, u8) -> u8) -> Modify {
        let bits: Bytes = self.data_out.slice(..length as usize);
        Box::new(move |current| {
            let mut result = Buffer::copy_of(current);
            for (byte, bits) in result.iter_mut().zip(&bits) {
                *byte = with(*byte, *bits);
            }
            Ok(result.freeze())
        })
    }

    async fn update(&self, offset: u64, length: u64, modify: Modify, fua: bool) -> Result<Outcome, IoError> {
        if length > 0 {
            self.volume()
                .update(offset, length, modify, fua || self.write_through)
                .await?;
        }
        Ok(Outcome::Good)
    }
}
