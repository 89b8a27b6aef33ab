//! PDUs over a TCP connection, one after the other.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use iscsi_proto::{
    bhs::{Bhs, Header},
    framer::{Framer, Outbound},
    negotiation::{ConnectionParameters, DigestKind},
};

/// A control command is answered when its state change is durable: seconds, not minutes.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Patience for the answer to a logout.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection.
pub(super) struct Connection {
    stream: TcpStream,
    framer: Framer,
    outbound: Outbound,
    received: Vec<u8>,
}

/// A PDU as it came.
pub(super) struct Pdu {
    /// Basic header segment.
    pub(super) bhs: Bhs,
    /// Data segment without padding.
    pub(super) data: Vec<u8>,
}

impl Connection {
    /// Connects to the first address of `HOST:PORT` that answers.
    pub(super) fn open(portal: &str) -> Result<Self, String> {
        let mut last = "the name has no address".to_owned();
        for address in portal.to_socket_addrs().map_err(|error| error.to_string())? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return Self::over(stream).map_err(|error| error.to_string()),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream,
            framer: Framer::login(),
            outbound: Outbound::new(),
            received: Vec::new(),
        })
    }

    /// Full feature phase begins.
    pub(super) fn settle(&mut self, settled: &ConnectionParameters) {
        let header = settled.header_digest != DigestKind::None;
        let data = settled.data_digest != DigestKind::None;
        self.framer = Framer {
            header_digest: header,
            data_digest: data,
            max_data_segment: settled.own_max_recv_data_segment_length,
            max_ahs: 0,
        };
        self.outbound.set_digests(header, data);
    }

    /// Waits only shortly from now on.
    pub(super) fn hurry(&mut self) {
        // Without it the farewell takes longer, that is all.
        let _ = self.stream.set_read_timeout(Some(FAREWELL));
    }

    pub(super) fn send<H: Header>(&mut self, header: &H, data: &[u8]) -> Result<(), String> {
        self.outbound.push_copied(header, data);
        let bytes = self.outbound.take();
        self.stream
            .write_all(&bytes)
            .map_err(|error| format!("cannot send: {error}"))
    }

    pub(super) fn receive(&mut self) -> Result<Pdu, String> {
        loop {
            let survey = self
                .framer
                .survey(&self.received)
                .map_err(|error| error.to_string())?;
            if survey.whole > 0 {
                return self.take();
            }
            self.fill(survey.next)?;
        }
    }

    fn take(&mut self) -> Result<Pdu, String> {
        let frame = self.framer.open(&self.received).ok_or("no whole PDU")?;
        if !frame.data_intact {
            return Err("data digest error".to_owned());
        }
        let pdu = Pdu {
            bhs: *frame.bhs,
            data: self.received[frame.data.clone()].to_vec(),
        };
        let length = frame.length;
        self.received.drain(..length);
        Ok(pdu)
    }

    /// Reads until so many bytes are there.
    fn fill(&mut self, wanted: usize) -> Result<(), String> {
        let mut have = self.received.len();
        self.received.resize(wanted.max(have), 0);
        while have < wanted {
            let count = self
                .stream
                .read(&mut self.received[have..])
                .map_err(|error| format!("no answer: {error}"))?;
            if count == 0 {
                return Err("the target closed the connection".to_owned());
            }
            have += count;
        }
        Ok(())
    }
}
