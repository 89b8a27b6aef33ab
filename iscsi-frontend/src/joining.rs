//! Connections that join a session (RFC 7143 6.3.1), and those that come in the place of one (connection reinstatement, 6.3.4).
//!
//! A connection logs in on a task of its own, which asks the session for its numbers as it goes and hands the connection over
//! at the end: the session's task sends the last Login Response. One with a CID that is in use is the logout of the old
//! connection. It comes in when that connection's tasks have ended, which nobody is told of, or are left to be moved.

use iscsi_proto::login::Joining;

use crate::{
    ending::{Ending, Scope, Settling, Then},
    homes::move_in,
    link::Newcomer,
    session::Session,
    sessions::SessionHandle,
};

impl SessionHandle {
    /// May a connection with this CID come in, as far as the session can be seen from outside?
    pub(crate) fn joining(&self, cid: u16) -> Joining {
        let connections = self.connections();
        if connections.iter().any(|connection| connection.cid == cid) {
            Joining::Reinstated
        } else if connections.len() >= usize::from(self.max_connections) {
            Joining::TooManyConnections
        } else {
            Joining::Added
        }
    }
}

impl Session {
    /// A connection has logged in to this session.
    pub(crate) fn join(&mut self, newcomer: Box<Newcomer>) {
        let closes = self.nexus.is_none() || self.settling.iter().any(|waiting| waiting.of == Scope::Session);
        if closes {
            return tracing::info!(initiator = self.initiator(), "login failed: the session ends");
        }
        let same = self.links.iter_mut().find(|link| link.cid == newcomer.cid);
        if let Some(old) = same {
            // Its login says what had come over the old connection (RFC 7143 11.12.9).
            old.acknowledged(newcomer.exp_stat_sn);
            old.end(Ending::Replaced);
            let old = old.id;
            let of = if self.keeps_tasks_after(&Ending::Replaced) {
                Scope::None
            } else {
                Scope::Link(old)
            };
            self.settling.push(Settling {
                of,
                then: Then::Admit(newcomer),
            });
        } else {
            self.remember(newcomer.cid, Some(newcomer.exp_stat_sn));
            self.admit(newcomer);
        }
    }

    /// Lets a connection in, if there still is room: others may have come since its login began.
    pub(crate) fn admit(&mut self, mut newcomer: Box<Newcomer>) {
        let Some(handle) = self.handle.clone() else { return };
        let is_taken = self.links.iter().any(|link| link.cid == newcomer.cid);
        if is_taken || self.links.len() >= usize::from(handle.max_connections) {
            return tracing::info!(
                initiator = self.initiator(),
                "login failed: the connection's place is taken"
            );
        }
        newcomer.wire.socket = match move_in(newcomer.wire.socket) {
            Ok(socket) => socket,
            Err(error) => {
                return tracing::warn!(
                    initiator = self.initiator(),
                    %error,
                    "login failed: the connection could not be moved to its session"
                );
            }
        };
        let view = newcomer.view();
        tracing::info!(initiator = self.initiator(), cid = view.cid, peer = %view.peer, "a connection has joined");
        handle.connections().push(view.clone());
        self.add(*newcomer, &view);
        // The configuration may have been replaced since this login was admitted.
        self.shared.close_what_may_not_go_on(&handle);
    }

    /// Is a connection waiting to come in?
    pub(crate) fn awaits_newcomer(&self) -> bool {
        self.settling
            .iter()
            .any(|waiting| matches!(waiting.then, Then::Admit(_)))
    }
}
