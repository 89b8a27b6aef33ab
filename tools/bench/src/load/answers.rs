//! What the target says while it is loaded: data, statuses, R2Ts, pings.
//!
//! Payload of reads is looked at only when it is to be verified or has a digest. Else it is counted and dropped, inside the kernel if
//! enough of it is still there.

use std::io;

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};

use super::{
    Session, SessionError,
    content::{self, Pattern},
    tally::{Tally, Timed},
    worker::Order,
};
use crate::header::{self, FINAL, Header, IMMEDIATE, NO_TAG, digest_at, opcode, padded, word};

/// Less is not worth a system call of its own.
const WORTH_DROPPING: usize = 16 << 10;
/// With less room than this the buffer is moved together.
const LEAST_ROOM: usize = 64 << 10;
/// A failure is printed, but not each of a million.
const PRINTED: u64 = 3;

impl Session {
    /// One receive call. `false`: there was nothing.
    pub(super) fn receive(
        &mut self,
        order: Order<'_>,
        tally: &mut Tally,
        flags: RecvFlags,
    ) -> Result<bool, SessionError> {
        tally.receives += 1;
        let drop_it = !order.shape.no_discard && self.received.is_empty() && self.to_drop >= WORTH_DROPPING;
        let received = if drop_it {
            self.received.clear();
            let room = self.received.room();
            let length = self.to_drop.min(room.len());
            // With this flag TCP forgets the bytes instead of copying them (tcp(7)).
            recv(&self.socket, &mut room[..length], flags | RecvFlags::TRUNC).map(|(_, length)| length)
        } else {
            recv(&self.socket, self.received.room(), flags).map(|(_, length)| length)
        };
        match received {
            Ok(0) => Err(SessionError::Closed),
            Ok(length) if drop_it => {
                self.to_drop -= length;
                Ok(true)
            }
            Ok(length) => {
                self.received.received(length);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(SessionError::Receive(io::Error::from(error))),
        }
    }

    /// Takes all PDUs that have been received by `now`, which is read once for each receive call.
    pub(super) fn take_answers(
        &mut self,
        order: Order<'_>,
        pattern: &mut Pattern,
        now: u64,
        tally: &mut Tally,
    ) -> Result<(), SessionError> {
        let check = !order.shape.no_check_digest;
        let header_length = header::LENGTH + if self.terms.header_digest { 4 } else { 0 };
        loop {
            if self.to_drop > 0 {
                let dropped = self.to_drop.min(self.received.len());
                self.received.consume(dropped);
                self.to_drop -= dropped;
                if self.to_drop > 0 {
                    break;
                }
            }
            if let Some(slot) = self.done_after.take() {
                self.done(slot, 0, now, tally);
            }
            let pending = self.received.pending();
            if pending.len() < header_length {
                break;
            }
            let header = Header::of(pending);
            if self.terms.header_digest
                && check
                && crc32c::crc32c(&header.0) != digest_at(pending, header::LENGTH)
            {
                return Err(SessionError::HeaderDigest);
            }
            let data_length = header.data_length();
            let has_digest = self.terms.data_digest && data_length > 0;
            let body = padded(data_length) + if has_digest { 4 } else { 0 };
            let opcode = header.opcode();
            let whole = opcode != opcode::DATA_IN || order.shape.verify || (has_digest && check);
            if whole && pending.len() < header_length + body {
                if header_length + body > self.received.capacity() {
                    return Err(SessionError::TooLong(data_length));
                }
                break;
            }
            let has_status = opcode != opcode::DATA_IN || header.0[1] & 1 != 0;
            if has_status {
                self.max_cmd_sn = later(self.max_cmd_sn, header.word(word::MAX_CMD_SN));
            }
            if opcode == opcode::DATA_IN {
                let slot = self.slot(&header)?;
                if whole {
                    let data = &pending[header_length..][..body];
                    let (data, digest) = data.split_at(padded(data_length));
                    if has_digest && check && crc32c::crc32c(data) != digest_at(digest, 0) {
                        return Err(SessionError::DataDigest);
                    }
                    let at = self.slots[slot].lba * self.block_length as u64
                        + u64::from(header.word(word::BUFFER_OFFSET));
                    if order.shape.verify && !content::is_right(&data[..data_length], at, order.shape.seed) {
                        tally.bad += 1;
                    }
                }
                self.slots[slot].got += data_length;
                if has_status {
                    self.exp_stat_sn = header.word(word::STAT_SN).wrapping_add(1);
                    if header.0[3] != 0 {
                        tally.errors += 1;
                    }
                    self.done_after = Some(slot);
                }
                self.received.consume(header_length);
                self.to_drop = body;
                continue;
            }
            self.take_other(&header, header_length, order, pattern, now, tally)?;
            self.received.consume(header_length + body);
        }
        self.received.tidy(LEAST_ROOM, self.received.capacity() / 2);
        Ok(())
    }

    /// A whole PDU that is no Data-In.
    fn take_other(
        &mut self,
        header: &Header,
        header_length: usize,
        order: Order<'_>,
        pattern: &mut Pattern,
        now: u64,
        tally: &mut Tally,
    ) -> Result<(), SessionError> {
        match header.opcode() {
            opcode::SCSI_RESPONSE => {
                self.exp_stat_sn = header.word(word::STAT_SN).wrapping_add(1);
                let slot = self.slot(header)?;
                let (response, status) = (header.0[2], header.0[3]);
                if response | status != 0 && tally.errors < PRINTED {
                    let sense = &self.received.pending()[header_length..][..header.data_length().min(24)];
                    eprintln!("SCSI status {status:#x} response {response:#x} sense {sense:02x?}");
                }
                self.done(slot, response | status, now, tally);
            }
            opcode::R2T => {
                let slot = self.slot(header)?;
                let offset = header.word(word::BUFFER_OFFSET) as usize;
                let length = header.word(word::DESIRED_LENGTH) as usize;
                let task = &self.slots[slot];
                if !task.busy || task.read || offset + length > task.length {
                    let of = task.length;
                    return Err(SessionError::R2tBeyond { offset, length, of });
                }
                self.data_out(
                    order,
                    pattern,
                    slot,
                    header.word(word::TTT),
                    offset..offset + length,
                );
            }
            opcode::NOP_IN => self.answer_ping(header),
            opcode::ASYNC | opcode::TEXT_RESPONSE | opcode::LOGOUT_RESPONSE => {}
            opcode::REJECT => return Err(SessionError::Reject(header.0[2])),
            other => return Err(SessionError::Opcode(other)),
        }
        Ok(())
    }

    /// RFC 7143 11.18, 11.19: one with a TTT is answered with it.
    fn answer_ping(&mut self, ping: &Header) {
        if ping.word(word::ITT) != NO_TAG {
            self.exp_stat_sn = ping.word(word::STAT_SN).wrapping_add(1);
        }
        if ping.word(word::TTT) == NO_TAG {
            return;
        }
        let mut answer = Header::new(opcode::NOP_OUT | IMMEDIATE, FINAL)
            .with(word::ITT, NO_TAG)
            .with(word::TTT, ping.word(word::TTT))
            .with(word::CMD_SN, self.cmd_sn)
            .with(word::EXP_STAT_SN, self.exp_stat_sn);
        answer.0[8..16].copy_from_slice(&ping.0[8..16]);
        self.out.header(&answer, self.terms.header_digest);
    }

    /// The slot that an ITT names.
    fn slot(&self, header: &Header) -> Result<usize, SessionError> {
        let itt = header.word(word::ITT);
        if (itt as usize) < self.slots.len() {
            return Ok(itt as usize);
        }
        let opcode = header.opcode();
        Err(SessionError::UnknownTask { opcode, itt })
    }

    fn done(&mut self, slot: usize, status: u8, now: u64, tally: &mut Tally) {
        let task = &mut self.slots[slot];
        if !task.busy {
            tally.errors += 1;
            return;
        }
        if status != 0 || (task.read && task.got != task.length) {
            tally.errors += 1;
        }
        if task.read {
            tally.reads += 1;
        } else {
            tally.writes += 1;
        }
        tally.bytes += task.length as u64;
        tally.time(Timed {
            nanoseconds: now.saturating_sub(task.issued),
            issued: task.issued,
            lba: task.lba,
        });
        task.busy = false;
        self.free.push(slot);
        self.in_flight -= 1;
    }
}

/// The later of two numbers of a row that begins again after 2^32 (RFC 1982).
fn later(one: u32, other: u32) -> u32 {
    if other.wrapping_sub(one).cast_signed() > 0 {
        other
    } else {
        one
    }
}

#[cfg(test)]
mod tests;
