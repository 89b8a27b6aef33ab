//! A session in full feature phase: the loop.
//!
//! It waits for the sockets of its connections, for its own commands that had to wait, for other sessions, and for
//! time. Whatever wakes it, it does all that can be done and then sends all answers, with one write to each socket.
//! Nothing here waits while it holds answers back. One task does all that, whatever the connections: the order of
//! commands over them, and what of a task belongs to which, needs no lock.
//!
//! The end is always the same: no more PDUs are taken, the commands in progress run to their end, the nexus is closed,
//! the session leaves the list, and those who wait for its end are told.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use iscsi_proto::{
    bhs::TaskManagementRequest, data_flow::TransferLimits, negotiation::SessionParameters,
    session::CommandWindow,
};
use target_core::{
    copies::Copies,
    target::{Nexus, ScsiResponse},
    throttle::Throttle,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    ending::{Phase, Settling},
    frontend::Shared,
    link::{LOOK, Link, LinkId, Ready},
    reassignment::Lost,
    response_fence::{Answer, ResponseFence},
    sessions::{CloseReason, Event, SessionHandle},
    tasks::Tasks,
    waiting::Waiting,
};

/// A session in full feature phase.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) initiator: String,
    pub(crate) window: CommandWindow,
    pub(crate) parameters: SessionParameters,
    pub(crate) limits: TransferLimits,
    /// `None` in a discovery session, and after the end of any other.
    pub(crate) nexus: Option<Arc<Nexus>>,
    /// `None` in a discovery session.
    pub(crate) handle: Option<Arc<SessionHandle>>,
    pub(crate) tasks: Tasks,
    /// Those of them that wait without a task of their own.
    pub(crate) waiting: Waiting,
    /// Copies of their data.
    pub(crate) copies: Copies,
    /// Commands that came before their turn, by CmdSN.
    pub(crate) early: BTreeMap<u32, Early>,
    pub(crate) next_transfer_tag: u32,
    pub(crate) data_out_budget: usize,
    /// Task management functions that wait for commands before them.
    pub(crate) postponed: Vec<(LinkId, TaskManagementRequest)>,
    /// Its connections. They leave in one place only, [`Session::part`], so that the index of one holds as long as
    /// its PDU is handled.
    pub(crate) links: Vec<Link>,
    /// What holds answers back for the sake of their order.
    pub(crate) fence: ResponseFence,
    /// The one that came last.
    pub(crate) last_link: LinkId,
    /// What waits for tasks to end.
    pub(crate) settling: Vec<Settling>,
    /// Connections that have gone and whose tasks wait for another; always empty below ErrorRecoveryLevel 2.
    pub(crate) lost: Vec<Lost>,
    /// The origin of all times here.
    pub(crate) origin: Instant,
    /// The clock has to be looked at: a deadline was set.
    pub(crate) look: bool,
    /// For what is logged of the initiator's breaches.
    pub(crate) complaints: Throttle,
    pub(crate) events: mpsc::UnboundedSender<Event>,
}

/// What is known of a CmdSN before its turn.
#[derive(Debug)]
pub(crate) enum Early {
    /// The command came, over this connection.
    Command { link: LinkId, pdu: Bytes },
    /// It was aborted: it counts as received, and is not carried out.
    Struck,
}

impl Drop for Session {
    /// Even a panic must not leave a session behind that nobody can log in over.
    fn drop(&mut self) {
        self.close_nexus();
    }
}

/// What woke the session.
enum Wake {
    Event(Option<Event>),
    Ended,
    Link(usize, Ready),
    Time,
    Stop,
}

impl Session {
    pub(crate) fn initiator(&self) -> &str {
        &self.initiator
    }

    /// Where the connection of that name is, if it is there.
    pub(crate) fn at(&self, id: LinkId) -> Option<usize> {
        self.links.iter().position(|link| link.id == id)
    }

    /// Serves the session to its end.
    pub(crate) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>, stop: CancellationToken) {
        self.serve(&mut events, &stop).await;
        self.drop_collecting(|_| true);
        self.early.clear();
        let mut ended = Vec::new();
        while self.tasks.any_executing() {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.event(event),
                    None => break,
                },
                () = poll_fn(|context| self.waiting.poll_ended(context, &mut ended)) => self.end(&mut ended),
            }
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

    async fn serve(&mut self, events: &mut mpsc::UnboundedReceiver<Event>, stop: &CancellationToken) {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut stopping = false;
        let mut first = 0;
        let mut ended = Vec::new();
        loop {
            self.make_progress();
            self.part();
            if self.advance_fence() | self.settle() {
                // What was answered by that is still to be sent.
                continue;
            }
            if self.is_over() {
                return;
            }
            if std::mem::take(&mut self.look) {
                timer.as_mut().reset(tokio::time::Instant::now());
            }
            let wake = tokio::select! {
                biased;
                event = events.recv() => Wake::Event(event),
                () = poll_fn(|context| self.waiting.poll_ended(context, &mut ended)) => Wake::Ended,
                (at, ready) = arrival(&mut self.links, &mut self.tasks, first, self.origin, &self.shared.looks) => Wake::Link(at, ready),
                () = stop.cancelled(), if !stopping => Wake::Stop,
                () = &mut timer => Wake::Time,
            };
            match wake {
                Wake::Event(event) => {
                    // `self` holds a sender, so the channel cannot be closed.
                    self.take_events(event, events);
                    // Commands on tasks of their own that ended together are told one by one, each with a wake of this task that overtakes the
                    // others'. Their answers are to leave together, so all that can run does so first.
                    if self.tasks.any_executing() {
                        tokio::task::yield_now().await;
                        self.take_events(None, events);
                    }
                }
                Wake::Ended => self.end(&mut ended),
                Wake::Link(at, ready) => {
                    let now = self.origin.elapsed();
                    self.links[at].take(ready, now);
                    first = at + 1;
                }
                Wake::Stop => {
                    stopping = true;
                    self.close(CloseReason::Stopping);
                }
                Wake::Time => {
                    let next = self.time_passed();
                    timer.as_mut().reset((self.origin + next).into());
                }
            }
        }
    }

    /// Handles what is received and sends what is answered, until one of the two has to wait.
    fn make_progress(&mut self) {
        loop {
            for at in 0..self.links.len() {
                self.handle_received(at);
            }
            let mut has_room = false;
            for link in &mut self.links {
                // A full queue stops the handling, so what was sent may have made room for the rest of the batch.
                has_room |= link.flush();
            }
            if !has_room {
                return;
            }
        }
    }

    /// This event, and those that wait behind it.
    fn take_events(&mut self, first: Option<Event>, events: &mut mpsc::UnboundedReceiver<Event>) {
        let mut next = first.or_else(|| events.try_recv().ok());
        while let Some(event) = next {
            self.event(event);
            next = events.try_recv().ok();
        }
    }

    /// Answers commands that have waited.
    fn end(&mut self, ended: &mut Vec<(u32, Option<ScsiResponse>)>) {
        for (tag, response) in ended.drain(..) {
            self.completed(tag, response);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Completed { tag, response } => self.completed(tag, response),
            Event::Abort {
                scope,
                fence,
                cleared,
            } => self.abort_for_another(&scope, &fence, cleared),
            Event::TaskManagement(end) => self.answer(Answer::TaskManagement(end)),
            Event::Close(reason) => self.close(reason),
            Event::CloseConnection(cid, reason) => self.close_connection(cid, reason),
            Event::Join(newcomer) => self.join(newcomer),
            Event::Reconfigured => self.reconfigured(),
            Event::OtherLuns => self.announce_other_luns(),
            Event::Numbers(answer) => {
                // The login may have been given up meanwhile.
                let _ = answer.send((self.window.exp_cmd_sn(), self.window.max_cmd_sn()));
            }
        }
    }

    /// Does what is due and says when to look again.
    fn time_passed(&mut self) -> Duration {
        let now = self.origin.elapsed();
        let mut next = now + LOOK;
        if !self.tasks.any_executing() {
            self.copies.release();
        }
        for at in 0..self.links.len() {
            self.links[at].give_back(now);
            if let Some(deadline) = self.drop_if_overdue(at, now) {
                next = next.min(deadline);
            }
            if let Some(time) = self.links[at].keep_alive(&self.window, now) {
                next = next.min(time);
            }
        }
        if let Some(time) = self.attend_fence(now) {
            next = next.min(time);
        }
        if let Some(time) = self.forget_overdue(now) {
            next = next.min(time);
        }
        next
    }

    /// Parts from the connections that have ended, with what belongs to each.
    fn part(&mut self) {
        while let Some(at) = self
            .links
            .iter()
            .position(|link| matches!(link.phase, Phase::Ended(_)))
        {
            let link = self.links.remove(at);
            self.lose(link);
        }
    }

    /// Is there no connection, and none to come or to wait for?
    fn is_over(&self) -> bool {
        self.links.is_empty() && self.lost.is_empty() && !self.awaits_newcomer()
    }
}

/// Waits until a socket is ready. A connection that is alone, and whose session has nothing else to do, is looked at before that.
async fn arrival(
    links: &mut [Link],
    tasks: &mut Tasks,
    first: usize,
    origin: Instant,
    looks: &Semaphore,
) -> (usize, Ready) {
    if let [link] = &mut *links
        && tasks.is_empty()
        && let Some(ready) = link.look(origin, looks).await
    {
        return (0, ready);
    }
    poll_fn(|context| poll(links, tasks, first, context)).await
}

/// The first connection whose socket is ready, from the `first` on: none may starve the others.
fn poll(
    links: &mut [Link],
    tasks: &mut Tasks,
    first: usize,
    context: &mut Context<'_>,
) -> Poll<(usize, Ready)> {
    let count = links.len();
    for step in 0..count {
        let at = (first + step) % count;
        if let Poll::Ready(ready) = links[at].poll(tasks, context) {
            return Poll::Ready((at, ready));
        }
    }
    Poll::Pending
}
