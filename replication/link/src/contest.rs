//! Which connection counts, when both systems call each other.
//!
//! Each side keeps at most one connection to a peer: one that is open, or one that it has said Hello on. When a Hello
//! comes in on another one, both sides must come to the same answer without asking:
//!
//! - A peer that was started anew (another boot id) knows nothing of the old connection: the new one counts.
//! - Of two that the same side made, the newer counts: it would not call if it still had the older one.
//! - Of two that both sides made, the one counts that the system with the lower id made. The other is refused as a
//!   duplicate. If the refused side had lost the connection that counts and the refusing one does not know yet,
//!   keepalive tells it soon, and the next call is admitted.
//!
//! The caller's connection enters the contest when Hello is about to be sent, not before: a call that nobody answers must
//! not keep the peer out.

use scsi_model::control::SystemId;

/// Names a connection; the shell's.
pub type ConnectionId = u64;

/// The connections to one peer, as one side sees them.
#[derive(Debug)]
pub struct Contest {
    lower: bool,
    holder: Option<Holder>,
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    connection: ConnectionId,
    ours: bool,
    /// The peer's boot id, once it has said it.
    boot: Option<u128>,
}

/// What becomes of an incoming call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It counts. The connection named, if any, is to be ended.
    Admit(Option<ConnectionId>),
    /// Another one counts.
    Duplicate,
}

impl Contest {
    /// Nothing is connected yet.
    pub fn new(own: &SystemId, peer: &SystemId) -> Self {
        Self {
            lower: own < peer,
            holder: None,
        }
    }

    /// We are about to say Hello; `false`: there is a connection already, and this one is to be dropped.
    pub fn call(&mut self, connection: ConnectionId) -> bool {
        if self.holder.is_some() {
            return false;
        }
        self.holder = Some(Holder {
            connection,
            ours: true,
            boot: None,
        });
        true
    }

    /// Our call was answered; `false`: another connection has taken its place in the meantime.
    pub fn opened(&mut self, connection: ConnectionId, boot: u128) -> bool {
        match &mut self.holder {
            Some(holder) if holder.connection == connection => {
                holder.boot = Some(boot);
                true
            }
            _ => false,
        }
    }

    /// The peer says Hello on this connection.
    pub fn called(&mut self, connection: ConnectionId, boot: u128) -> Verdict {
        if let Some(holder) = self.holder {
            let restarted = holder.boot.is_some_and(|known| known != boot);
            if holder.ours && self.lower && !restarted {
                return Verdict::Duplicate;
            }
        }
        let ended = self.holder.replace(Holder {
            connection,
            ours: false,
            boot: Some(boot),
        });
        Verdict::Admit(ended.map(|holder| holder.connection))
    }

    /// The connection is over.
    pub fn ended(&mut self, connection: ConnectionId) {
        self.holder.take_if(|holder| holder.connection == connection);
    }

    /// There is one, open or about to be.
    pub fn is_held(&self) -> bool {
        self.holder.is_some()
    }
}

#[cfg(test)]
mod tests;
