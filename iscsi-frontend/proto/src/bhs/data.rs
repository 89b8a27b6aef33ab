//! Data-Out, Data-In, R2T, SNACK (RFC 7143 11.7, 11.8, 11.16).

use zerocopy::network_endian::U32;

use super::{FINAL, U24, headers, opcode};

headers! {
    /// SCSI Data-Out (RFC 7143 11.7).
    DataOut = opcode::DATA_OUT {
        /// Opcode.
        opcode: u8,
        /// F: last of its sequence.
        flags: u8,
        /// Reserved.
        reserved: [u8; 2],
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength.
        data_segment_length: U24,
        /// Logical unit number, when solicited.
        lun: [u8; 8],
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// The tag of the R2T this answers, FFFFFFFFh for unsolicited data.
        target_transfer_tag: U32,
        /// Reserved.
        reserved2: [u8; 4],
        /// ExpStatSN.
        exp_stat_sn: U32,
        /// Reserved.
        reserved3: [u8; 4],
        /// Number within the sequence, from 0.
        data_sn: U32,
        /// Offset in the command's data.
        buffer_offset: U32,
        /// Reserved.
        reserved4: [u8; 4],
    }

    /// SCSI Data-In (RFC 7143 11.7).
    DataIn = opcode::DATA_IN {
        /// Opcode.
        opcode: u8,
        /// F, A, O, U, S.
        flags: u8,
        /// Reserved.
        reserved: u8,
        /// SCSI status, when S is set.
        status: u8,
        /// TotalAHSLength, 0.
        total_ahs_length: u8,
        /// DataSegmentLength.
        data_segment_length: U24,
        /// Logical unit number, when A is set.
        lun: [u8; 8],
        /// Initiator task tag.
        initiator_task_tag: U32,
        /// For DataACK, else FFFFFFFFh.
        target_transfer_tag: U32,
        /// StatSN, when S is set.
        stat_sn: U32,
        /// ExpCmdSN.
        exp_cmd_sn: U32,
        /// MaxCmdSN.
        max_cmd_sn: U32,
        /// Number within the command, from 0.
        data_sn: U32,
        /// Offset in the command's data.
        buffer_offset: U32,
        /// Residual count, when S is set.
        residual_count: U32,
    }

    /// Ready To Transfer (RFC 7143 11.8).
    ReadyToTransfer = opcode::READY_TO_TRANSFER {
        /// Opcode.
        opcode: u8,
        /// 80h.
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
        /// To be repeated in the Data-Out PDUs.
        target_transfer_tag: U32,
        /// The next StatSN; not advanced by an R2T.
        stat_sn: U32,
        /// ExpCmdSN.
        exp_cmd_sn: U32,
        /// MaxCmdSN.
        max_cmd_sn: U32,
        /// Number within the command, from 0.
        r2t_sn: U32,
        /// Offset in the command's data.
        buffer_offset: U32,
        /// Bytes asked for.
        desired_data_transfer_length: U32,
    }

    /// SNACK Request (RFC 7143 11.16).
    Snack = opcode::SNACK {
        /// Opcode.
        opcode: u8,
        /// 80h and the type.
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
        /// Target transfer tag or SNACK tag.
        target_transfer_tag: U32,
        /// Reserved.
        reserved2: [u8; 4],
        /// ExpStatSN.
        exp_stat_sn: U32,
        /// Reserved.
        reserved3: [u8; 8],
        /// First missing number.
        begin_run: U32,
        /// How many, 0 = all from there on.
        run_length: U32,
    }
}

impl DataOut {
    /// The F bit.
    pub fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }
}

impl DataIn {
    /// A: asks for a DataACK.
    pub const ACKNOWLEDGE: u8 = 0x40;
    /// O: residual overflow.
    pub const OVERFLOW: u8 = 0x04;
    /// U: residual underflow.
    pub const UNDERFLOW: u8 = 0x02;
    /// S: this PDU carries the status.
    pub const STATUS: u8 = 0x01;

    /// The F bit.
    pub fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// The S bit.
    pub fn has_status(&self) -> bool {
        self.flags & Self::STATUS != 0
    }
}

impl Snack {
    /// Type 0: Data-In or R2T is wanted again.
    pub const DATA_OR_R2T: u8 = 0;
    /// Type 1: statuses are wanted again.
    pub const STATUS: u8 = 1;
    /// Type 2: data is acknowledged.
    pub const DATA_ACK: u8 = 2;
    /// Type 3: all data that is not acknowledged is wanted again, cut anew.
    pub const R_DATA: u8 = 3;

    /// Type: 0 Data/R2T, 1 Status, 2 DataACK, 3 R-Data.
    pub fn kind(&self) -> u8 {
        self.flags & 0x0f
    }
}
