//! A pair comes to be on two systems, or on neither.
//!
//! ESTABLISH of a new pair is an order to the follower (`Create`), whose answer the leader needs before its own engine hears of the pair: from then on
//! it copies. Whatever is lost in between, no half of a pair may stay at the follower, where its volume would answer no host and wait for a
//! leader that knows nothing of it. So the leader writes the pair down as *proposed* first (`proposals.json`), and crosses it out when its
//! journal has it. What is proposed and has not come to be is withdrawn: at once when a command fails, else as soon as the link is there, after
//! restarts too, and again until the follower has answered.
//!
//! Only who proposed a pair withdraws it, so a leader that lost its state directory withdraws nothing: what becomes of the follower's
//! half is a person's decision then (`cancel --force`). And a follower gives up only what was never equal. That pair's volume has not
//! answered a host since it follows, so nothing is lost by it that the command had not put at stake; one that was equal, as when
//! an old state directory was put back at the leader, a person decides about.
//!
//! A `Create` may come to be carried out after its withdrawal: its answer was waited for too long, or it came over an earlier connection. So what is
//! withdrawn is remembered for as long as this system runs, and not created any more; what had arrived at one that runs no more is gone with it.

use std::sync::Arc;

use link_proto::{Action, FailureCode, PairOrder, PairReport, Request, VolumeName};
use replication_engine::{
    command::{Verb, VolumeSpec},
    state::PairState,
};
use target_core::{
    scsi_model::control::{SystemId, VolumeNumber},
    state_file::StateFileError,
    volume::Volume,
};

use super::{
    OrderError, Remote, RemotePair,
    serve::{Refused, check_epoch, no_such_volume, policy_of},
};
use crate::{
    array::Array,
    events::{ArrayEvent, Level},
    lock,
};

/// Withdrawals that are remembered. A leader has one `Create` on its way at a time.
const REMEMBERED: usize = 1024;

impl Remote {
    fn cross_out(&self, pair: &RemotePair) -> Result<(), StateFileError> {
        lock(&self.proposals).change(|proposed| proposed.retain(|known| known.pair != pair.pair))
    }

    /// Pairs that were proposed and perhaps have not come to be.
    pub(crate) fn proposed(&self) -> Vec<RemotePair> {
        lock(&self.proposals).pairs.clone()
    }

    fn remember_withdrawn(&self, pair: u128) {
        let mut withdrawn = lock(&self.withdrawn);
        if withdrawn.contains(&pair) {
            return;
        }
        if withdrawn.len() == REMEMBERED {
            withdrawn.pop_front();
        }
        withdrawn.push_back(pair);
    }

    fn is_withdrawn(&self, pair: u128) -> bool {
        lock(&self.withdrawn).contains(&pair)
    }
}

/// The leader.
impl Array {
    /// Before the follower hears of the pair.
    pub(crate) fn propose(&self, pair: &RemotePair) -> Result<(), String> {
        let stored = lock(&self.remote.proposals).change(|proposed| proposed.push(pair.clone()));
        stored.map_err(|error| error.to_string())
    }

    /// The pair has come to be. If that cannot be written down now it is found out later.
    pub(crate) fn has_come_to_be(&self, pair: &RemotePair) {
        if let Err(error) = self.remote.cross_out(pair) {
            tracing::warn!("{}:{}: {error}", pair.peer, pair.far.0);
        }
    }

    /// Withdraws what was proposed to the systems whose links are there. Not to be called by one who gives orders.
    pub(super) async fn withdraw_what_is_open(self: &Arc<Self>) {
        for pair in self.remote.proposed() {
            let _order = self.remote.orders.lock().await;
            let open = self.remote.proposed().contains(&pair);
            if open
                && self.remote.is_up(&pair.peer)
                && let Err(error) = self.withdraw(&pair).await
            {
                tracing::warn!("{}:{}: {error}", pair.peer, pair.far.0);
            }
        }
    }

    /// Withdraws what was proposed to this system before. By one who gives orders.
    pub(crate) async fn withdraw_from(self: &Arc<Self>, peer: &SystemId) -> Result<(), OrderError> {
        let open = self.remote.proposed().into_iter();
        for pair in open.filter(|pair| pair.peer == *peer) {
            self.withdraw(&pair).await?;
        }
        Ok(())
    }

    /// Withdraws a proposal, unless the pair has come to be. By one who gives orders.
    pub(crate) async fn withdraw(self: &Arc<Self>, pair: &RemotePair) -> Result<(), OrderError> {
        let known = self.remote.pair_called(pair.wire_id());
        let mut told = None;
        if known.is_none_or(|known| self.view_of(known.volumes().1).is_none()) {
            let order = PairOrder {
                flags: PairOrder::NEVER_MADE,
                ..self.pair_order(pair, Action::Cancel)
            };
            let far = format!("{}:{}", pair.peer, pair.far.0);
            match self.ask(pair, Request::Pair(order)).await {
                Ok(_) => {
                    let text = format!(
                        "the pair of volume {} and {far} did not come to be: {far} is no mirror of it any more",
                        pair.local.0
                    );
                    told = Some((Level::Info, text));
                }
                Err(OrderError::Refused(FailureCode::NoSuchPair, _)) => {}
                Err(OrderError::Refused(FailureCode::Refused, why)) => {
                    told = Some((
                        Level::Warning,
                        format!("volume {} is in no pair with {far}: {why}", pair.local.0),
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        let crossed = self.remote.cross_out(pair);
        crossed.map_err(|error| OrderError::Refused(FailureCode::Internal, error.to_string()))?;
        if let Some((level, text)) = told {
            self.events.push(ArrayEvent::Told {
                kind: "pair",
                level,
                text,
            });
        }
        Ok(())
    }
}

/// The follower.
impl Array {
    /// The leader withdraws what it has proposed.
    pub(super) async fn hear_withdrawal(
        self: &Arc<Self>,
        peer: &SystemId,
        order: &PairOrder,
    ) -> Result<PairReport, Refused> {
        self.remote.remember_withdrawn(order.pair);
        let _alone = self.remote.obeying.lock().await;
        let pair = self.known_pair(peer, order.pair)?;
        check_epoch(&pair, order.epoch)?;
        let view = self.follower_view(&pair)?;
        if pair.leads || view.state != PairState::Copy || !view.full {
            let text = format!(
                "{} has a pair with it that is {} and was equal once: `cancel --force` there ends that",
                self.system(),
                view.state
            );
            return Err((FailureCode::Refused, text));
        }
        let report = self.report(&pair, 0)?;
        self.dissolve(&pair).await?;
        Ok(report)
    }

    /// A new pair, which this system follows in.
    pub(super) async fn create(self: &Arc<Self>, peer: &SystemId, order: &PairOrder) -> Result<(), Refused> {
        let _alone = self.remote.obeying.lock().await;
        if self.remote.pair_called(order.pair).is_some() {
            return Ok(());
        }
        if self.remote.is_withdrawn(order.pair) {
            let text = format!("{peer} has withdrawn this pair");
            return Err((FailureCode::NoSuchPair, text));
        }
        let local = VolumeNumber(order.mirror);
        let volume = self
            .volume(local)
            .ok_or_else(|| no_such_volume(self, &VolumeName::Number(order.mirror)))?;
        let geometry = |text: String| Err((FailureCode::Geometry, text));
        if volume.bytes() != order.bytes {
            return geometry(format!(
                "volume {} has {} bytes, not {}",
                local.0,
                volume.bytes(),
                order.bytes
            ));
        }
        if self.track_size() != order.track_size {
            return geometry(format!(
                "tracks have {} bytes on {}, not {}",
                self.track_size(),
                self.system(),
                order.track_size
            ));
        }
        self.may_be_taken(local)?;
        let pair = RemotePair {
            pair: format!("{:032x}", order.pair),
            epoch: order.epoch,
            peer: peer.clone(),
            local,
            far: VolumeNumber(order.primary),
            foreign: lock(&self.remote.registry).free_foreign(),
            mode: order.mode,
            leads: false,
            bytes: order.bytes,
            block_size: volume.info().block_size,
            in_backup: false,
            undo: None,
            image: None,
            taken_over: false,
            handing_over: false,
            draining: false,
            on_link_loss: policy_of(order),
            before: None,
        };
        self.may_be_shared(&pair, order.flags & PairOrder::SHARED != 0)?;
        self.enter(&pair).map_err(|text| (FailureCode::Internal, text))?;
        let made = self.pair_command(&pair, Verb::Establish { full: true }).await;
        if made.is_err() {
            self.strike(&pair).map_err(|text| (FailureCode::Internal, text))?;
        }
        self.note_access();
        made
    }

    /// Both systems show the two volumes as one unit, or neither does; and hosts do not use the one here.
    fn may_be_shared(&self, pair: &RemotePair, there: bool) -> Result<(), Refused> {
        let (peer, local, far) = (&pair.peer, pair.local.0, pair.far.0);
        let system = self.system();
        let why = match (self.remote.sharing.is_shared_in(pair), there) {
            (true, true) if self.is_used_alone(pair) => format!(
                "hosts use volume {local} of {system}, which is active there: establish the pair from {system}"
            ),
            (true, false) => format!(
                "volume {local} of {system} is configured as shared with {peer}:{far}, which is not so with it: both say so, or neither"
            ),
            (false, true) => format!(
                "{peer}:{far} is configured as shared with volume {local} of {system}, which is not so with it: both say so, or neither"
            ),
            _ => return Ok(()),
        };
        Err((FailureCode::State, why))
    }

    /// Makes a pair known here, before the engine hears of it.
    pub(crate) fn enter(self: &Arc<Self>, pair: &RemotePair) -> Result<(), String> {
        let stored = lock(&self.remote.registry).change(|pairs| pairs.push(pair.clone()));
        stored.map_err(|error| error.to_string())?;
        let (bytes, block_size) = (pair.bytes, pair.block_size);
        lock(&self.engine).define_volume(pair.foreign_id(), VolumeSpec { bytes, block_size });
        self.tell_modes();
        self.remote.add_far(self, pair);
        Ok(())
    }

    /// Forgets a pair, after the engine has.
    pub(crate) fn strike(&self, pair: &RemotePair) -> Result<(), String> {
        let foreign = pair.foreign;
        let stored =
            lock(&self.remote.registry).change(|pairs| pairs.retain(|known| known.foreign != foreign));
        self.remote.remove_far(self, (pair.foreign_id(), pair.local));
        self.tell_modes();
        lock(&self.engine).remove_volume(pair.foreign_id());
        self.note_not_ours(pair.foreign_id());
        stored.map_err(|error| error.to_string())
    }

    /// The pair ends here.
    pub(crate) async fn dissolve(self: &Arc<Self>, pair: &RemotePair) -> Result<(), Refused> {
        self.pair_command(pair, Verb::Cancel { force: true }).await?;
        self.strike(pair).map_err(|text| (FailureCode::Internal, text))
    }
}
