//! PDUs about the connection: NOP, Logout, Asynchronous Message, Reject (RFC 7143 11.9, 11.14, 11.15, 11.17-11.19).

use zerocopy::network_endian::{U16, U32};

use super::{U24, headers, opcode};

headers! {
    /// NOP-Out (RFC 7143 11.18).
    NopOut = opcode::NOP_OUT {
        /// Opcode and the I bit.
        opcode: u8,
        /// 80h.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength: ping data.
        data_segment_length: U24,
        /// Logical unit number of the NOP-In this answers.
        lun: [u8; 8],
        /// Initiator task tag, FFFFFFFFh when no answer is wanted.
        initiator_task_tag: U32,
        /// The tag of the NOP-In this answers, else FFFFFFFFh.
        target_transfer_tag: U32,
        /// CmdSN.
        cmd_sn: U32,
        /// ExpStatSN.
        exp_stat_sn: U32,
        /// Reserved.
        reserved2: [u8; 16],
    }

    /// NOP-In (RFC 7143 11.19).
    NopIn = opcode::NOP_IN {
        /// Opcode.
        opcode: u8,
        /// 80h.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength: the ping data back.
        data_segment_length: U24,
        /// Logical unit number, with a target transfer tag only.
        lun: [u8; 8],
        /// The tag of the NOP-Out this answers, else FFFFFFFFh.
        initiator_task_tag: U32,
        /// FFFFFFFFh unless an answer is wanted.
        target_transfer_tag: U32,
        /// StatSN; advanced only by an answer.
        stat_sn: U32,
        /// ExpCmdSN.
        exp_cmd_sn: U32,
        /// MaxCmdSN.
        max_cmd_sn: U32,
        /// Reserved.
        reserved2: [u8; 12],
    }

    /// Logout Request (RFC 7143 11.14).
    LogoutRequest = opcode::LOGOUT_REQUEST {
        /// Opcode and the I bit.
        opcode: u8,
        /// 80h and the reason.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength, 0.
        data_segment_length: U24,
        /// Reserved.
        reserved2: [u8; 8],
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// The connection to close.
        cid: U16,
        /// Reserved.
        reserved3: [u8; 2],
        /// CmdSN.
        cmd_sn: U32,
        /// ExpStatSN.
        exp_stat_sn: U32,
        /// Reserved.
        reserved4: [u8; 16],
    }

    /// Logout Response (RFC 7143 11.15).
    LogoutResponse = opcode::LOGOUT_RESPONSE {
        /// Opcode.
        opcode: u8,
        /// 80h.
        flags: u8,
        /// Response code.
        response: u8,
        /// Reserved.
        reserved: u8,
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength, 0.
        data_segment_length: U24,
        /// Reserved.
        reserved2: [u8; 8],
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// Reserved.
        reserved3: [u8; 4],
        /// StatSN.
        stat_sn: U32,
        /// ExpCmdSN.
        exp_cmd_sn: U32,
        /// MaxCmdSN.
        max_cmd_sn: U32,
        /// Reserved.
        reserved4: [u8; 4],
        /// Seconds to wait before reassigning.
        time2wait: U16,
        /// Seconds tasks are kept.
        time2retain: U16,
        /// Reserved.
        reserved5: [u8; 4],
    }

    /// Asynchronous Message (RFC 7143 11.9).
    AsyncMessage = opcode::ASYNC_MESSAGE {
        /// Opcode.
        opcode: u8,
        /// 80h.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength: sense data for event 0.
        data_segment_length: U24,
        /// Logical unit number for events 0 and 5.
        lun: [u8; 8],
        /// FFFFFFFFh.
        initiator_task_tag: U32,
        /// Reserved.
        reserved2: [u8; 4],
        /// StatSN.
        stat_sn: U32,
        /// ExpCmdSN.
        exp_cmd_sn: U32,
        /// MaxCmdSN.
        max_cmd_sn: U32,
        /// What happened.
        event: u8,
        /// Vendor code of event 255.
        vendor_code: u8,
        /// Its meaning depends on the event.
        parameter1: U16,
        /// Its meaning depends on the event.
        parameter2: U16,
        /// Its meaning depends on the event.
        parameter3: U16,
        /// Reserved.
        reserved3: [u8; 4],
    }

    /// Reject (RFC 7143 11.17). The data segment is the header that was rejected.
    Reject = opcode::REJECT {
        /// Opcode.
        opcode: u8,
        /// 80h.
        flags: u8,
        /// Reason.
        reason: u8,
        /// Reserved.
        reserved: u8,
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength.
        data_segment_length: U24,
        /// Reserved.
        reserved2: [u8; 8],
        /// FFFFFFFFh.
        initiator_task_tag: U32,
        /// Reserved.
        reserved3: [u8; 4],
        /// StatSN.
        stat_sn: U32,
        /// ExpCmdSN.
        exp_cmd_sn: U32,
        /// MaxCmdSN.
        max_cmd_sn: U32,
        /// DataSN or R2TSN the reject is about.
        data_sn: U32,
        /// Reserved.
        reserved4: [u8; 8],
    }
}

impl LogoutRequest {
    /// The reason code.
    pub fn reason(&self) -> u8 {
        self.flags & 0x7f
    }
}

impl AsyncMessage {
    /// Event 0: a SCSI asynchronous event. SenseLength (2 bytes) and sense data are in the data segment.
    pub const SCSI_EVENT: u8 = 0;
    /// Event 1: the target requests a logout within `parameter3` seconds.
    pub const LOGOUT_REQUEST: u8 = 1;
    /// Event 2: the target drops the connection `parameter1`.
    pub const DROP_CONNECTION: u8 = 2;
    /// Event 3: the target drops all connections of the session.
    pub const DROP_SESSION: u8 = 3;
    /// Event 5: all tasks of the unit `lun` are being ended; only where FastAbort is agreed on.
    pub const TASKS_END: u8 = 5;
}
