//! C0h and C1h: the request goes to [`crate::control::ArrayControl`], the device server words the answer.

use scsi_model::plan::{Answer, ControlCall};

use super::{Task, sense_of};
use crate::volume::IoError;

impl Task {
    pub(super) async fn control(&self, call: ControlCall) -> Answer {
        let Some(control) = self.unit.control() else {
            // The device server plans none without it.
            let error = IoError::Internal("no replication here".into());
            return self
                .unit
                .check_condition(&sense_of(&error, self.identity.block_size));
        };
        let result = control.execute(call.request.clone()).await;
        let luns = self.nexus.luns();
        let lun_of = |volume| luns.number_of(volume);
        self.unit
            .with_device(|device| device.control_answer(self.itl.id, &call, result, &lun_of))
    }
}
