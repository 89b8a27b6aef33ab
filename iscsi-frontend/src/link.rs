//! One connection of a session: its socket, its numbering of statuses, and how it looks on the wire.
//!
//! What belongs to the session (commands, tasks, the window) is in [`crate::session`].

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use iscsi_proto::{
    bhs::{DataIn, Header},
    framer::{Framer, MAX_AHS, Outbound},
    kept::{Kept, KeptAnswers, KeptRead},
    negotiation::{ConnectionParameters, DigestKind},
    nop::{Keepalive, KeepaliveAction},
    session::{CommandWindow, StatusNumber, is_before},
};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};

use crate::{
    ending::{Ending, Phase},
    login::{FinalResponse, LoggedIn},
    looking::Looking,
    sessions::{CloseReason, ConnectionView},
    socket::{ReceiveBuffer, send},
    statistics::{Cells, Counters},
    straight::Straight,
    tasks::Tasks,
    text::TextExchange,
};

/// Nothing is read while more than this waits to be sent.
const SEND_BACKLOG: usize = 4 << 20;

/// Bytes of answers that a connection keeps until they are acknowledged, for ErrorRecoveryLevel 1 and above.
const KEPT_BYTES: usize = 16 << 20;

/// Received at once while long Data-Out is awaited: a few headers. What follows a header can go straight to its place.
const HEADERS: usize = 4 * 1024;

/// How often a connection looks at the clock. One without traffic since the last look gives its large buffer back.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// Names a connection within its session. Never used again, other than a CID: a task keeps the one it came by, and is
/// not mistaken for one of the connection that came after with the same CID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct LinkId(u32);

impl LinkId {
    /// The next one.
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// A socket with what was received from it and not handled, and what it came by.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    pub(crate) receive: ReceiveBuffer,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// The open portal it came through.
    pub(crate) portal: SocketAddr,
    /// One of the connections there may be.
    pub(crate) place: OwnedSemaphorePermit,
}

/// A connection that has logged in, before a session has taken it in. Its initiator does not know yet.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) wire: Wire,
    pub(crate) cid: u16,
    pub(crate) parameters: ConnectionParameters,
    pub(crate) status: StatusNumber,
    /// Of its first Login Request: what had come over a connection that it replaces.
    pub(crate) exp_stat_sn: u32,
    pub(crate) response: FinalResponse,
}

impl Newcomer {
    pub(crate) fn new(wire: Wire, logged_in: LoggedIn) -> Self {
        Self {
            wire,
            cid: logged_in.outcome.cid,
            parameters: logged_in.outcome.connection,
            status: logged_in.status,
            exp_stat_sn: logged_in.exp_stat_sn,
            response: logged_in.response,
        }
    }

    /// What others see of it.
    pub(crate) fn view(&self) -> ConnectionView {
        ConnectionView {
            cid: self.cid,
            peer: self.wire.peer,
            local: self.wire.local,
            portal: self.wire.portal,
            since: SystemTime::now(),
            digests: digests(&self.parameters),
            statistics: Arc::default(),
        }
    }
}

/// A connection in full feature phase.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) cid: u16,
    pub(crate) local: SocketAddr,
    pub(crate) socket: TcpStream,
    pub(crate) receive: ReceiveBuffer,
    /// A PDU whose data is received where it belongs; `receive` has what follows the data.
    pub(crate) straight: Option<Box<Straight>>,
    pub(crate) framer: Framer,
    pub(crate) out: Outbound,
    pub(crate) status: StatusNumber,
    /// What the initiator has told of it: one past the last status that it has.
    exp_stat_sn: u32,
    /// Answers that may have to be sent again. `None` at ErrorRecoveryLevel 0.
    pub(crate) kept: Option<Box<KeptAnswers>>,
    pub(crate) parameters: ConnectionParameters,
    pub(crate) text: TextExchange,
    pub(crate) keepalive: Keepalive,
    pub(crate) phase: Phase,
    /// PDUs that are received but not handled.
    pub(crate) batch: Bytes,
    /// When something was received last.
    pub(crate) now: Duration,
    /// Whether its next command is worth looking out for.
    pub(crate) looking: Looking,
    /// Until when a logout that was asked for may take, and why it was.
    pub(crate) logout_deadline: Option<(Duration, CloseReason)>,
    pub(crate) counters: Counters,
    pub(crate) statistics: Arc<Cells>,
    /// Given back when the socket is closed.
    place: OwnedSemaphorePermit,
}

/// What a socket has woken the session for.
#[derive(Debug)]
pub(crate) enum Ready {
    Received(io::Result<usize>),
    Writable(io::Result<()>),
}

impl Link {
    /// Takes a connection in at `now`: the last Login Response, which is its first PDU out, is sent with the numbers
    /// of the session. `recovers` from ErrorRecoveryLevel 1 on.
    pub(crate) fn new(
        id: LinkId,
        newcomer: Newcomer,
        keepalive: Keepalive,
        statistics: Arc<Cells>,
        window: &CommandWindow,
        recovers: bool,
        now: Duration,
    ) -> Self {
        let digests = digests(&newcomer.parameters);
        let FinalResponse { mut header, data } = newcomer.response;
        let mut status = newcomer.status;
        let exp_stat_sn = status.peek();
        let mut out = Outbound::new();
        header.stamp(status.take(), window.exp_cmd_sn(), window.max_cmd_sn());
        out.push_copied(&header, &data);
        // They hold from the PDU after the last Login Response on.
        out.set_digests(digests.0, digests.1);
        Self {
            id,
            cid: newcomer.cid,
            local: newcomer.wire.local,
            socket: newcomer.wire.socket,
            receive: newcomer.wire.receive,
            straight: None,
            framer: Framer {
                header_digest: digests.0,
                data_digest: digests.1,
                max_data_segment: newcomer.parameters.own_max_recv_data_segment_length,
                max_ahs: MAX_AHS,
            },
            out,
            kept: recovers.then(|| Box::new(KeptAnswers::new(status.peek(), KEPT_BYTES))),
            status,
            exp_stat_sn,
            parameters: newcomer.parameters,
            text: TextExchange::default(),
            keepalive,
            phase: Phase::Open,
            batch: Bytes::new(),
            now,
            looking: Looking::new(Duration::ZERO),
            logout_deadline: None,
            counters: Counters::default(),
            statistics,
            place: newcomer.wire.place,
        }
    }

    /// Is it in a state to take PDUs?
    pub(crate) fn takes_more(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// It ends once what is to be sent has been sent. The first reason counts.
    pub(crate) fn end(&mut self, why: Ending) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Ended(why);
        }
    }

    /// What the socket is ready for, of what is wanted of it.
    pub(crate) fn poll(&mut self, tasks: &mut Tasks, context: &mut Context<'_>) -> Poll<Ready> {
        if self.batch.is_empty()
            && self.out.pending() < SEND_BACKLOG
            && let Poll::Ready(count) = self.poll_receive(tasks, context)
        {
            return Poll::Ready(Ready::Received(count));
        }
        if !self.out.is_empty()
            && let Poll::Ready(writable) = self.socket.poll_write_ready(context)
        {
            return Poll::Ready(Ready::Writable(writable));
        }
        Poll::Pending
    }

    fn poll_receive(&mut self, tasks: &mut Tasks, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.goes_straight() {
            return self.poll_straight(tasks, context);
        }
        let most = if tasks.awaits_long_data() {
            HEADERS
        } else {
            usize::MAX
        };
        pin!(self.receive.fill(&mut self.socket, most)).poll(context)
    }

    /// Takes in what the socket was ready for, at `now`.
    pub(crate) fn take(&mut self, ready: Ready, now: Duration) {
        let taken = match ready {
            Ready::Received(Ok(0)) => Err(Ending::Hangup),
            Ready::Received(Ok(count)) => self.received(count, now),
            Ready::Received(Err(error)) | Ready::Writable(Err(error)) => Err(error.into()),
            Ready::Writable(Ok(())) => Ok(()),
        };
        if let Err(why) = taken {
            self.end(why);
        }
    }

    fn received(&mut self, count: usize, now: Duration) -> Result<(), Ending> {
        self.now = now;
        self.looking.received(now);
        self.keepalive.heard(now);
        self.counters.bytes_in += count as u64;
        match self.straight {
            // Until the session has handled it, what follows is not looked at.
            Some(_) => Ok(()),
            None => self.survey(),
        }
    }

    /// Looks at what has been received behind a PDU that went another way.
    pub(crate) fn look_at_received(&mut self) {
        if let Err(why) = self.survey() {
            self.end(why);
        }
    }

    fn survey(&mut self) -> Result<(), Ending> {
        let whole = self.receive.take_whole(&self.framer);
        if self.takes_more() {
            self.batch = whole?;
        }
        Ok(())
    }

    /// Sends what the socket takes. Did that make room for the answers to the rest of the batch?
    pub(crate) fn flush(&mut self) -> bool {
        let sent = send(&self.socket, &mut self.out).unwrap_or_else(|error| {
            self.end(error.into());
            0
        });
        self.counters.bytes_out += sent;
        let has_made_room = sent > 0 && self.out.is_empty() && !self.batch.is_empty();
        if !has_made_room {
            self.statistics.publish(&mut self.counters);
        }
        has_made_room
    }

    /// Sends a PDU that takes a StatSN.
    pub(crate) fn send_status<H: Header>(&mut self, window: &CommandWindow, header: H, data: &[u8]) {
        self.send_answer(window, [0; 8], header, data, None);
    }

    /// As [`Self::send_status`], for the answer to a command of the logical unit `lun`, which may have read data.
    pub(crate) fn send_answer<H: Header>(
        &mut self,
        window: &CommandWindow,
        lun: [u8; 8],
        mut header: H,
        data: &[u8],
        read: Option<KeptRead>,
    ) {
        header.stamp(self.status.take(), window.exp_cmd_sn(), window.max_cmd_sn());
        self.out.push_copied(&header, data);
        if let Some(kept) = &mut self.kept {
            kept.keep(Kept {
                lun,
                header: header.to_bhs(),
                segment: Bytes::copy_from_slice(data),
                read,
            });
        }
    }

    /// Keeps a Data-In that carries the status.
    pub(crate) fn keep(&mut self, header: &DataIn, segment: Bytes, read: KeptRead) {
        if let Some(kept) = &mut self.kept {
            kept.keep(Kept {
                lun: read.lun,
                header: header.to_bhs(),
                segment,
                read: Some(read),
            });
        }
    }

    /// The initiator has said which StatSN it expects.
    pub(crate) fn acknowledged(&mut self, exp_stat_sn: u32) {
        self.looking.heard(exp_stat_sn == self.status.peek());
        if is_before(self.exp_stat_sn, exp_stat_sn) && self.status.is_plausible(exp_stat_sn) {
            self.exp_stat_sn = exp_stat_sn;
        }
        if let Some(kept) = &mut self.kept {
            kept.acknowledge(exp_stat_sn);
        }
    }

    /// Has the initiator all statuses before this one?
    pub(crate) fn has_acknowledged(&self, stat_sn: u32) -> bool {
        !is_before(self.exp_stat_sn, stat_sn)
    }

    /// Sends a PDU that tells the next StatSN without taking it: one that asks.
    pub(crate) fn send_question<H: Header>(&mut self, window: &CommandWindow, mut header: H) {
        header.stamp(self.status.peek(), window.exp_cmd_sn(), window.max_cmd_sn());
        self.out.push_copied(&header, &[]);
    }

    /// Gives the large buffers back when they were not needed since the last look.
    pub(crate) fn give_back(&mut self, now: Duration) {
        if now >= self.now + LOOK {
            self.receive.shrink();
            self.out.shrink();
        }
    }

    /// What the keepalive wants at `now`, once it does not want to ask any more; `ask` sends a NOP-In.
    pub(crate) fn keep_alive(&mut self, window: &CommandWindow, now: Duration) -> Option<Duration> {
        loop {
            match self.keepalive.due(now) {
                KeepaliveAction::Idle => return None,
                KeepaliveAction::WaitUntil(time) => return Some(time),
                KeepaliveAction::Ask(tag) => self.ask_nop(window, tag),
                KeepaliveAction::Dead => {
                    self.end(Ending::Silent);
                    return None;
                }
            }
        }
    }

    /// The socket, with what is still to be sent over it.
    pub(crate) fn into_rest(self) -> Rest {
        Rest {
            socket: self.socket,
            out: self.out,
            _place: self.place,
        }
    }
}

/// What is left of a connection that has ended.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) socket: TcpStream,
    pub(crate) out: Outbound,
    _place: OwnedSemaphorePermit,
}

/// Which of header and data digest are in force.
pub(crate) fn digests(connection: &ConnectionParameters) -> (bool, bool) {
    (
        connection.header_digest == DigestKind::Crc32c,
        connection.data_digest == DigestKind::Crc32c,
    )
}
