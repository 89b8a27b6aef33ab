//! Login and text PDUs (RFC 7143 11.10-11.13).

use zerocopy::network_endian::{U16, U32};

use super::{FINAL, U24, headers, opcode};

headers! {
    /// Login Request (RFC 7143 11.12).
    LoginRequest = opcode::LOGIN_REQUEST {
        /// Opcode and the I bit, always set.
        opcode: u8,
        /// T, C, CSG, NSG.
        flags: u8,
        /// Highest version spoken.
        version_max: u8,
        /// Lowest version spoken.
        version_min: u8,
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength.
        data_segment_length: U24,
        /// Initiator part of the session identifier.
        isid: [u8; 6],
        /// Target session identifying handle, 0 for a new session.
        tsih: U16,
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// Connection identifier.
        cid: U16,
        /// Reserved.
        reserved: [u8; 2],
        /// CmdSN: the first one of a new session.
        cmd_sn: U32,
        /// ExpStatSN, or the initial one for a restarted connection.
        exp_stat_sn: U32,
        /// Reserved.
        reserved2: [u8; 16],
    }

    /// Login Response (RFC 7143 11.13).
    LoginResponse = opcode::LOGIN_RESPONSE {
        /// Opcode.
        opcode: u8,
        /// T, C, CSG, NSG.
        flags: u8,
        /// Highest version spoken.
        version_max: u8,
        /// The version in use.
        version_active: u8,
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength.
        data_segment_length: U24,
        /// Initiator part of the session identifier.
        isid: [u8; 6],
        /// Target session identifying handle.
        tsih: U16,
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// Reserved.
        reserved: [u8; 4],
        /// StatSN.
        stat_sn: U32,
        /// ExpCmdSN.
        exp_cmd_sn: U32,
        /// MaxCmdSN.
        max_cmd_sn: U32,
        /// Status class: 0 success, 1 redirection, 2 initiator error, 3 target error.
        status_class: u8,
        /// Status detail.
        status_detail: u8,
        /// Reserved.
        reserved2: [u8; 10],
    }

    /// Text Request (RFC 7143 11.10).
    TextRequest = opcode::TEXT_REQUEST {
        /// Opcode and the I bit.
        opcode: u8,
        /// F, C.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength.
        data_segment_length: U24,
        /// Logical unit number, with a target transfer tag only.
        lun: [u8; 8],
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// FFFFFFFFh, or the tag of the response this goes on from.
        target_transfer_tag: U32,
        /// CmdSN.
        cmd_sn: U32,
        /// ExpStatSN.
        exp_stat_sn: U32,
        /// Reserved.
        reserved2: [u8; 16],
    }

    /// Text Response (RFC 7143 11.11).
    TextResponse = opcode::TEXT_RESPONSE {
        /// Opcode.
        opcode: u8,
        /// F, C.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength.
        data_segment_length: U24,
        /// Logical unit number, with a target transfer tag only.
        lun: [u8; 8],
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// FFFFFFFFh, or to be repeated by the next request.
        target_transfer_tag: U32,
        /// StatSN.
        stat_sn: U32,
        /// ExpCmdSN.
        exp_cmd_sn: U32,
        /// MaxCmdSN.
        max_cmd_sn: U32,
        /// Reserved.
        reserved2: [u8; 12],
    }
}

/// C: the text goes on in the next PDU (login and text PDUs).
pub(crate) const CONTINUE: u8 = 0x40;

impl LoginRequest {
    /// C: the text goes on in the next PDU.
    pub const CONTINUE: u8 = CONTINUE;

    /// The T bit: ready for the next stage.
    pub fn transit(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// The C bit.
    pub fn continues(&self) -> bool {
        self.flags & CONTINUE != 0
    }

    /// Current stage, 0-3.
    pub fn current_stage(&self) -> u8 {
        (self.flags >> 2) & 3
    }

    /// Next stage, 0-3.
    pub fn next_stage(&self) -> u8 {
        self.flags & 3
    }
}

impl LoginResponse {
    /// C: the text goes on in the next PDU.
    pub const CONTINUE: u8 = CONTINUE;

    /// The T bit.
    pub fn transit(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// The C bit.
    pub fn continues(&self) -> bool {
        self.flags & CONTINUE != 0
    }

    /// Current stage, 0-3.
    pub fn current_stage(&self) -> u8 {
        (self.flags >> 2) & 3
    }

    /// Next stage, 0-3.
    pub fn next_stage(&self) -> u8 {
        self.flags & 3
    }
}

impl TextRequest {
    /// C: the text goes on in the next PDU.
    pub const CONTINUE: u8 = CONTINUE;

    /// The F bit.
    pub fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// The C bit.
    pub fn continues(&self) -> bool {
        self.flags & CONTINUE != 0
    }
}

impl TextResponse {
    /// C: the text goes on in the next PDU.
    pub const CONTINUE: u8 = CONTINUE;

    /// The F bit.
    pub fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// The C bit.
    pub fn continues(&self) -> bool {
        self.flags & CONTINUE != 0
    }
}
