//! A small initiator: enough to say everything to a target, right or wrong, and to look at each answer.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use iscsi_proto::{
    bhs::{self, Bhs, FINAL, Header, IMMEDIATE, RESERVED_TAG, opcode},
    framer::{Framer, MAX_AHS, Outbound},
    initiator::{InitiatorConfig, InitiatorLogin, InitiatorOutcome, InitiatorProgress, LoginFailure},
    login::LoginReply,
    negotiation::{DigestKind, Offer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Anything that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A received PDU.
#[derive(Debug, Clone)]
pub(crate) struct Pdu {
    pub(crate) bhs: Bhs,
    pub(crate) data: Vec<u8>,
}

/// How a SCSI command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandEnd {
    pub(crate) response: u8,
    pub(crate) status: u8,
    pub(crate) sense: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// Underflow is negative.
    pub(crate) residual: i64,
}

/// A logged-in connection.
pub(crate) struct Initiator {
    pub(crate) socket: TcpStream,
    framer: Framer,
    out: Outbound,
    received: Vec<u8>,
    pub(crate) cmd_sn: u32,
    pub(crate) exp_stat_sn: u32,
    pub(crate) max_cmd_sn: u32,
    next_tag: u32,
    pub(crate) outcome: InitiatorOutcome,
}

pub(crate) fn config(name: &str, target: Option<&str>, keys: Offer) -> InitiatorConfig {
    InitiatorConfig {
        keys,
        ..InitiatorConfig::new(name, target.map(Into::into), [0x80, 0, 0, 0, 0, 1])
    }
}

impl Initiator {
    pub(crate) async fn login(address: SocketAddr, config: InitiatorConfig) -> Result<Self, LoginFailure> {
        let max_data_segment = config.keys.max_recv_data_segment_length;
        let mut login = InitiatorLogin::new(config, [7; _], Duration::ZERO, PATIENCE);
        let outcome = InitiatorOutcome {
            tsih: 0,
            session: iscsi_proto::negotiation::SessionParameters {
                max_connections: 1,
                initial_r2t: true,
                immediate_data: true,
                max_burst_length: 262_144,
                first_burst_length: 65_536,
                default_time2wait: 2,
                default_time2retain: 20,
                max_outstanding_r2t: 1,
                data_pdu_in_order: true,
                data_sequence_in_order: true,
                error_recovery_level: 0,
                task_reporting: iscsi_proto::negotiation::TaskReporting::Rfc3720,
                protocol_level: 1,
            },
            connection: iscsi_proto::negotiation::ConnectionParameters {
                header_digest: DigestKind::None,
                data_digest: DigestKind::None,
                peer_max_recv_data_segment_length: 8192,
                own_max_recv_data_segment_length: 8192,
            },
            target_alias: None,
            portal_group_tag: None,
        };
        let mut initiator = Self {
            socket: TcpStream::connect(address).await.unwrap(),
            framer: Framer {
                max_ahs: MAX_AHS,
                max_data_segment,
                ..Framer::login()
            },
            out: Outbound::new(),
            received: Vec::new(),
            cmd_sn: 100,
            exp_stat_sn: 0,
            max_cmd_sn: 100,
            next_tag: 1,
            outcome,
        };
        let mut request = login.start()?;
        loop {
            let header = request.header(initiator.cmd_sn, initiator.exp_stat_sn);
            initiator.send(&header, &request.data).await;
            let Some(pdu) = initiator.receive_or_end().await else {
                panic!("the target closed the connection during login");
            };
            assert_eq!(pdu.bhs.opcode(), opcode::LOGIN_RESPONSE);
            let response = pdu.bhs.view::<bhs::LoginResponse>();
            let reply = LoginReply::received(response, pdu.data);
            match login.handle(&reply, Duration::ZERO) {
                InitiatorProgress::Send(next) => request = next,
                InitiatorProgress::Failed(failure) => return Err(failure),
                InitiatorProgress::Done(outcome) => {
                    let digest = |kind| kind == DigestKind::Crc32c;
                    initiator.framer.header_digest = digest(outcome.connection.header_digest);
                    initiator.framer.data_digest = digest(outcome.connection.data_digest);
                    initiator
                        .out
                        .set_digests(initiator.framer.header_digest, initiator.framer.data_digest);
                    initiator.outcome = *outcome;
                    return Ok(initiator);
                }
            }
        }
    }

    pub(crate) fn tag(&mut self) -> u32 {
        self.next_tag += 1;
        self.next_tag
    }

    pub(crate) async fn send<H: Header>(&mut self, header: &H, data: &[u8]) {
        self.out.push_copied(header, data);
        let bytes = self.out.take();
        // The target may have closed the connection; then the next receive says so.
        let _ = self.socket.write_all(&bytes).await;
    }

    /// Keeps a PDU to be sent together with others.
    pub(crate) fn queue<H: Header>(&mut self, header: &H, data: &[u8]) {
        self.out.push_copied(header, data);
    }

    pub(crate) async fn send_queued(&mut self) {
        let bytes = self.out.take();
        self.socket.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn send_with_ahs<H: Header>(&mut self, header: &H, ahs: &[u8]) {
        self.out.push_with_ahs(header, ahs, &[]);
        self.send_queued().await;
    }

    /// Sends a PDU whose data digest does not match.
    pub(crate) async fn send_damaged<H: Header>(&mut self, header: &H, data: &[u8]) {
        self.out.push_copied(header, data);
        let mut bytes = self.out.take();
        *bytes.last_mut().unwrap() ^= 1;
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// Sends a header as it is, with whatever lengths are in it.
    pub(crate) async fn send_raw(&mut self, header: &Bhs) {
        self.socket.write_all(&header.0).await.unwrap();
    }

    /// The next PDU, `None` when the target has closed the connection.
    pub(crate) async fn receive_or_end(&mut self) -> Option<Pdu> {
        timeout(PATIENCE, self.next_pdu())
            .await
            .expect("the target is silent")
    }

    pub(crate) async fn receive(&mut self) -> Pdu {
        self.receive_or_end()
            .await
            .expect("the target closed the connection")
    }

    async fn next_pdu(&mut self) -> Option<Pdu> {
        while self.framer.survey(&self.received).unwrap().whole == 0 {
            match self.socket.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
        let frame = self.framer.open(&self.received).unwrap();
        assert!(frame.data_intact);
        let pdu = Pdu {
            bhs: *frame.bhs,
            data: self.received[frame.data.clone()].to_vec(),
        };
        let length = frame.length;
        self.received.drain(..length);
        self.count(&pdu.bhs);
        Some(pdu)
    }

    /// Follows StatSN and the command window.
    fn count(&mut self, bhs: &Bhs) {
        let word = |at: usize| u32::from_be_bytes(bhs.0[at..at + 4].try_into().unwrap());
        self.max_cmd_sn = word(32);
        let carries_status = match bhs.opcode() {
            opcode::READY_TO_TRANSFER => false,
            opcode::DATA_IN => bhs.view::<bhs::DataIn>().has_status(),
            opcode::NOP_IN => bhs.initiator_task_tag() != RESERVED_TAG,
            opcode::LOGIN_RESPONSE if self.exp_stat_sn == 0 => true,
            _ => true,
        };
        if carries_status {
            let stat_sn = word(24);
            assert!(
                self.exp_stat_sn == 0 || stat_sn == self.exp_stat_sn,
                "StatSN {stat_sn} is out of order"
            );
            self.exp_stat_sn = stat_sn.wrapping_add(1);
        }
    }

    /// A SCSI Command header with the next CmdSN.
    pub(crate) fn command(&mut self, lun: u8, cdb: &[u8], flags: u8, expected: u32) -> bhs::ScsiCommand {
        let mut header = bhs::ScsiCommand::new();
        header.flags = FINAL | flags | 1;
        header.lun[1] = lun;
        header.initiator_task_tag = self.tag().into();
        header.expected_data_transfer_length = expected.into();
        header.cmd_sn = self.cmd_sn.into();
        header.exp_stat_sn = self.exp_stat_sn.into();
        header.cdb[..cdb.len()].copy_from_slice(cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        header
    }

    /// Sends a command without data-out and waits for its end.
    pub(crate) async fn read(&mut self, lun: u8, cdb: &[u8], expected: u32) -> CommandEnd {
        let flags = if expected > 0 { bhs::ScsiCommand::READ } else { 0 };
        let header = self.command(lun, cdb, flags, expected);
        self.send(&header, &[]).await;
        self.end_of(header.initiator_task_tag.get(), &[]).await
    }

    /// Sends a write with as much unsolicited data as was agreed on, and waits for its end.
    pub(crate) async fn write(&mut self, lun: u8, cdb: &[u8], data: &[u8]) -> CommandEnd {
        let mut header = self.command(lun, cdb, bhs::ScsiCommand::WRITE, data.len() as u32);
        let session = self.outcome.session;
        let tag = header.initiator_task_tag.get();
        let first_burst = data.len().min(session.first_burst_length as usize);
        let segment = self.outcome.connection.peer_max_recv_data_segment_length as usize;
        let immediate = if session.immediate_data {
            first_burst.min(segment)
        } else {
            0
        };
        let unsolicited = if session.initial_r2t {
            immediate
        } else {
            first_burst
        };
        if immediate < unsolicited {
            header.flags &= !FINAL;
        }
        self.send(&header, &data[..immediate]).await;
        self.send_data(tag, RESERVED_TAG, immediate, &data[..unsolicited])
            .await;
        self.end_of(tag, data).await
    }

    /// Sends `data[from..]` as one sequence.
    pub(crate) async fn send_data(&mut self, tag: u32, transfer_tag: u32, from: usize, data: &[u8]) {
        let segment = self.outcome.connection.peer_max_recv_data_segment_length as usize;
        let mut offset = from;
        for (data_sn, piece) in data[from..].chunks(segment).enumerate() {
            let mut header = bhs::DataOut::new();
            let end = offset + piece.len();
            header.flags = if end == data.len() { FINAL } else { 0 };
            header.initiator_task_tag = tag.into();
            header.target_transfer_tag = transfer_tag.into();
            header.exp_stat_sn = self.exp_stat_sn.into();
            header.data_sn = (data_sn as u32).into();
            header.buffer_offset = (offset as u32).into();
            self.send(&header, piece).await;
            offset = end;
        }
    }

    /// Answers R2Ts and collects Data-In until the command with this tag has ended.
    pub(crate) async fn end_of(&mut self, tag: u32, data_out: &[u8]) -> CommandEnd {
        let mut data = Vec::new();
        let mut sequence = 0;
        loop {
            let pdu = self.receive().await;
            match pdu.bhs.opcode() {
                opcode::READY_TO_TRANSFER => {
                    let r2t = pdu.bhs.view::<bhs::ReadyToTransfer>();
                    assert_eq!(r2t.initiator_task_tag.get(), tag);
                    let start = r2t.buffer_offset.get() as usize;
                    let end = start + r2t.desired_data_transfer_length.get() as usize;
                    self.send_data(tag, r2t.target_transfer_tag.get(), start, &data_out[..end])
                        .await;
                }
                opcode::DATA_IN => {
                    let header = pdu.bhs.view::<bhs::DataIn>();
                    assert_eq!(header.initiator_task_tag.get(), tag);
                    assert_eq!(header.buffer_offset.get() as usize, data.len());
                    data.extend_from_slice(&pdu.data);
                    sequence += pdu.data.len();
                    assert!(sequence <= self.outcome.session.max_burst_length as usize);
                    if header.flags & FINAL != 0 {
                        sequence = 0;
                    }
                    if header.has_status() {
                        let residual = residual(
                            header.flags,
                            header.residual_count.get(),
                            bhs::DataIn::OVERFLOW,
                            bhs::DataIn::UNDERFLOW,
                        );
                        return CommandEnd {
                            response: 0,
                            status: header.status,
                            sense: Vec::new(),
                            data,
                            residual,
                        };
                    }
                }
                opcode::SCSI_RESPONSE => {
                    let header = pdu.bhs.view::<bhs::ScsiResponse>();
                    assert_eq!(header.initiator_task_tag.get(), tag);
                    return CommandEnd {
                        response: header.response,
                        status: header.status,
                        sense: pdu.data.get(2..).unwrap_or_default().to_vec(),
                        data,
                        residual: residual(
                            header.flags,
                            header.residual_count.get(),
                            bhs::ScsiResponse::OVERFLOW,
                            bhs::ScsiResponse::UNDERFLOW,
                        ),
                    };
                }
                other => panic!("unexpected PDU {other:02x}h"),
            }
        }
    }

    /// Sends an immediate task management request and returns the response code.
    pub(crate) async fn task_management(&mut self, function: u8, lun: u8, referenced: u32) -> u8 {
        let tag = self.send_task_management(function, lun, referenced).await;
        let pdu = self.receive().await;
        assert_eq!(pdu.bhs.opcode(), opcode::TASK_MANAGEMENT_RESPONSE);
        assert_eq!(pdu.bhs.initiator_task_tag(), tag);
        pdu.bhs.view::<bhs::TaskManagementResponse>().response
    }

    pub(crate) async fn send_task_management(&mut self, function: u8, lun: u8, referenced: u32) -> u32 {
        let mut header = bhs::TaskManagementRequest::new();
        header.opcode |= IMMEDIATE;
        header.flags = FINAL | function;
        header.lun[1] = lun;
        header.initiator_task_tag = self.tag().into();
        header.referenced_task_tag = referenced.into();
        header.cmd_sn = self.cmd_sn.into();
        self.send(&header, &[]).await;
        header.initiator_task_tag.get()
    }

    /// Sends a ping and returns what comes back.
    pub(crate) async fn ping(&mut self, data: &[u8]) -> Vec<u8> {
        let mut header = bhs::NopOut::new();
        header.opcode |= IMMEDIATE;
        header.initiator_task_tag = self.tag().into();
        header.target_transfer_tag = RESERVED_TAG.into();
        header.cmd_sn = self.cmd_sn.into();
        self.send(&header, data).await;
        let pdu = self.receive().await;
        assert_eq!(pdu.bhs.opcode(), opcode::NOP_IN);
        assert_eq!(pdu.bhs.initiator_task_tag(), header.initiator_task_tag.get());
        pdu.data
    }

    /// Sends a text and returns the whole answer.
    pub(crate) async fn text(&mut self, text: &str) -> String {
        let mut transfer_tag = RESERVED_TAG;
        let mut answer = Vec::new();
        let tag = self.tag();
        loop {
            let mut header = bhs::TextRequest::new();
            header.initiator_task_tag = tag.into();
            header.target_transfer_tag = transfer_tag.into();
            header.cmd_sn = self.cmd_sn.into();
            self.cmd_sn += 1;
            let data = if answer.is_empty() { text.as_bytes() } else { &[] };
            self.send(&header, data).await;
            let pdu = self.receive().await;
            assert_eq!(pdu.bhs.opcode(), opcode::TEXT_RESPONSE);
            answer.extend_from_slice(&pdu.data);
            let response = pdu.bhs.view::<bhs::TextResponse>();
            transfer_tag = response.target_transfer_tag.get();
            if response.is_final() {
                assert_eq!(transfer_tag, RESERVED_TAG);
                return String::from_utf8(answer).unwrap().replace('\0', "\n");
            }
        }
    }

    /// Logs out and returns the response code; the connection is closed then.
    pub(crate) async fn logout(&mut self) -> u8 {
        let mut header = bhs::LogoutRequest::new();
        header.opcode |= IMMEDIATE;
        header.initiator_task_tag = self.tag().into();
        header.cid = 0.into();
        header.cmd_sn = self.cmd_sn.into();
        self.send(&header, &[]).await;
        let pdu = self.receive().await;
        assert_eq!(pdu.bhs.opcode(), opcode::LOGOUT_RESPONSE);
        let response = pdu.bhs.view::<bhs::LogoutResponse>().response;
        assert!(self.receive_or_end().await.is_none());
        response
    }
}

fn residual(flags: u8, count: u32, overflow: u8, underflow: u8) -> i64 {
    match (flags & overflow != 0, flags & underflow != 0) {
        (true, _) => i64::from(count),
        (false, true) => -i64::from(count),
        (false, false) => 0,
    }
}

/// Bytes that tell where they belong.
pub(crate) fn pattern(seed: u64, length: usize) -> Bytes {
    (0..length as u64)
        .map(|place| (place.wrapping_mul(0x9e37_79b9).wrapping_add(seed * 77) >> 7) as u8)
        .collect()
}
