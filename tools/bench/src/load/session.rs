//! A session of one connection: login, a look at the LUN, single commands, logout. What a load does with it is in
//! [`super::pipeline`] and [`super::answers`].

mod negotiation;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use super::{
    SessionError, blocks_of_a_command,
    content::{Slot, WriteData},
};
use crate::{
    arguments::{Access, Shape},
    clock::now_ns,
    header::{self, FINAL, Header, IMMEDIATE, NO_TAG, be32, be64, opcode, padded, word},
    out_queue::OutQueue,
    random::Random,
    receive_buffer::ReceiveBuffer,
};
use negotiation::Terms;

/// Room for so much beside the longest PDU.
const RECEIVED_AT_ONCE: usize = 512 << 10;
/// For sessions that receive nothing worth mentioning.
const BARE_BUFFER: usize = 16 << 10;
/// Tags that no slot has.
const SINGLE_COMMAND: u32 = 0x7fff_0000;
const LOGOUT: u32 = 0x7fff_0001;

const READ_CAPACITY_10: u8 = 0x25;
const READ_16: u8 = 0x88;
const WRITE_16: u8 = 0x8a;
const CHECK_CONDITION: u8 = 2;

/// Units of one command's length: where a session works that does not work everywhere.
#[derive(Default)]
pub(super) struct Stretch {
    pub(super) first: u64,
    pub(super) length: u64,
    /// Of sequential work, from `first` on.
    pub(super) next: u64,
}

pub(crate) struct Session {
    pub(super) socket: TcpStream,
    pub(super) received: ReceiveBuffer,
    /// Bytes of payload that are still to be dropped, and the slot that is done after them.
    pub(super) to_drop: usize,
    pub(super) done_after: Option<usize>,
    pub(super) out: OutQueue<WriteData>,
    /// The socket took no more.
    pub(super) is_stuck: bool,
    pub(super) cmd_sn: u32,
    pub(super) max_cmd_sn: u32,
    pub(super) exp_stat_sn: u32,
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<usize>,
    pub(super) in_flight: usize,
    pub(super) terms: Terms,
    /// Bytes of a block.
    pub(crate) block_length: usize,
    /// Blocks that are used.
    pub(crate) blocks: u64,
    pub(super) stretch: Stretch,
    pub(super) random: Random,
}

impl Session {
    /// Logs in, clears unit attentions and reads the capacity: number `index` of `count` sessions, which share the LUN.
    pub(crate) fn open(access: &Access, shape: &Shape, index: u32, count: u32) -> Result<Self, SessionError> {
        let mut session = Self::connect(access, index, shape, RECEIVED_AT_ONCE + access.mrdsl)?;
        session.negotiate(access, index)?;
        session.scan(access.lun, shape, index, count)?;
        Ok(session)
    }

    /// Only logs in.
    pub(crate) fn log_in(access: &Access, index: u32) -> Result<Self, SessionError> {
        let mut session = Self::connect(access, index, &Shape::default(), BARE_BUFFER)?;
        session.negotiate(access, index)?;
        Ok(session)
    }

    pub(super) fn connect(
        access: &Access,
        index: u32,
        shape: &Shape,
        buffer: usize,
    ) -> Result<Self, SessionError> {
        let socket = TcpStream::connect(&access.addr).map_err(SessionError::Connect)?;
        socket
            .set_nodelay(true)
            .and_then(|()| socket.set_read_timeout(Some(Duration::from_secs(10))))
            .map_err(SessionError::Connect)?;
        let seed = shape.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (u64::from(index) + 1) << 20;
        Ok(Self {
            socket,
            received: ReceiveBuffer::new(buffer),
            to_drop: 0,
            done_after: None,
            out: OutQueue::default(),
            is_stuck: false,
            cmd_sn: 1,
            max_cmd_sn: 1,
            exp_stat_sn: 0,
            slots: vec![Slot::default(); shape.qd],
            free: (0..shape.qd).rev().collect(),
            in_flight: 0,
            terms: Terms::before_login(access),
            block_length: 512,
            blocks: 0,
            stretch: Stretch::default(),
            random: Random(seed | 1),
        })
    }

    /// One READ(16) of `bytes`; gives its nanoseconds.
    pub(crate) fn read_once(&mut self, lun: u8, lba: u64, bytes: usize) -> Result<u64, SessionError> {
        self.io_once(lun, READ_16, lba, &[], bytes)
    }

    /// One WRITE(16) with immediate data; gives its nanoseconds.
    pub(crate) fn write_once(&mut self, lun: u8, lba: u64, data: &[u8]) -> Result<u64, SessionError> {
        self.io_once(lun, WRITE_16, lba, data, data.len())
    }

    fn io_once(
        &mut self,
        lun: u8,
        opcode: u8,
        lba: u64,
        data: &[u8],
        bytes: usize,
    ) -> Result<u64, SessionError> {
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&((bytes / self.block_length) as u32).to_be_bytes());
        let begun = now_ns();
        // A unit attention is news, not a failure.
        for _ in 0..4 {
            match self.command(lun, &cdb, data, bytes)?.0 {
                0 => return Ok(now_ns() - begun),
                CHECK_CONDITION => {}
                status => return Err(SessionError::Status { opcode, status }),
            }
        }
        Err(SessionError::CheckCondition(opcode))
    }

    /// One command at a time, while there is no load: status and data.
    fn command(
        &mut self,
        lun: u8,
        cdb: &[u8],
        data: &[u8],
        expected: usize,
    ) -> Result<(u8, Vec<u8>), SessionError> {
        let direction = match (data.is_empty(), expected) {
            (false, _) => 0x20,
            (true, 0) => 0,
            (true, _) => 0x40,
        };
        let mut request = Header::new(opcode::SCSI_COMMAND, FINAL | direction | 1)
            .with(word::ITT, SINGLE_COMMAND)
            .with(word::EXPECTED_LENGTH, expected as u32)
            .with(word::CMD_SN, self.cmd_sn)
            .with(word::EXP_STAT_SN, self.exp_stat_sn);
        request.0[9] = lun;
        request.set_data_length(data.len());
        request.0[32..32 + cdb.len()].copy_from_slice(cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        let mut bytes = self.with_digest(&request);
        bytes.extend_from_slice(data);
        if self.terms.data_digest && !data.is_empty() {
            bytes.resize(bytes.len() + padded(data.len()) - data.len(), 0);
            bytes.extend_from_slice(&header::data_digest(data).to_le_bytes());
        }
        self.socket.write_all(&bytes).map_err(SessionError::Command)?;
        let mut all = Vec::new();
        loop {
            let (answer, data) = self.answer().map_err(SessionError::Command)?;
            self.max_cmd_sn = answer.word(word::MAX_CMD_SN);
            let has_status = match answer.opcode() {
                opcode::DATA_IN => {
                    all.extend_from_slice(&data);
                    answer.0[1] & 1 != 0
                }
                opcode::SCSI_RESPONSE => true,
                // A ping that nobody need answer, which an idle session gets.
                opcode::NOP_IN if answer.word(word::TTT) == NO_TAG => false,
                other => return Err(SessionError::Opcode(other)),
            };
            if has_status {
                self.exp_stat_sn = answer.word(word::STAT_SN).wrapping_add(1);
                return Ok((answer.0[3], all));
            }
        }
    }

    /// One PDU, waited for.
    fn answer(&mut self) -> std::io::Result<(Header, Vec<u8>)> {
        let mut bytes = [0; header::LENGTH];
        self.socket.read_exact(&mut bytes)?;
        if self.terms.header_digest {
            self.socket.read_exact(&mut [0; 4])?;
        }
        let answer = Header(bytes);
        let length = answer.data_length();
        let digest = if self.terms.data_digest && length > 0 {
            4
        } else {
            0
        };
        let mut data = vec![0; padded(length) + digest];
        self.socket.read_exact(&mut data)?;
        data.truncate(length);
        Ok((answer, data))
    }

    fn with_digest(&self, header: &Header) -> Vec<u8> {
        let mut bytes = header.0.to_vec();
        if self.terms.header_digest {
            bytes.extend_from_slice(&crc32c::crc32c(&header.0).to_le_bytes());
        }
        bytes
    }

    /// TEST UNIT READY until there is no news, then the capacity; and where this session is to work.
    fn scan(&mut self, lun: u8, shape: &Shape, index: u32, count: u32) -> Result<(), SessionError> {
        for _ in 0..8 {
            if self.command(lun, &[0; 6], &[], 0)?.0 == 0 {
                break;
            }
        }
        let read_capacity_16 = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
        let (status, data) = self.command(lun, &read_capacity_16, &[], 32)?;
        let (last, block_length) = if status == 0 && data.len() >= 12 {
            (be64(&data, 0), be32(&data, 8))
        } else {
            let (status, data) = self.command(lun, &[READ_CAPACITY_10, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 8)?;
            if status != 0 || data.len() < 8 {
                return Err(SessionError::ReadCapacity(status));
            }
            (u64::from(be32(&data, 0)), be32(&data, 4))
        };
        self.block_length = block_length as usize;
        if self.block_length < 8 {
            return Err(SessionError::BlockLength(self.block_length));
        }
        let blocks = last.saturating_add(1);
        self.blocks = match shape.span {
            0 => blocks,
            span => blocks.min(span / u64::from(block_length)),
        };
        if !shape.bs.is_multiple_of(self.block_length) {
            return Err(SessionError::NotBlocks {
                command: shape.bs,
                block: self.block_length,
            });
        }
        self.find_stretch(shape, u64::from(index), u64::from(count))
    }

    /// Each session has a stretch of its own: sequential streams and verified content must not collide.
    fn find_stretch(&mut self, shape: &Shape, index: u64, count: u64) -> Result<(), SessionError> {
        let per_command = blocks_of_a_command(shape, self.block_length);
        let units = self.blocks / per_command;
        if units == 0 {
            return Err(SessionError::TooSmall(self.blocks));
        }
        let share = (units / count).max(1);
        self.stretch = Stretch {
            first: share * index % units,
            length: share,
            next: 0,
        };
        if shape.verify && units >= count {
            // Only what a fill covers.
            self.blocks = share * count * per_command;
        }
        Ok(())
    }

    /// Are header and data digests in force?
    pub(super) fn digests(&self) -> (bool, bool) {
        (self.terms.header_digest, self.terms.data_digest)
    }

    /// What was negotiated, for people.
    pub(super) fn describe(&self) -> String {
        format!(
            "{} block={} blocks={} cmd window={}",
            self.terms,
            self.block_length,
            self.blocks,
            self.max_cmd_sn.wrapping_sub(self.cmd_sn).wrapping_add(1)
        )
    }

    /// Logs out. If the target does not answer within half a second, or is gone, nobody minds.
    pub(crate) fn logout(mut self) {
        let request = Header::new(opcode::LOGOUT | IMMEDIATE, FINAL)
            .with(word::ITT, LOGOUT)
            .with(word::CMD_SN, self.cmd_sn)
            .with(word::EXP_STAT_SN, self.exp_stat_sn);
        let bytes = self.with_digest(&request);
        let _ = self.socket.set_nonblocking(false);
        let _ = self.socket.set_read_timeout(Some(Duration::from_millis(500)));
        let _ = self.socket.write_all(&bytes);
        let _ = self.socket.read_exact(&mut [0; header::LENGTH]);
    }
}
