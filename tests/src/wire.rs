//! An initiator that sends any bytes: PDUs are built field by field, right or wrong, over a plain blocking socket.

mod scsi;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use iscsi_proto::{
    bhs::{BHS_LENGTH, Bhs},
    digest::{crc32c, crc32c_padded, padding},
    framer::{Framer, MAX_AHS},
};
use socket2::{Domain, Socket, Type};

pub use scsi::{Ended, READ, Sense, WRITE};

/// T in login, F elsewhere.
pub const FINAL: u8 = 0x80;

/// The immediate bit of an opcode.
pub const IMMEDIATE: u8 = 0x40;

/// A PDU to send, or one received. Built with nothing checked.
#[derive(Debug, Clone)]
pub struct Pdu {
    /// The basic header segment.
    pub bhs: Bhs,
    /// The data segment without padding.
    pub data: Vec<u8>,
}

impl Pdu {
    /// All zero but for the opcode (with the immediate bit, if wanted) and the flags of byte 1.
    pub fn new(opcode: u8, flags: u8) -> Self {
        let mut bhs = Bhs([0; BHS_LENGTH]);
        bhs.0[0] = opcode;
        bhs.0[1] = flags;
        Self {
            bhs,
            data: Vec::new(),
        }
    }

    /// Puts bytes at a place of the header.
    #[must_use]
    pub fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.bhs.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Puts a 32-bit field.
    #[must_use]
    pub fn word(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    /// Sets the data segment and its length.
    #[must_use]
    pub fn with_data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        let length = u32::try_from(data.len()).expect("a test's data is short");
        self.put(5, &length.to_be_bytes()[1..])
    }

    /// A 32-bit field.
    pub fn get(&self, at: usize) -> u32 {
        let bytes = self.bhs.0[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes)
    }

    /// As it goes over the wire.
    pub fn bytes(&self, header_digest: bool, data_digest: bool) -> Vec<u8> {
        let mut bytes = self.bhs.0.to_vec();
        if header_digest {
            bytes.extend_from_slice(&crc32c(&self.bhs.0));
        }
        bytes.extend_from_slice(&self.data);
        bytes.resize(bytes.len() + padding(self.data.len()), 0);
        if data_digest && !self.data.is_empty() {
            bytes.extend_from_slice(&crc32c_padded(&self.data));
        }
        bytes
    }
}

/// What was heard of the target.
#[derive(Debug)]
pub enum Heard {
    /// A PDU.
    Pdu(Pdu),
    /// It closed the connection.
    Closed,
    /// Nothing, for as long as was waited.
    Silence,
}

/// One connection, in whatever state the test has brought it to.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    received: Vec<u8>,
    framer: Framer,
    /// `CmdSN` of the next command.
    pub cmd_sn: u32,
    /// `ExpStatSN`, one past the last status received.
    pub exp_stat_sn: u32,
    /// Asynchronous messages with SCSI events, which [`Self::answer`] passes over.
    pub events: Vec<Pdu>,
    /// TSIH to log in with.
    pub tsih: u16,
}

impl Wire {
    /// Connects, and says nothing.
    pub fn connect(port: u16) -> Self {
        Self::on(TcpStream::connect(("127.0.0.1", port)).expect("the daemon listens"))
    }

    /// As [`Self::connect`], from this address of the loopback network.
    pub fn connect_from(address: &str, port: u16) -> Self {
        let here = SocketAddr::new(address.parse().expect("an address"), 0);
        let there = SocketAddr::from(([127, 0, 0, 1], port));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&here.into()).expect("loopback has the address");
        socket.connect(&there.into()).expect("the daemon listens");
        Self::on(socket.into())
    }

    fn on(socket: TcpStream) -> Self {
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout above zero");
        Self {
            socket,
            received: Vec::new(),
            framer: Framer {
                max_ahs: MAX_AHS,
                max_data_segment: 0xff_ffff,
                ..Framer::login()
            },
            cmd_sn: 1,
            exp_stat_sn: 0,
            tsih: 0,
            events: Vec::new(),
        }
    }

    /// How long to wait for an answer from now on; 30 s before.
    pub fn set_patience(&mut self, time: Duration) {
        self.socket
            .set_read_timeout(Some(time))
            .expect("a timeout above zero");
    }

    /// Both digests from now on.
    pub fn use_digests(&mut self) {
        self.set_digests(true, true);
    }

    /// These digests from now on.
    pub fn set_digests(&mut self, header: bool, data: bool) {
        self.framer.header_digest = header;
        self.framer.data_digest = data;
    }

    /// Sends bytes. A connection the target has closed is found out by the next receive.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Sends a PDU with the digests in force.
    pub fn send(&mut self, pdu: &Pdu) {
        self.send_bytes(&pdu.bytes(self.framer.header_digest, self.framer.data_digest));
    }

    /// The next PDU; `None` when the target has closed the connection. Fails after 10 s of silence.
    pub fn receive(&mut self) -> Option<Pdu> {
        match self.next() {
            Heard::Pdu(pdu) => Some(pdu),
            Heard::Closed => None,
            Heard::Silence => panic!("the target is silent"),
        }
    }

    /// What comes within `time`.
    pub fn listen(&mut self, time: Duration) -> Heard {
        self.set_patience(time);
        self.next()
    }

    fn next(&mut self) -> Heard {
        loop {
            let survey = self.framer.survey(&self.received);
            if survey.expect("the target sends whole PDUs").whole > 0 {
                break;
            }
            let mut piece = [0; 16_384];
            match self.socket.read(&mut piece) {
                Ok(0) => return Heard::Closed,
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Heard::Closed,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Heard::Silence;
                }
                Err(error) => panic!("the socket failed: {error}"),
            }
        }
        let frame = self.framer.open(&self.received).expect("surveyed");
        assert!(frame.data_intact, "the target's data digest is wrong");
        let pdu = Pdu {
            bhs: *frame.bhs,
            data: self.received[frame.data.clone()].to_vec(),
        };
        let length = frame.length;
        self.received.drain(..length);
        Heard::Pdu(pdu)
    }

    /// As [`Self::receive`], from a target that must answer. When it asks meanwhile whether we are there, since the test takes its
    /// time, it is told.
    pub fn answer(&mut self) -> Pdu {
        loop {
            let pdu = self.receive().expect("the target closed the connection");
            if (pdu.bhs.0[0], pdu.bhs.0[36]) == (0x32, 0) {
                self.events.push(pdu);
                continue;
            }
            let is_question = pdu.bhs.0[0] == 0x20 && pdu.get(16) == u32::MAX && pdu.get(20) != u32::MAX;
            if !is_question {
                return pdu;
            }
            let here = self.nop(IMMEDIATE, u32::MAX, self.cmd_sn).word(20, pdu.get(20));
            self.send(&here);
        }
    }

    /// A Login Request; `stages` is byte 1: T, C, CSG, NSG. Pairs are separated by spaces in `text`.
    pub fn login_request(&self, stages: u8, text: &str) -> Pdu {
        let mut data: Vec<u8> = text.bytes().map(|b| if b == b' ' { 0 } else { b }).collect();
        if !data.is_empty() {
            data.push(0);
        }
        Pdu::new(0x03 | IMMEDIATE, stages)
            .put(8, &[0x80, 0, 0, 0, 0, 1])
            .put(14, &self.tsih.to_be_bytes())
            .word(16, 7)
            .word(24, self.cmd_sn)
            .word(28, self.exp_stat_sn)
            .with_data(&data)
    }

    /// Sends a Login Request; returns status class and detail, and the text with spaces between the pairs.
    pub fn login(&mut self, stages: u8, text: &str) -> ((u8, u8), Pdu, String) {
        let request = self.login_request(stages, text);
        self.login_with(&request)
    }

    /// As [`Self::login`], with a request of the test's making.
    pub fn login_with(&mut self, request: &Pdu) -> ((u8, u8), Pdu, String) {
        self.send(request);
        let pdu = self.answer();
        assert_eq!(pdu.bhs.0[0], 0x23, "not a Login Response");
        self.exp_stat_sn = pdu.get(24).wrapping_add(1);
        let text = String::from_utf8_lossy(&pdu.data).replace('\0', " ");
        ((pdu.bhs.0[36], pdu.bhs.0[37]), pdu, text)
    }

    /// A connection in full feature phase, by one Login Request with these keys besides the names.
    pub fn session(port: u16, target: &str, keys: &str) -> Self {
        Self::session_as(port, target, "iqn.2026-11.test:wire", 1, keys)
    }

    /// As [`Self::session`], as this initiator, with the given last byte of the ISID.
    pub fn session_as(port: u16, target: &str, initiator: &str, isid: u8, keys: &str) -> Self {
        let mut wire = Self::connect(port);
        let text = format!("InitiatorName={initiator} TargetName={target} SessionType=Normal {keys}");
        let request = wire.login_request(FINAL | 1 << 2 | 3, text.trim_end());
        let (status, pdu, answer) = wire.login_with(&request.put(8, &[0x80, 0, 0, 0, 0, isid]));
        assert_eq!(status, (0, 0), "{answer}");
        assert_eq!(pdu.bhs.0[1], FINAL | 1 << 2 | 3, "{answer}");
        wire.tsih = u16::from_be_bytes([pdu.bhs.0[14], pdu.bhs.0[15]]);
        wire
    }

    /// A Login Request that joins the session of `leading` with this CID; the names are those of [`Self::session`].
    pub fn joining_request(&mut self, leading: &Wire, target: &str, cid: u16, keys: &str) -> Pdu {
        (self.tsih, self.cmd_sn) = (leading.tsih, leading.cmd_sn);
        let text =
            format!("InitiatorName=iqn.2026-11.test:wire TargetName={target} SessionType=Normal {keys}");
        self.login_request(FINAL | 1 << 2 | 3, text.trim_end())
            .put(20, &cid.to_be_bytes())
    }

    /// One more connection of the session of `leading`, or one in place of that with the same CID.
    pub fn join(port: u16, leading: &Wire, target: &str, cid: u16, keys: &str) -> Self {
        let mut wire = Self::connect(port);
        let request = wire.joining_request(leading, target, cid, keys);
        let (status, pdu, answer) = wire.login_with(&request);
        assert_eq!(status, (0, 0), "{answer}");
        assert_eq!(
            pdu.bhs.0[14..16],
            leading.tsih.to_be_bytes(),
            "the session's TSIH"
        );
        wire
    }

    /// A Logout Request for the connection `cid`, or with reason 0 for the session.
    pub fn logout_request(&self, reason: u8, cid: u16) -> Pdu {
        Pdu::new(0x06 | IMMEDIATE, FINAL | reason)
            .word(16, 0x1060)
            .put(20, &cid.to_be_bytes())
            .word(24, self.cmd_sn)
            .word(28, self.exp_stat_sn)
    }

    /// Logs out; gives the response code.
    pub fn logout(&mut self, reason: u8, cid: u16) -> u8 {
        self.send(&self.logout_request(reason, cid));
        let answer = self.answer();
        assert_eq!((answer.bhs.0[0], answer.get(16)), (0x26, 0x1060), "{answer:?}");
        self.exp_stat_sn = answer.get(24).wrapping_add(1);
        answer.bhs.0[2]
    }

    /// A NOP-Out that wants an answer, with the given `CmdSN`.
    pub fn nop(&self, flags: u8, tag: u32, cmd_sn: u32) -> Pdu {
        Pdu::new(flags, FINAL)
            .word(16, tag)
            .word(20, u32::MAX)
            .word(24, cmd_sn)
            .word(28, self.exp_stat_sn)
    }

    /// As [`Self::assert_alive`], with no status acknowledged from now on that was not before.
    pub fn assert_alive_without_acknowledging(&mut self) {
        let exp_stat_sn = self.exp_stat_sn;
        self.assert_alive();
        self.exp_stat_sn = exp_stat_sn;
    }

    /// An immediate NOP-Out must come back with its data: the connection lives.
    pub fn assert_alive(&mut self) {
        let nop = self.nop(IMMEDIATE, 0xa11e, self.cmd_sn).with_data(b"alive");
        self.send(&nop);
        let pdu = self.answer();
        assert_eq!((pdu.bhs.0[0], pdu.get(16)), (0x20, 0xa11e));
        assert_eq!(pdu.data, b"alive");
        self.exp_stat_sn = pdu.get(24).wrapping_add(1);
    }
}
