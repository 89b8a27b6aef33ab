//! LOG SENSE and LOG SELECT: what the log pages say comes from the unit's gauge.

use scsi_model::{log_pages::LogRequest, plan::Answer};

use super::{Outcome, Task};
use crate::volume::IoError;

impl Task {
    pub(super) async fn log_sense(&self, request: LogRequest) -> Result<Outcome, IoError> {
        let facts = self.unit.log_facts().await?;
        let answer = self.unit.with_device(|device| device.log_sense(request, &facts));
        Ok(Outcome::Answer(answer))
    }

    pub(super) fn reset_statistics(&self) -> Outcome {
        self.unit.reset_statistics();
        Outcome::Answer(Answer::good())
    }
}
