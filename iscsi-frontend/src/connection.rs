//! One connection in full feature phase: the loop.
//!
//! It waits for the socket, for its own commands that had to wait, for other sessions, and for time. Whatever wakes it, it
//! does all that can be done and then sends all answers with one write. Nothing here waits while it holds answers back.
//!
//! The end is always the same: no more PDUs are taken, the commands in progress run to their end, the nexus is closed,
//! the session leaves the list, and those who wait for its end are told.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use iscsi_proto::{
    data_flow::TransferLimits,
    framer::{Framer, Outbound},
    negotiation::{ConnectionParameters, SessionParameters},
    nop::{Keepalive, KeepaliveAction},
    session::{CommandWindow, StatusNumber},
};
use target_core::{target::Nexus, throttle::Throttle};
use tokio::{
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{
    ending::{Ending, Phase},
    frontend::Shared,
    sessions::{CloseReason, Event, SessionHandle},
    socket::{ReceiveBuffer, send, send_all},
    statistics::{Cells, Counters},
    tasks::Tasks,
    text::TextExchange,
};

/// Nothing is read while more than this waits to be sent.
const SEND_BACKLOG: usize = 4 << 20;

/// How often a connection looks at the clock. One without traffic since the last look gives its large buffer back.
const LOOK: Duration = Duration::from_secs(5);

/// How long the last answers may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A connection in full feature phase. Sessions have one each, so it is the session, too.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) initiator: String,
    pub(crate) local: SocketAddr,
    pub(crate) cid: u16,
    pub(crate) framer: Framer,
    pub(crate) out: Outbound,
    pub(crate) window: CommandWindow,
    pub(crate) status: StatusNumber,
    pub(crate) session: SessionParameters,
    pub(crate) parameters: ConnectionParameters,
    pub(crate) limits: TransferLimits,
    /// `None` in a discovery session, and after the end of any other.
    pub(crate) nexus: Option<Arc<Nexus>>,
    /// `None` in a discovery session.
    pub(crate) handle: Option<Arc<SessionHandle>>,
    pub(crate) tasks: Tasks,
    /// Commands that came before their turn, by CmdSN.
    pub(crate) early: BTreeMap<u32, Bytes>,
    pub(crate) text: TextExchange,
    pub(crate) next_transfer_tag: u32,
    pub(crate) data_out_budget: usize,
    pub(crate) keepalive: Keepalive,
    pub(crate) phase: Phase,
    /// PDUs that are received but not handled.
    pub(crate) batch: Bytes,
    /// The origin of `now`.
    pub(crate) origin: Instant,
    /// The time at which the batch in hand began.
    pub(crate) now: Duration,
    /// Until when a logout that was asked for may take, and why it was.
    pub(crate) logout_deadline: Option<(Duration, CloseReason)>,
    /// For what is logged of the initiator's breaches.
    pub(crate) complaints: Throttle,
    pub(crate) counters: Counters,
    pub(crate) statistics: Arc<Cells>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
}

impl Drop for Connection {
    /// Even a panic must not leave a session behind that nobody can log in over.
    fn drop(&mut self) {
        self.close_nexus();
    }
}

/// What woke the connection.
enum Wake {
    Event(Option<Event>),
    Received(std::io::Result<usize>),
    Writable(std::io::Result<()>),
    Time,
    Stop,
}

impl Connection {
    pub(crate) fn initiator(&self) -> &str {
        &self.initiator
    }

    /// Serves the connection to its end.
    pub(crate) async fn run(
        mut self,
        mut socket: TcpStream,
        mut receive: ReceiveBuffer,
        mut events: mpsc::UnboundedReceiver<Event>,
        stop: CancellationToken,
    ) {
        let (mut reader, writer) = socket.split();
        let served = self
            .serve(&mut reader, &writer, &mut receive, &mut events, &stop)
            .await;
        let ending = match (served, std::mem::replace(&mut self.phase, Phase::Open)) {
            (Err(ending), _) | (Ok(()), Phase::Ended(ending)) => ending,
            (Ok(()), _) => Ending::Hangup,
        };
        tracing::info!(initiator = self.initiator(), %ending, "connection closed");
        if ending.has_last_words() {
            // A Reject, a Logout Response. The initiator may not be there any more to take it.
            let _ = tokio::time::timeout(LAST_WORDS, send_all(&writer, &mut self.out)).await;
        }
        drop(receive);
        drop(socket);
        self.end(&mut events).await;
    }

    /// Waits for the commands in progress and takes the session down.
    async fn end(&mut self, events: &mut mpsc::UnboundedReceiver<Event>) {
        self.batch = Bytes::new();
        self.drop_collecting();
        while self.tasks.any_executing() {
            match events.recv().await {
                Some(event) => self.event(event),
                None => break,
            }
            self.out = Outbound::new();
        }
        self.close_nexus();
    }

    /// Closes the nexus and takes the session out of the list, once.
    pub(crate) fn close_nexus(&mut self) {
        if let Some(nexus) = self.nexus.take() {
            nexus.close();
        }
        if let Some(handle) = &self.handle {
            self.shared.sessions.remove(handle);
        }
    }

    async fn serve(
        &mut self,
        reader: &mut ReadHalf<'_>,
        writer: &WriteHalf<'_>,
        receive: &mut ReceiveBuffer,
        events: &mut mpsc::UnboundedReceiver<Event>,
        stop: &CancellationToken,
    ) -> Result<(), Ending> {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut stopping = false;
        loop {
            self.make_progress(writer)?;
            if matches!(self.phase, Phase::Ended(_)) {
                return Ok(());
            }
            let reads = self.batch.is_empty() && self.out.pending() < SEND_BACKLOG;
            let wake = tokio::select! {
                biased;
                event = events.recv() => Wake::Event(event),
                received = receive.fill(reader), if reads => Wake::Received(received),
                writable = writer.writable(), if !self.out.is_empty() => Wake::Writable(writable),
                () = stop.cancelled(), if !stopping => Wake::Stop,
                () = &mut timer => Wake::Time,
            };
            match wake {
                Wake::Event(event) => {
                    // `self` holds a sender, so the channel cannot be closed.
                    let mut next = event;
                    while let Some(event) = next {
                        self.event(event);
                        next = events.try_recv().ok();
                    }
                    if self.logout_deadline.is_some() {
                        timer.as_mut().reset(tokio::time::Instant::now());
                    }
                }
                Wake::Received(count) => {
                    let count = count?;
                    if count == 0 {
                        return Err(Ending::Hangup);
                    }
                    self.received(count, receive)?;
                }
                Wake::Writable(writable) => writable?,
                Wake::Stop => {
                    stopping = true;
                    self.close(CloseReason::Stopping);
                    timer.as_mut().reset(tokio::time::Instant::now());
                }
                Wake::Time => {
                    let next = self.time_passed(receive);
                    timer.as_mut().reset((self.origin + next).into());
                }
            }
        }
    }

    /// Handles what is received and sends what is answered, until one of the two has to wait.
    fn make_progress(&mut self, writer: &WriteHalf<'_>) -> Result<(), Ending> {
        loop {
            let before = self.batch.len();
            let handled = self.handle_batch();
            let sent = send(writer, &mut self.out)?;
            self.counters.bytes_out += sent;
            handled?;
            // A full queue stops the handling, so what was sent may have made room for the rest of the batch.
            let stuck = sent == 0 && self.batch.len() == before;
            if self.batch.is_empty() || stuck || !self.out.is_empty() {
                self.statistics.publish(&mut self.counters);
                return Ok(());
            }
        }
    }

    fn received(&mut self, count: usize, receive: &mut ReceiveBuffer) -> Result<(), Ending> {
        self.now = self.origin.elapsed();
        self.keepalive.heard(self.now);
        self.counters.bytes_in += count as u64;
        let whole = receive.take_whole(&self.framer);
        if self.takes_more() {
            self.batch = whole?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Completed { tag, response } => {
                self.completed(tag, response);
                self.finish_logout_if_idle();
            }
            Event::Abort { scope, fence } => self.abort(&scope, &fence),
            Event::TaskManagement(end) => self.end_task_management(end),
            Event::Close(reason) => self.close(reason),
        }
    }

    /// Does what is due and says when to look again.
    fn time_passed(&mut self, receive: &mut ReceiveBuffer) -> Duration {
        // `now` is still the time at which something was received last.
        let now = self.origin.elapsed();
        if now >= self.now + LOOK {
            receive.shrink();
        }
        let mut next = now + LOOK;
        if let Some(deadline) = self.drop_if_overdue(now) {
            next = next.min(deadline);
        }
        loop {
            match self.keepalive.due(now) {
                KeepaliveAction::Idle => return next,
                KeepaliveAction::WaitUntil(time) => return next.min(time),
                KeepaliveAction::Ask(tag) => self.ask_nop(tag),
                KeepaliveAction::Dead => {
                    self.phase = Phase::Ended(Ending::Silent);
                    return next;
                }
            }
        }
    }
}
