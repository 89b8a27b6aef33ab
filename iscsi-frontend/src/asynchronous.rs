//! Asynchronous Messages (RFC 7143 11.9): what the initiator has not asked for.

use iscsi_proto::bhs::{AsyncMessage, Header, RESERVED_TAG};
use target_core::scsi_model::{sense::SenseFormat, unit_attention::UnitAttention};

use crate::{ending::Phase, link::Link, session::Session};

impl Session {
    /// Tells the initiator that it has other LUNs now (RFC 7143 11.9.1, event 0): the sense data that the next command to one of
    /// them would end with. That stays pending: nobody knows whether the message is listened to. Who was asked to log out is
    /// not told.
    pub(crate) fn announce_other_luns(&mut self) {
        let config = self.shared.config.load();
        let target = self
            .handle
            .as_ref()
            .and_then(|handle| config.target(&handle.key.target));
        if !target.is_some_and(|target| target.announces_luns) {
            return;
        }
        let hears = |link: &Link| matches!(link.phase, Phase::Open) && link.logout_deadline.is_none();
        let Some(at) = self.links.iter().position(hears) else {
            return;
        };
        let sense = UnitAttention::ReportedLunsChanged.sense();
        let sense = sense.encode(SenseFormat::Fixed);
        // SenseLength comes before the sense data, as in a SCSI Response (RFC 7143 11.4.7.2).
        let mut data = (sense.len() as u16).to_be_bytes().to_vec();
        data.extend_from_slice(&sense);
        let mut message = AsyncMessage::new();
        message.event = AsyncMessage::SCSI_EVENT;
        // LUN 0, where REPORT LUNS is answered whether a unit is there or not.
        message.lun = [0; 8];
        self.send_async(at, message, &data);
    }

    pub(crate) fn send_async(&mut self, at: usize, mut message: AsyncMessage, data: &[u8]) {
        message.initiator_task_tag = RESERVED_TAG.into();
        self.links[at].send_status(&self.window, message, data);
    }
}
