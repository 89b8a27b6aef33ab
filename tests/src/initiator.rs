//! A small initiator with many commands in flight on one connection.
//!
//! It is driven by one thread: [`Initiator::submit`] sends a command, [`Initiator::poll`] takes what has ended, in the order
//! in which the target answered. When the connection is gone, [`Lost`] says so, after everything that was answered
//! before: what was received counts, though the target is dead.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use iscsi_proto::{
    bhs::{
        self, AsyncMessage, Bhs, DataIn, Header, LoginResponse, NopIn, NopOut, ReadyToTransfer, ScsiCommand,
        ScsiResponse, opcode,
    },
    framer::{Framer, Outbound},
    initiator::{InitiatorConfig, InitiatorLogin, InitiatorOutcome, InitiatorProgress, data_out},
    login::LoginReply,
    negotiation::{DigestKind, Offer},
};

use crate::commands::Command;

/// Status GOOD.
pub const GOOD: u8 = 0x00;
/// Status CHECK CONDITION.
pub const CHECK_CONDITION: u8 = 0x02;
/// Status BUSY.
pub const BUSY: u8 = 0x08;
/// Status RESERVATION CONFLICT.
pub const RESERVATION_CONFLICT: u8 = 0x18;
/// Status TASK SET FULL.
pub const TASK_SET_FULL: u8 = 0x28;

/// How a session is to be.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Who we are. The name and the session id make the I_T nexus.
    pub name: String,
    /// Send data with the command as far as allowed, else wait for R2T.
    pub immediate_data: bool,
    /// CRC32C over headers and data.
    pub digests: bool,
}

/// The connection is gone, and why.
#[derive(Debug, Clone)]
pub struct Lost(pub String);

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Completion {
    /// What [`Initiator::submit`] returned.
    pub tag: u32,
    /// SCSI status.
    pub status: u8,
    /// Sense data, if any.
    pub sense: Vec<u8>,
    /// Data received.
    pub data: Vec<u8>,
}

impl Completion {
    /// Sense key, ASC, ASCQ; zeros without sense data. Fixed and descriptor format.
    pub fn sense_code(&self) -> (u8, u8, u8) {
        let byte = |at: usize| self.sense.get(at).copied().unwrap_or_default();
        if byte(0) & 0x7f >= 0x72 {
            (byte(1) & 0x0f, byte(2), byte(3))
        } else {
            (byte(2) & 0x0f, byte(12), byte(13))
        }
    }

    /// Did a unit attention keep the command from being executed?
    pub fn is_unit_attention(&self) -> bool {
        self.status == CHECK_CONDITION && self.sense_code().0 == 6
    }

    /// Will it be taken later?
    pub fn is_busy(&self) -> bool {
        matches!(self.status, BUSY | TASK_SET_FULL)
    }
}

#[derive(Debug)]
struct Task {
    data_out: Vec<u8>,
    data_in: Vec<u8>,
}

/// One session with one connection.
#[derive(Debug)]
pub struct Initiator {
    stream: TcpStream,
    framer: Framer,
    outbound: Outbound,
    received: Vec<u8>,
    settled: InitiatorOutcome,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    tag: u32,
    tasks: BTreeMap<u32, Task>,
    ended: VecDeque<Completion>,
}

const FIRST_CMD_SN: u32 = 1;
/// Task attribute.
const SIMPLE: u8 = 1;
const PATIENCE: Duration = Duration::from_secs(30);

impl Initiator {
    /// Connects to 127.0.0.1 and logs in. Panics if the target does not let us in.
    pub fn login(port: u16, target: &str, manner: &Manner) -> Self {
        let mut config = InitiatorConfig::new(&*manner.name, Some(target.to_owned()), [0x80, 0, 0, 0, 0, 1]);
        let digests = if manner.digests {
            vec![DigestKind::Crc32c]
        } else {
            vec![DigestKind::None]
        };
        config.keys = Offer {
            header_digest: digests.clone(),
            data_digest: digests,
            immediate_data: manner.immediate_data,
            ..Offer::default()
        };
        let mut login = InitiatorLogin::new(
            config,
            [7; iscsi_proto::chap::ENTROPY_LENGTH],
            Duration::ZERO,
            PATIENCE,
        );
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the daemon listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("above zero");
        let mut line = Line {
            stream,
            framer: Framer::login(),
            outbound: Outbound::new(),
            received: Vec::new(),
        };
        let (settled, exp_stat_sn, max_cmd_sn) = log_in(&mut line, &mut login);
        let header = settled.connection.header_digest != DigestKind::None;
        let data = settled.connection.data_digest != DigestKind::None;
        line.outbound.set_digests(header, data);
        Self {
            framer: Framer {
                header_digest: header,
                data_digest: data,
                max_data_segment: settled.connection.own_max_recv_data_segment_length,
                max_ahs: 0,
            },
            stream: line.stream,
            outbound: line.outbound,
            received: line.received,
            settled,
            cmd_sn: FIRST_CMD_SN,
            max_cmd_sn,
            exp_stat_sn,
            tag: 0,
            tasks: BTreeMap::new(),
            ended: VecDeque::new(),
        }
    }

    /// May a command be sent now?
    pub fn has_room(&self) -> bool {
        self.max_cmd_sn.wrapping_sub(self.cmd_sn).cast_signed() >= 0
    }

    /// Commands sent and not taken from [`Self::poll`] yet.
    pub fn in_flight(&self) -> usize {
        self.tasks.len() + self.ended.len()
    }

    /// Sends a command; returns its tag.
    pub fn submit(&mut self, lun: u16, command: Command) -> Result<u32, Lost> {
        self.tag = if self.tag >= bhs::RESERVED_TAG - 1 {
            1
        } else {
            self.tag + 1
        };
        let tag = self.tag;
        let mut header = ScsiCommand::new();
        let (direction, length) = match (command.data_out.len(), command.data_in) {
            (0, 0) => (0, 0),
            (0, length) => (ScsiCommand::READ, length),
            (length, _) => (ScsiCommand::WRITE, length as u32),
        };
        header.flags |= direction | SIMPLE;
        header.lun = encode_lun(lun);
        header.initiator_task_tag = tag.into();
        header.expected_data_transfer_length = length.into();
        header.cmd_sn = self.cmd_sn.into();
        header.exp_stat_sn = self.exp_stat_sn.into();
        header.cdb = command.cdb;
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        let session = &self.settled.session;
        let most = if session.immediate_data {
            session
                .first_burst_length
                .min(self.settled.connection.peer_max_recv_data_segment_length) as usize
        } else {
            0
        };
        let immediate = &command.data_out[..command.data_out.len().min(most)];
        self.outbound.push_copied(&header, immediate);
        self.tasks.insert(
            tag,
            Task {
                data_out: command.data_out,
                data_in: Vec::with_capacity(command.data_in as usize),
            },
        );
        self.send()?;
        Ok(tag)
    }

    /// The next command that has ended, if one does within `patience`.
    pub fn poll(&mut self, patience: Duration) -> Result<Option<Completion>, Lost> {
        let until = Instant::now() + patience;
        loop {
            if let Some(completion) = self.ended.pop_front() {
                return Ok(Some(completion));
            }
            if !self.receive(until)? {
                return Ok(None);
            }
        }
    }

    /// Runs one command to its end, with nothing else in flight, again and again while unit attentions are reported.
    pub fn run(&mut self, lun: u16, command: &Command) -> Result<Completion, Lost> {
        loop {
            self.submit(lun, command.clone())?;
            let completion = self
                .poll(PATIENCE)?
                .ok_or_else(|| Lost(format!("no answer within {PATIENCE:?}")))?;
            if !completion.is_unit_attention() {
                return Ok(completion);
            }
        }
    }

    fn send(&mut self) -> Result<(), Lost> {
        let bytes = self.outbound.take();
        self.stream
            .write_all(&bytes)
            .map_err(|error| Lost(format!("cannot send: {error}")))
    }

    /// Takes what comes until `until`; false when nothing came.
    fn receive(&mut self, until: Instant) -> Result<bool, Lost> {
        let left = until.saturating_duration_since(Instant::now());
        self.stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .expect("above zero");
        let mut piece = vec![0; 1 << 17];
        let count = loop {
            match self.stream.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                ended => break ended,
            }
        };
        match count {
            Ok(0) => return Err(Lost("the target closed the connection".to_owned())),
            Ok(count) => self.received.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(error) => return Err(Lost(format!("cannot receive: {error}"))),
        }
        let received = std::mem::take(&mut self.received);
        let mut at = 0;
        while let Some(frame) = self.framer.open(&received[at..]) {
            assert!(frame.data_intact, "a data digest is wrong");
            let data = &received[at + frame.data.start..at + frame.data.end];
            self.pdu(frame.bhs, data)?;
            at += frame.length;
        }
        self.framer
            .survey(&received[at..])
            .expect("the target sends well-formed PDUs");
        self.received = received[at..].to_vec();
        if !self.outbound.is_empty() {
            self.send()?;
        }
        Ok(true)
    }

    fn pdu(&mut self, header: &Bhs, data: &[u8]) -> Result<(), Lost> {
        match header.opcode() {
            opcode::DATA_IN => {
                let pdu: &DataIn = header.view();
                let tag = pdu.initiator_task_tag.get();
                let task = self.tasks.get_mut(&tag).expect("data for a command in flight");
                assert_eq!(
                    pdu.buffer_offset.get() as usize,
                    task.data_in.len(),
                    "DataPDUInOrder and DataSequenceInOrder were agreed"
                );
                task.data_in.extend_from_slice(data);
                if pdu.has_status() {
                    self.heard(pdu.stat_sn.get(), pdu.max_cmd_sn.get());
                    self.end(tag, pdu.status, Vec::new());
                }
            }
            opcode::SCSI_RESPONSE => {
                let pdu: &ScsiResponse = header.view();
                assert_eq!(pdu.response, 0, "the target failed to execute a command");
                self.heard(pdu.stat_sn.get(), pdu.max_cmd_sn.get());
                let sense = match data {
                    [high, low, rest @ ..] => {
                        let length = usize::from(u16::from_be_bytes([*high, *low]));
                        rest[..length].to_vec()
                    }
                    _ => Vec::new(),
                };
                self.end(pdu.initiator_task_tag.get(), pdu.status, sense);
            }
            opcode::READY_TO_TRANSFER => self.answer_r2t(header.view()),
            opcode::NOP_IN => self.answer_nop(header.view(), data),
            opcode::ASYNC_MESSAGE if header.view::<AsyncMessage>().event == AsyncMessage::SCSI_EVENT => {
                let pdu: &AsyncMessage = header.view();
                self.heard(pdu.stat_sn.get(), pdu.max_cmd_sn.get());
            }
            opcode::ASYNC_MESSAGE => return Err(Lost("the target ends the session".to_owned())),
            other => panic!("an unexpected PDU of operation code {other:#x}: {header:?}"),
        }
        Ok(())
    }

    fn heard(&mut self, stat_sn: u32, max_cmd_sn: u32) {
        self.exp_stat_sn = stat_sn.wrapping_add(1);
        // Never backwards (RFC 7143 4.2.2.1).
        if max_cmd_sn.wrapping_sub(self.max_cmd_sn).cast_signed() > 0 {
            self.max_cmd_sn = max_cmd_sn;
        }
    }

    fn end(&mut self, tag: u32, status: u8, sense: Vec<u8>) {
        let task = self.tasks.remove(&tag).expect("a status for a command in flight");
        self.ended.push_back(Completion {
            tag,
            status,
            sense,
            data: task.data_in,
        });
    }

    fn answer_r2t(&mut self, request: &ReadyToTransfer) {
        let task = &self.tasks[&request.initiator_task_tag.get()];
        let most = self.settled.connection.peer_max_recv_data_segment_length as usize;
        let answer = data_out(request, &task.data_out, most, self.exp_stat_sn);
        for (header, piece) in answer.expect("an R2T for data that the command has") {
            self.outbound.push_copied(&header, piece);
        }
    }

    fn answer_nop(&mut self, ping: &NopIn, data: &[u8]) {
        if ping.target_transfer_tag.get() == bhs::RESERVED_TAG {
            return;
        }
        let mut answer = NopOut::new();
        answer.opcode |= bhs::IMMEDIATE;
        answer.lun = ping.lun;
        answer.initiator_task_tag = bhs::RESERVED_TAG.into();
        answer.target_transfer_tag = ping.target_transfer_tag;
        answer.cmd_sn = self.cmd_sn.into();
        answer.exp_stat_sn = self.exp_stat_sn.into();
        self.outbound.push_copied(&answer, data);
    }
}

/// A connection in the login phase: one PDU out, one in.
struct Line {
    stream: TcpStream,
    framer: Framer,
    outbound: Outbound,
    received: Vec<u8>,
}

impl Line {
    fn send<H: Header>(&mut self, header: &H, data: &[u8]) {
        self.outbound.push_copied(header, data);
        let bytes = self.outbound.take();
        self.stream.write_all(&bytes).expect("the daemon takes a login");
    }

    fn receive(&mut self) -> (Bhs, Vec<u8>) {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("above zero");
        loop {
            if let Some(frame) = self.framer.open(&self.received) {
                let pdu = (*frame.bhs, self.received[frame.data.clone()].to_vec());
                let length = frame.length;
                self.received.drain(..length);
                return pdu;
            }
            let mut piece = [0; 8192];
            let count = self.stream.read(&mut piece).expect("an answer to a login");
            assert_ne!(count, 0, "the target closed the connection in the login phase");
            self.received.extend_from_slice(&piece[..count]);
        }
    }
}

/// The login phase. Gives what was settled, the StatSN expected next, and MaxCmdSN.
fn log_in(line: &mut Line, login: &mut InitiatorLogin) -> (InitiatorOutcome, u32, u32) {
    let started = Instant::now();
    let mut request = login.start().expect("a configuration that can log in");
    let mut exp_stat_sn = 0;
    loop {
        let header = request.header(FIRST_CMD_SN, exp_stat_sn);
        line.send(&header, &request.data);
        let (bhs, data) = line.receive();
        assert_eq!(bhs.opcode(), opcode::LOGIN_RESPONSE, "{bhs:?}");
        let response: &LoginResponse = bhs.view();
        exp_stat_sn = response.stat_sn.get().wrapping_add(1);
        let reply = LoginReply::received(response, data);
        match login.handle(&reply, started.elapsed()) {
            InitiatorProgress::Send(next) => request = next,
            InitiatorProgress::Done(outcome) => return (*outcome, exp_stat_sn, response.max_cmd_sn.get()),
            InitiatorProgress::Failed(failure) => panic!("the target does not let us in: {failure}"),
        }
    }
}

/// Peripheral device addressing (SAM-5 4.7), enough for a test's few units.
fn encode_lun(lun: u16) -> [u8; 8] {
    assert!(lun < 256);
    [0, lun as u8, 0, 0, 0, 0, 0, 0]
}
