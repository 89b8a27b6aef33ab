//! SCSI Command and Response (RFC 7143 11.3, 11.4), task management (11.5, 11.6).

use zerocopy::network_endian::U32;

use super::{U24, headers, opcode};

headers! {
    /// SCSI Command (RFC 7143 11.3).
    ScsiCommand = opcode::SCSI_COMMAND {
        /// Opcode and the I bit.
        opcode: u8,
        /// F, R, W, task attribute.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// TotalAHSLength in words of 4 bytes.
        total_ahs_length: u8,
        /// DataSegmentLength: immediate data.
        data_segment_length: U24,
        /// Logical unit number.
        lun: [u8; 8],
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// Expected data transfer length in bytes.
        expected_data_transfer_length: U32,
        /// CmdSN.
        cmd_sn: U32,
        /// ExpStatSN.
        exp_stat_sn: U32,
        /// The first 16 bytes of the CDB.
        cdb: [u8; 16],
    }

    /// SCSI Response (RFC 7143 11.4).
    ScsiResponse = opcode::SCSI_RESPONSE {
        /// Opcode.
        opcode: u8,
        /// 80h and the residual flags.
        flags: u8,
        /// iSCSI service response: 00h command completed at target, 01h target failure.
        response: u8,
        /// SCSI status, when completed.
        status: u8,
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength: SenseLength and sense data.
        data_segment_length: U24,
        /// Reserved.
        reserved: [u8; 8],
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// SNACK tag.
        snack_tag: U32,
        /// StatSN.
        stat_sn: U32,
        /// ExpCmdSN.
        exp_cmd_sn: U32,
        /// MaxCmdSN.
        max_cmd_sn: U32,
        /// How many Data-In PDUs the command sent (R2Ts for a write, RFC 7143 11.4.8).
        exp_data_sn: U32,
        /// Bidirectional read residual count.
        bidirectional_read_residual_count: U32,
        /// Residual count in bytes.
        residual_count: U32,
    }

    /// SCSI Task Management Function Request (RFC 7143 11.5).
    TaskManagementRequest = opcode::TASK_MANAGEMENT_REQUEST {
        /// Opcode and the I bit.
        opcode: u8,
        /// 80h and the function.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength, 0.
        data_segment_length: U24,
        /// Logical unit number.
        lun: [u8; 8],
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// The task this function is about, FFFFFFFFh when it is about no single one.
        referenced_task_tag: U32,
        /// CmdSN.
        cmd_sn: U32,
        /// ExpStatSN.
        exp_stat_sn: U32,
        /// CmdSN of the referenced task.
        ref_cmd_sn: U32,
        /// TASK REASSIGN: the next DataSN or R2TSN expected.
        exp_data_sn: U32,
        /// Reserved.
        reserved2: [u8; 8],
    }

    /// SCSI Task Management Function Response (RFC 7143 11.6).
    TaskManagementResponse = opcode::TASK_MANAGEMENT_RESPONSE {
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
        /// Additional response information: what QUERY ASYNCHRONOUS EVENT found (RFC 7144).
        additional: [u8; 3],
        /// Reserved.
        reserved2: [u8; 5],
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
        reserved4: [u8; 12],
    }
}

/// Task attributes (RFC 7143 11.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskAttribute {
    /// Untagged.
    Untagged,
    /// SIMPLE.
    Simple,
    /// ORDERED.
    Ordered,
    /// HEAD OF QUEUE.
    HeadOfQueue,
    /// ACA.
    Aca,
}

impl ScsiCommand {
    /// R: the command expects to read.
    pub const READ: u8 = 0x40;
    /// W: the command expects to write.
    pub const WRITE: u8 = 0x20;

    /// The R bit.
    pub fn read(&self) -> bool {
        self.flags & Self::READ != 0
    }

    /// The W bit.
    pub fn write(&self) -> bool {
        self.flags & Self::WRITE != 0
    }

    /// The F bit: no unsolicited Data-Out follows.
    pub fn is_final(&self) -> bool {
        self.flags & super::FINAL != 0
    }

    /// The I bit.
    pub fn immediate(&self) -> bool {
        self.opcode & super::IMMEDIATE != 0
    }

    /// The task attribute, `None` for the reserved codes 5-7.
    pub fn attribute(&self) -> Option<TaskAttribute> {
        match self.flags & 0x07 {
            0 => Some(TaskAttribute::Untagged),
            1 => Some(TaskAttribute::Simple),
            2 => Some(TaskAttribute::Ordered),
            3 => Some(TaskAttribute::HeadOfQueue),
            4 => Some(TaskAttribute::Aca),
            _ => None,
        }
    }
}

impl ScsiResponse {
    /// O: residual overflow.
    pub const OVERFLOW: u8 = 0x04;
    /// U: residual underflow.
    pub const UNDERFLOW: u8 = 0x02;
    /// o: bidirectional read residual overflow.
    pub const READ_OVERFLOW: u8 = 0x10;
    /// u: bidirectional read residual underflow.
    pub const READ_UNDERFLOW: u8 = 0x08;
}

impl TaskManagementRequest {
    /// The function code.
    pub fn function(&self) -> u8 {
        self.flags & 0x7f
    }
}
