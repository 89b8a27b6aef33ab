//! The commands of a load, issued up to the queue depth.

use super::{
    Session, blocks_of_a_command,
    content::{self, Pattern, Source, Sources, WriteData},
    worker::{Order, Work},
};
use crate::{
    header::{self, FINAL, Header, NO_TAG, opcode, word},
    out_queue::Payload as _,
};

const READ_10: u8 = 0x28;
const WRITE_10: u8 = 0x2a;
const READ_16: u8 = 0x88;
const WRITE_16: u8 = 0x8a;

/// Flags of a SCSI command (RFC 7143 11.3.1); all have the SIMPLE task attribute.
const READ: u8 = 0x40 | 1;
const WRITE: u8 = 0x20 | 1;

impl Session {
    /// Queues a command, if the queue depth and the target's window have room for one.
    pub(super) fn issue(&mut self, order: Order<'_>, pattern: &mut Pattern, now: u64) -> bool {
        if self.max_cmd_sn.wrapping_sub(self.cmd_sn).cast_signed() < 0 {
            return false;
        }
        let Some(slot) = self.free.pop() else { return false };
        let shape = order.shape;
        let read = order.work == Work::Load
            && (shape.read >= 100 || (shape.read > 0 && self.random.below(100) < shape.read));
        let count = blocks_of_a_command(shape, self.block_length);
        let lba = self.next_unit(order, slot, count) * count;
        let length = shape.bs;
        let command = self.command_header(order.access.lun, slot, read, lba, count, length);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        let task = &mut self.slots[slot];
        task.busy = true;
        task.read = read;
        task.lba = lba;
        task.length = length;
        task.got = 0;
        task.issued = now;
        self.in_flight += 1;
        if read {
            self.out.header(&command, self.terms.header_digest);
            return true;
        }
        if shape.verify {
            task.content.resize(length, 0);
            content::fill(&mut task.content, lba * self.block_length as u64, shape.seed);
        }
        self.write(order, pattern, slot, command);
        true
    }

    /// Where the next command works, in units of its length.
    fn next_unit(&mut self, order: Order<'_>, slot: usize, count: u64) -> u64 {
        let shape = order.shape;
        if shape.seq || order.work == Work::Fill {
            let unit = self.stretch.first + self.stretch.next;
            self.stretch.next = (self.stretch.next + 1) % self.stretch.length;
            unit
        } else if shape.verify && shape.read < 100 {
            // Writes in flight must not overlap reads: each slot has a part of the stretch.
            let part = (self.stretch.length / shape.qd as u64).max(1);
            let within = slot as u64 * part + self.random.below(part);
            self.stretch.first + within % self.stretch.length
        } else {
            self.random.below(self.blocks / count)
        }
    }

    /// READ or WRITE, with 10 bytes where those suffice (SBC-3 5.11, 5.13).
    fn command_header(
        &self,
        lun: u8,
        slot: usize,
        read: bool,
        lba: u64,
        count: u64,
        length: usize,
    ) -> Header {
        let mut command = Header::new(opcode::SCSI_COMMAND, FINAL | if read { READ } else { WRITE })
            .with(word::ITT, slot as u32)
            .with(word::EXPECTED_LENGTH, length as u32)
            .with(word::CMD_SN, self.cmd_sn)
            .with(word::EXP_STAT_SN, self.exp_stat_sn);
        command.0[9] = lun;
        if lba + count <= 0xffff_ffff && count <= 0xffff {
            command.0[32] = if read { READ_10 } else { WRITE_10 };
            command.set_word(34, lba as u32);
            command.0[39..41].copy_from_slice(&(count as u16).to_be_bytes());
        } else {
            command.0[32] = if read { READ_16 } else { WRITE_16 };
            command.0[34..42].copy_from_slice(&lba.to_be_bytes());
            command.set_word(42, count as u32);
        }
        command
    }

    /// Queues a WRITE with all that may be sent without being asked for: immediate data, then unsolicited Data-Out PDUs.
    fn write(&mut self, order: Order<'_>, pattern: &mut Pattern, slot: usize, mut command: Header) {
        let length = order.shape.bs;
        let terms = &self.terms;
        let immediate = if terms.immediate_data {
            length.min(terms.first_burst).min(terms.longest_sent)
        } else {
            0
        };
        let unsolicited = if terms.initial_r2t {
            immediate
        } else {
            length.min(terms.first_burst)
        };
        if unsolicited > immediate {
            command.0[1] &= !FINAL;
        }
        command.set_data_length(immediate);
        self.out.header(&command, terms.header_digest);
        self.payload(order, pattern, slot, 0, immediate);
        self.data_out(order, pattern, slot, NO_TAG, immediate..unsolicited);
    }

    /// Queues a sequence of Data-Out PDUs (RFC 7143 11.7) for the write in this slot.
    pub(super) fn data_out(
        &mut self,
        order: Order<'_>,
        pattern: &mut Pattern,
        slot: usize,
        transfer_tag: u32,
        range: std::ops::Range<usize>,
    ) {
        let mut offset = range.start;
        let mut data_sn = 0;
        while offset < range.end {
            let length = (range.end - offset).min(self.terms.longest_sent);
            let last = offset + length == range.end;
            let mut header = Header::new(opcode::DATA_OUT, if last { FINAL } else { 0 })
                .with(word::ITT, slot as u32)
                .with(word::TTT, transfer_tag)
                .with(word::EXP_STAT_SN, self.exp_stat_sn)
                .with(word::DATA_SN, data_sn)
                .with(word::BUFFER_OFFSET, offset as u32);
            header.0[9] = order.access.lun;
            header.set_data_length(length);
            self.out.header(&header, self.terms.header_digest);
            self.payload(order, pattern, slot, offset, length);
            offset += length;
            data_sn += 1;
        }
    }

    /// Queues part of what the write in this slot writes.
    fn payload(
        &mut self,
        order: Order<'_>,
        pattern: &mut Pattern,
        slot: usize,
        offset: usize,
        length: usize,
    ) {
        let source = if order.shape.verify {
            Source::Slot(slot)
        } else {
            Source::Pattern
        };
        let data = WriteData {
            source,
            offset,
            length,
        };
        let digest = self.terms.data_digest.then(|| match source {
            Source::Pattern => pattern.digest(offset, length),
            Source::Slot(_) => header::data_digest(data.bytes(Sources {
                pattern: pattern.bytes(),
                slots: &self.slots,
            })),
        });
        self.out.payload(data, digest);
    }
}
