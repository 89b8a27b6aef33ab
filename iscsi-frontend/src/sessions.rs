//! The sessions there are: reinstatement, task management across sessions, and the list for people.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::SystemTime,
};

use dashmap::{DashMap, mapref::entry::Entry};
use target_core::target::ScsiResponse;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    link::Newcomer,
    statistics::Cells,
    task_management::{AbortScope, Fence, TaskManagementEnd},
};

/// What makes a session the same one again (RFC 7143 4.4.3.2): at most one session for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(crate) initiator: String,
    pub(crate) isid: [u8; 6],
    pub(crate) target: String,
    pub(crate) portal_group: u16,
}

/// Something for the task of a connection.
#[derive(Debug)]
pub(crate) enum Event {
    /// A command that had to wait has ended; without a response it was lost.
    Completed {
        tag: u32,
        response: Option<ScsiResponse>,
    },
    /// End these tasks without an answer. The fence falls when the last of them is gone.
    Abort {
        scope: AbortScope,
        fence: Fence,
        /// Another initiator has cleared the task set: this one hears of it if it had tasks there.
        cleared: bool,
    },
    /// A task management function has been performed.
    TaskManagement(TaskManagementEnd),
    /// Close the session.
    Close(CloseReason),
    /// Close the connection with this CID.
    CloseConnection(u16, CloseReason),
    /// This connection has logged in to the session.
    Join(Box<Newcomer>),
    /// The configuration was replaced.
    Reconfigured,
    /// The initiator has other LUNs than before.
    OtherLuns,
    /// A login to the session asks for ExpCmdSN and MaxCmdSN.
    Numbers(oneshot::Sender<(u32, u32)>),
}

/// Why a session is closed from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CloseReason {
    #[error("the same initiator port has logged in again")]
    Reinstated,
    #[error("TARGET COLD RESET")]
    ColdReset,
    #[error("its target is not served any more")]
    TargetRemoved,
    #[error("its initiator is not admitted any more")]
    NotAdmitted,
    #[error("its target is to be used through another system")]
    Elsewhere,
    #[error("its portal is closed")]
    PortalClosed,
    #[error("the target stops")]
    Stopping,
}

impl CloseReason {
    /// Is the initiator asked to log out before its connection is dropped? It is, where it has done nothing to
    /// expect its end.
    pub(crate) fn is_announced(self) -> bool {
        !matches!(self, Self::Reinstated | Self::ColdReset)
    }

    /// Does it end all connections of a session?
    pub(crate) fn is_about_session(self) -> bool {
        self != Self::PortalClosed
    }
}

/// A session as others see it.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    pub(crate) key: SessionKey,
    pub(crate) tsih: u16,
    /// Written by the session's task alone, as they come and go.
    pub(crate) connections: Mutex<Vec<ConnectionView>>,
    /// How many there may be.
    pub(crate) max_connections: u16,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    /// Cancelled when the session is over: its tasks have ended and its nexus is closed.
    pub(crate) closed: CancellationToken,
}

/// A connection as others see it.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionView {
    pub(crate) cid: u16,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// The open portal it came through.
    pub(crate) portal: SocketAddr,
    pub(crate) since: SystemTime,
    pub(crate) digests: (bool, bool),
    pub(crate) statistics: Arc<Cells>,
}

impl SessionHandle {
    /// ExpCmdSN and MaxCmdSN; `None` when the session is gone.
    pub(crate) async fn numbers(&self) -> Option<(u32, u32)> {
        let (answer, numbers) = oneshot::channel();
        self.send(Event::Numbers(answer));
        numbers.await.ok()
    }

    /// The connections there are.
    pub(crate) fn connections(&self) -> MutexGuard<'_, Vec<ConnectionView>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection with this CID is gone.
    pub(crate) fn forget(&self, cid: u16) {
        self.connections().retain(|connection| connection.cid != cid);
    }

    /// Sends an event; `false` when the session is gone.
    pub(crate) fn send(&self, event: Event) -> bool {
        self.events.send(event).is_ok()
    }
}

/// A connection of a session in a list, e.g. that of `holdfast sessions`.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Initiator name.
    pub initiator: String,
    /// Initiator session identifier.
    pub isid: [u8; 6],
    /// Target session identifying handle.
    pub tsih: u16,
    /// Connection identifier.
    pub cid: u16,
    /// Target name.
    pub target: String,
    /// Target portal group tag.
    pub portal_group: u16,
    /// Address of the initiator.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// When it logged in.
    pub since: SystemTime,
    /// CRC32C over headers.
    pub header_digest: bool,
    /// CRC32C over data.
    pub data_digest: bool,
    /// SCSI commands so far.
    pub commands: u64,
    /// Bytes received so far.
    pub bytes_in: u64,
    /// Bytes sent so far.
    pub bytes_out: u64,
    /// Round trip time of the last NOP-In.
    pub round_trip: Option<std::time::Duration>,
}

/// All normal sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_key: DashMap<SessionKey, Arc<SessionHandle>>,
    last_tsih: AtomicU16,
}

impl Sessions {
    /// A handle that is not 0 and not in use; `None` when all are.
    pub(crate) fn allocate_tsih(&self) -> Option<u16> {
        (0..=u16::MAX)
            .map(|_| self.last_tsih.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
            .find(|&tsih| tsih != 0 && !self.by_key.iter().any(|session| session.tsih == tsih))
    }

    /// The live session with this key.
    pub(crate) fn get(&self, key: &SessionKey) -> Option<Arc<SessionHandle>> {
        self.by_key.get(key).map(|session| session.value().clone())
    }

    /// Puts the session into the list. One with the same key is closed before, and is over when this returns.
    pub(crate) async fn establish(&self, session: Arc<SessionHandle>) {
        loop {
            let old = match self.by_key.entry(session.key.clone()) {
                Entry::Vacant(place) => {
                    place.insert(session);
                    return;
                }
                Entry::Occupied(place) => place.get().clone(),
            };
            old.send(Event::Close(CloseReason::Reinstated));
            old.closed.cancelled().await;
            // Its own task has taken it out; a task that died could not.
            self.remove(&old);
        }
    }

    /// Takes a session out of the list and tells those who wait for its end.
    pub(crate) fn remove(&self, session: &Arc<SessionHandle>) {
        self.by_key
            .remove_if(&session.key, |_, there| Arc::ptr_eq(there, session));
        session.closed.cancel();
    }

    /// The sessions of a target.
    pub(crate) fn of_target(&self, target: &str) -> Vec<Arc<SessionHandle>> {
        let of_target = self.by_key.iter().filter(|session| session.key.target == target);
        of_target.map(|session| session.value().clone()).collect()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<SessionHandle>> {
        self.by_key
            .iter()
            .map(|session| session.value().clone())
            .collect()
    }

    /// The list of their connections, by initiator, TSIH and CID.
    pub(crate) fn list(&self) -> Vec<SessionInfo> {
        let mut list: Vec<_> = self.by_key.iter().flat_map(|session| infos(&session)).collect();
        list.sort_by(|a, b| (&a.initiator, a.tsih, a.cid).cmp(&(&b.initiator, b.tsih, b.cid)));
        list
    }
}

fn infos(session: &SessionHandle) -> Vec<SessionInfo> {
    let connections = session.connections();
    let infos = connections.iter().map(|connection| {
        let reading = connection.statistics.read();
        SessionInfo {
            initiator: session.key.initiator.clone(),
            isid: session.key.isid,
            tsih: session.tsih,
            cid: connection.cid,
            target: session.key.target.clone(),
            portal_group: session.key.portal_group,
            peer: connection.peer,
            local: connection.local,
            since: connection.since,
            header_digest: connection.digests.0,
            data_digest: connection.digests.1,
            commands: reading.commands,
            bytes_in: reading.bytes_in,
            bytes_out: reading.bytes_out,
            round_trip: reading.round_trip,
        }
    });
    infos.collect()
}
