//! The SCSI commands that the floor knows: what an initiator asks before it works, and the work.

use std::{ops::Range, sync::Arc};

use super::{
    connection::{Connection, ConnectionError, Write},
    payload::Sent,
    store::Store,
};
use crate::header::{FINAL, Header, NO_TAG, be16, be32, be64, opcode, word};

const BLOCK: u64 = 512;

const CHECK_CONDITION: u8 = 2;
/// Sense key, additional sense code, qualifier (SPC-4 4.5.6).
type Sense = (u8, u8, u8);
const UNREAD: Sense = (3, 0x11, 0);
const UNWRITTEN: Sense = (3, 0x0c, 0);
const UNKNOWN_COMMAND: Sense = (5, 0x20, 0);
const OUT_OF_RANGE: Sense = (5, 0x21, 0);
const INVALID_FIELD: Sense = (5, 0x24, 0);

impl Connection {
    /// Carries out a command; `immediate` is where its data lies in the buffer.
    pub(super) fn command(
        &mut self,
        store: &Store,
        header: &Header,
        immediate: Range<usize>,
    ) -> Result<(), ConnectionError> {
        let itt = header.word(word::ITT);
        let expected = header.word(word::EXPECTED_LENGTH) as usize;
        let cdb = header.cdb();
        match cdb[0] {
            // READ, WRITE of 10 and 16 bytes
            0x28 | 0x2a | 0x88 | 0x8a => {
                let (lba, count) = if cdb[0] < 0x80 {
                    (u64::from(be32(&cdb, 2)), u64::from(be16(&cdb, 7)))
                } else {
                    (be64(&cdb, 2), u64::from(be32(&cdb, 10)))
                };
                if lba.checked_add(count).is_none_or(|end| end > store.blocks()) {
                    self.check_condition(store, itt, OUT_OF_RANGE);
                    return Ok(());
                }
                let (at, length) = (lba * BLOCK, (count * BLOCK) as usize);
                if cdb[0] & 0x0f == 0x08 {
                    self.read(store, itt, at, length, expected);
                    return Ok(());
                }
                return self.write(store, header, at, length, immediate);
            }
            // TEST UNIT READY, SYNCHRONIZE CACHE, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL
            0x00 | 0x35 | 0x91 | 0x1b | 0x1e => self.good(store, itt),
            // INQUIRY
            0x12 => match inquiry(&cdb) {
                Some(data) => self.answer(store, itt, data, expected),
                None => self.check_condition(store, itt, INVALID_FIELD),
            },
            // READ CAPACITY(10)
            0x25 => {
                let last = u32::try_from(store.blocks() - 1).unwrap_or(u32::MAX);
                let mut data = last.to_be_bytes().to_vec();
                data.extend((BLOCK as u32).to_be_bytes());
                self.answer(store, itt, data, expected);
            }
            // READ CAPACITY(16)
            0x9e if cdb[1] & 0x1f == 0x10 => {
                let mut data = (store.blocks() - 1).to_be_bytes().to_vec();
                data.extend((BLOCK as u32).to_be_bytes());
                data.resize(32, 0);
                self.answer(store, itt, data, expected);
            }
            // REPORT LUNS
            0xa0 => {
                let mut data = vec![0; 16];
                data[3] = 8;
                self.answer(store, itt, data, expected);
            }
            // MODE SENSE(6), MODE SENSE(10)
            0x1a => self.answer(store, itt, vec![3, 0, 0, 0], expected),
            0x5a => self.answer(store, itt, vec![0, 6, 0, 0, 0, 0, 0, 0], expected),
            _ => self.check_condition(store, itt, UNKNOWN_COMMAND),
        }
        Ok(())
    }

    fn read(&mut self, store: &Store, itt: u32, at: u64, length: usize, expected: usize) {
        let sent = length.min(expected);
        let buffer = if store.memory(0).is_some() {
            None
        } else {
            let mut buffer = self.out.buffer(length);
            if !store.read(at, &mut buffer[..length]) {
                self.check_condition(store, itt, UNREAD);
                return;
            }
            Some(Arc::new(buffer))
        };
        let (mut offset, mut data_sn) = (0, 0);
        loop {
            let part = (sent - offset).min(self.longest_sent);
            let end = offset + part;
            let mut header = Header::new(opcode::DATA_IN, 0)
                .with(word::ITT, itt)
                .with(word::TTT, NO_TAG)
                .with(word::DATA_SN, data_sn)
                .with(word::BUFFER_OFFSET, offset as u32);
            header.set_data_length(part);
            let last = end == sent;
            if last {
                end_data_in(&mut header, sent, expected);
            }
            let data = match &buffer {
                Some(buffer) => Sent::Read(Arc::clone(buffer), offset..end),
                None => Sent::Memory {
                    at: at + offset as u64,
                    length: part,
                },
            };
            self.queue(header, last, Some(data), store);
            if last {
                return;
            }
            (offset, data_sn) = (end, data_sn + 1);
        }
    }

    fn write(
        &mut self,
        store: &Store,
        header: &Header,
        at: u64,
        length: usize,
        immediate: Range<usize>,
    ) -> Result<(), ConnectionError> {
        let itt = header.word(word::ITT);
        let unsolicited = if header.is_final() || self.initial_r2t {
            immediate.len()
        } else {
            length.min(self.first_burst)
        };
        let write = Write {
            at,
            length,
            got: 0,
            asked_until: unsolicited,
            failed: false,
        };
        self.writes.insert(itt, write);
        self.put(store, itt, 0, immediate)?;
        self.go_on(store, itt, true);
        Ok(())
    }

    /// After data of a write has arrived: asks for more, or answers. `sequence_ends`: no more comes unasked.
    pub(super) fn go_on(&mut self, store: &Store, itt: u32, sequence_ends: bool) {
        let Some(write) = self.writes.get_mut(&itt) else {
            return;
        };
        if write.got >= write.length {
            let failed = write.failed;
            self.writes.remove(&itt);
            if failed {
                self.check_condition(store, itt, UNWRITTEN);
            } else {
                self.good(store, itt);
            }
            return;
        }
        if !sequence_ends || write.got < write.asked_until {
            return;
        }
        let (offset, wanted) = (write.got, (write.length - write.got).min(self.max_burst));
        write.asked_until = offset + wanted;
        let header = Header::new(opcode::R2T, FINAL)
            .with(word::ITT, itt)
            .with(word::TTT, itt)
            .with(word::BUFFER_OFFSET, offset as u32)
            .with(word::DESIRED_LENGTH, wanted as u32);
        self.queue(header, false, None, store);
    }

    fn good(&mut self, store: &Store, itt: u32) {
        let header = Header::new(opcode::SCSI_RESPONSE, FINAL).with(word::ITT, itt);
        self.queue(header, true, None, store);
    }

    fn check_condition(&mut self, store: &Store, itt: u32, (key, code, qualifier): Sense) {
        let mut header = Header::new(opcode::SCSI_RESPONSE, FINAL).with(word::ITT, itt);
        header.0[3] = CHECK_CONDITION;
        // Two bytes of length, then fixed format.
        let mut data = vec![0; 20];
        (data[1], data[2], data[4], data[9]) = (18, 0x70, key, 10);
        (data[14], data[15]) = (code, qualifier);
        header.set_data_length(data.len());
        self.queue(header, true, Some(Sent::Answer(data)), store);
    }

    /// Data that fits into one PDU, with the status.
    fn answer(&mut self, store: &Store, itt: u32, mut data: Vec<u8>, expected: usize) {
        data.truncate(expected);
        let mut header = Header::new(opcode::DATA_IN, 0)
            .with(word::ITT, itt)
            .with(word::TTT, NO_TAG);
        header.set_data_length(data.len());
        end_data_in(&mut header, data.len(), expected);
        self.queue(header, true, Some(Sent::Answer(data)), store);
    }
}

/// Makes it the last Data-In PDU, with the status GOOD; U and a residual count when the initiator expected more (RFC 7143 11.7).
fn end_data_in(header: &mut Header, sent: usize, expected: usize) {
    header.0[1] = FINAL | 1 | if sent < expected { 2 } else { 0 };
    header.set_word(word::RESIDUAL, (expected - sent) as u32);
}

/// Standard data, the list of pages and the serial number; `None` for other pages.
fn inquiry(cdb: &[u8; 16]) -> Option<Vec<u8>> {
    let vital = cdb[1] & 1 != 0;
    match (vital, cdb[2]) {
        (false, _) => {
            let mut data = vec![0, 0, 5, 0x12, 31, 0, 0, 2];
            data.extend(b"FLOOR   NULL TARGET     1   ");
            Some(data)
        }
        (true, 0) => Some(vec![0, 0, 0, 2, 0, 0x80]),
        (true, 0x80) => Some(vec![0, 0x80, 0, 4, b'1', b'2', b'3', b'4']),
        (true, _) => None,
    }
}
