//! REPLICATION OUT for remote pairs: what the follower has to know first, then the engine's command, then what the follower has to know
//! after it.

use link_proto::{Action, FailureCode};
use replication_engine::{
    command::{Command, RemoteAct, Summary, Verb},
    ids::VolumeId,
    state::PairState,
};
use target_core::scsi_model::control::{
    CopyMode, Flags, OnLinkLoss, OutVerb, Refusal, RefusalKind, VolumeNumber,
};

use std::sync::Arc;

use super::refusals::refusal;
use crate::{
    array::Array,
    lock,
    machine::Mutation,
    remote::{OrderError, Parts, RemotePair, Told},
};

impl Array {
    /// Any other verb.
    pub(super) async fn out_remote(
        self: &Arc<Self>,
        verb: &OutVerb,
        flags: Flags,
        pair: &RemotePair,
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        let order = self.remote_orders().await;
        // It may have changed while others gave orders.
        let pair = &self
            .remote
            .pair_of(pair.foreign_id())
            .ok_or_else(|| refusal(RefusalKind::NoSuchPair, "the pair is being dissolved"))?;
        match verb {
            OutVerb::Swap => self.swap(pair, flags.force, dry_run).await,
            OutVerb::Cancel => self.cancel_remote(pair, flags.force, dry_run).await,
            OutVerb::Establish { .. } | OutVerb::Split | OutVerb::Restore if !pair.leads => {
                // The leader gives orders of its own for it, and this system must be free to take them.
                drop(order);
                self.ask_leader(verb, flags, pair, dry_run).await
            }
            _ if !pair.leads => {
                let message = format!(
                    "{} leads this pair: give the command there, or `swap` to lead it here",
                    pair.peer
                );
                Err(refusal(RefusalKind::State, message))
            }
            OutVerb::Establish { .. } => {
                let full = Verb::Establish { full: flags.full };
                self.copy_remote(pair, full, Action::Establish, (flags.checksum, dry_run))
                    .await
            }
            OutVerb::Restore => {
                let (full, protected) = (flags.full, flags.protected);
                let action = if protected {
                    Action::RestoreProtected
                } else {
                    Action::Restore
                };
                let verb = Verb::Restore { full, protected };
                self.copy_remote(pair, verb, action, (flags.checksum, dry_run))
                    .await
            }
            OutVerb::Split => self.split_remote(pair, flags, dry_run).await,
            OutVerb::Suspend => {
                let command = |dry_run| Command::Remote {
                    pair: pair.volumes(),
                    act: RemoteAct::Suspend,
                    dry_run,
                };
                self.run_decided(pair, command, dry_run).await
            }
            OutVerb::OnLinkLoss(policy) => self.set_on_link_loss(pair, *policy, dry_run).await,
            OutVerb::Config(_) => {
                let message = format!("volume {} of {} is configured there", pair.far.0, pair.peer);
                Err(refusal(RefusalKind::State, message))
            }
        }
    }

    /// ESTABLISH and RESTORE: the follower's volume is taken from its hosts first, and its marks count.
    async fn copy_remote(
        self: &Arc<Self>,
        pair: &RemotePair,
        verb: Verb,
        action: Action,
        (checksum, dry_run): (bool, bool),
    ) -> Result<Summary, Refusal> {
        let command = |dry_run| Command::Pair {
            verb,
            members: vec![pair.volumes()],
            dry_run,
        };
        let would = self.run_command(command(true)).await?;
        if dry_run {
            return Ok(would);
        }
        if matches!(verb, Verb::Restore { .. }) {
            self.end_backup(pair)?;
        }
        let apart = self
            .view_of(pair.foreign_id())
            .is_some_and(|view| matches!(view.state, PairState::Split | PairState::Suspended));
        if apart {
            self.must_be_up(pair)?;
            self.compare_now(pair).await.map_err(|error| of_peer(&error))?;
            self.take_back(pair, action)
                .await
                .map_err(|error| of_peer(&error))?;
        } else if verb == (Verb::Establish { full: true }) {
            self.order(pair, action).await.map_err(|error| of_peer(&error))?;
            self.following(pair);
        }
        if checksum {
            self.compare_in(&[pair.foreign_id()], true);
        }
        self.run_command(command(false)).await
    }

    async fn split_remote(
        self: &Arc<Self>,
        pair: &RemotePair,
        flags: Flags,
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        self.may_be_split(pair, flags)?;
        let command = |dry_run| Command::Pair {
            verb: Verb::Split {
                instant: false,
                strict_hold: flags.strict_hold,
                force: flags.force,
            },
            members: vec![pair.volumes()],
            dry_run,
        };
        let summary = self.run_decided(pair, command, dry_run).await?;
        if !dry_run {
            // So that the mirror is ready when the command has ended, if there is nothing left to copy.
            self.tell_now(pair).await;
        }
        Ok(summary)
    }

    /// Runs a command that would be done, unless it is dry; a backup of the pair that was cut short is over then.
    async fn run_decided(
        &self,
        pair: &RemotePair,
        command: impl Fn(bool) -> Command,
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        let would = self.run_command(command(true)).await?;
        if dry_run {
            return Ok(would);
        }
        self.end_backup(pair)?;
        self.run_command(command(false)).await
    }

    /// A command decides what becomes of a pair whose backup was cut short: it does not go on by itself any more.
    pub(super) fn end_backup(&self, pair: &RemotePair) -> Result<(), Refusal> {
        if !pair.in_backup {
            return Ok(());
        }
        self.change_registry(pair, |known| known.in_backup = false)
            .map_err(|error| of_peer(&error))
    }

    /// What SPLIT of a remote pair is refused for, besides what the engine says.
    pub(super) fn may_be_split(&self, pair: &RemotePair, flags: Flags) -> Result<(), Refusal> {
        if flags.instant {
            let message = "the mirror is on another system: it is ready when the copy has ended, not at once";
            return Err(refusal(
                RefusalKind::InvalidField {
                    byte: 2,
                    bit: Some(1),
                },
                message,
            ));
        }
        let state = self.view_of(pair.foreign_id()).map(|view| view.state);
        if state == Some(PairState::Suspended) {
            let message = format!(
                "the pair is suspended, and what {} has is not the image of this moment: `establish` it first, or `suspend` keeps it as it is",
                pair.peer
            );
            return Err(refusal(RefusalKind::State, message));
        }
        Ok(())
    }

    async fn cancel_remote(
        self: &Arc<Self>,
        pair: &RemotePair,
        force: bool,
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        let command = |dry_run| Command::Pair {
            verb: Verb::Cancel {
                force: force || !pair.leads,
            },
            members: vec![pair.volumes()],
            dry_run,
        };
        if !pair.leads && !force {
            let message = format!(
                "{} leads this pair: cancel it there; --force forgets it on this side only",
                pair.peer
            );
            return Err(refusal(RefusalKind::State, message));
        }
        if pair.leads && !force {
            self.must_be_up(pair)?;
        }
        let summary = self.run_command(command(true)).await?;
        if dry_run {
            return Ok(summary);
        }
        if pair.leads {
            match self.order(pair, Action::Cancel).await {
                Ok(_) | Err(OrderError::Refused(FailureCode::NoSuchPair, _)) => {}
                Err(error) if !force => return Err(of_peer(&error)),
                Err(_) => {}
            }
        }
        self.run_command(command(false)).await?;
        self.strike(pair)
            .map_err(|text| refusal(RefusalKind::Internal, text))?;
        Ok(summary)
    }

    /// The policy changes here, and the follower hears of it when it hears of anything.
    async fn set_on_link_loss(
        self: &Arc<Self>,
        pair: &RemotePair,
        policy: OnLinkLoss,
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        if pair.mode == CopyMode::Async && policy == OnLinkLoss::Refuse {
            let message = "an async pair acknowledges before the far side has it: only sync pairs can refuse";
            return Err(refusal(RefusalKind::State, message));
        }
        if !dry_run && pair.on_link_loss != policy {
            self.change_registry(pair, |known| known.on_link_loss = policy)
                .map_err(|error| of_peer(&error))?;
            self.note_change();
            let pair = self.remote.pair_of(pair.foreign_id());
            if let Some(pair) = pair.filter(|pair| self.remote.is_up(&pair.peer)) {
                let _ = self.order(&pair, Action::Status).await;
            }
        }
        Ok(Summary::default())
    }

    /// The other part, with the peer, or with FORCE without it.
    async fn swap(
        self: &Arc<Self>,
        pair: &RemotePair,
        force: bool,
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        let up = self.remote.is_up(&pair.peer);
        if !up && !force {
            let message = format!(
                "the link to {} is down: --force takes over without it, and what it has written since is not here",
                pair.peer
            );
            return Err(refusal(RefusalKind::NoPath, message));
        }
        if !up || force && !pair.leads {
            return self.take_over(pair, dry_run).await;
        }
        let act = RemoteAct::Swap { alone: false };
        let command = Command::Remote {
            pair: pair.volumes(),
            act: act.clone(),
            dry_run: true,
        };
        self.run_command(command).await?;
        if pair.leads
            && let Some(why) = self.host_use(pair.local)
        {
            let message = format!(
                "volume {} is in use: {why}; release it first",
                self.name(pair.local)
            );
            return Err(refusal(RefusalKind::InUse, message));
        }
        if dry_run {
            return Ok(Summary::default());
        }
        let parts = pair.swapped();
        let failed = |error: OrderError| of_peer(&error);
        if pair.leads {
            self.is_known_equal(pair).await?;
            // This side stops leading before the other begins.
            self.stop_leading(pair).await.map_err(failed)?;
            let stopped = self.remote.pair_of(pair.foreign_id());
            let stopped =
                stopped.ok_or_else(|| refusal(RefusalKind::NoSuchPair, "the pair is being dissolved"))?;
            self.hand_over(&stopped).await.map_err(|error| match error {
                OrderError::NoPath(why) => {
                    let message = format!(
                        "{why}; {} becomes the primary's system when the link is there",
                        pair.peer
                    );
                    refusal(RefusalKind::NoPath, message)
                }
                refused @ OrderError::Refused(..) => failed(refused),
            })?;
        } else {
            self.order(pair, Action::Swap).await.map_err(failed)?;
            self.change_parts(pair, act, parts).await.map_err(failed)?;
        }
        Ok(Summary::default())
    }

    /// The follower must have heard that it is equal: it begins to lead as what it knows itself to be.
    async fn is_known_equal(self: &Arc<Self>, pair: &RemotePair) -> Result<(), Refusal> {
        let foreign = pair.foreign_id();
        if self.remote.told(foreign) != Some(Told::Equal) {
            self.tell_now(pair).await;
        }
        if self.remote.told(foreign) == Some(Told::Equal) {
            return Ok(());
        }
        let message = format!("{} does not know yet that both are equal: try again", pair.peer);
        Err(refusal(RefusalKind::State, message))
    }

    async fn take_over(self: &Arc<Self>, pair: &RemotePair, dry_run: bool) -> Result<Summary, Refusal> {
        if self.waits_to_hear(pair) {
            return self.lead_unheard(pair, dry_run);
        }
        if pair.leads {
            let message = format!("volume {} is the primary already", self.name(pair.local));
            return Err(refusal(RefusalKind::State, message));
        }
        let act = RemoteAct::Swap { alone: true };
        if dry_run {
            return self
                .run_command(Command::Remote {
                    pair: pair.volumes(),
                    act,
                    dry_run,
                })
                .await;
        }
        let parts = Parts {
            epoch: pair.epoch + u64::from(!self.planted(Mutation::KeepEpoch)),
            leads: true,
            taken_over: true,
            handing_over: false,
            draining: false,
        };
        self.change_parts(pair, act, parts)
            .await
            .map_err(|error| of_peer(&error))?;
        Ok(Summary::default())
    }

    /// A person says that the other system, which cannot be asked, has not taken over a shared volume while this one was away.
    fn lead_unheard(&self, pair: &RemotePair, dry_run: bool) -> Result<Summary, Refusal> {
        if self.remote.sharing.is_theirs(pair.foreign_id()) {
            let message = format!(
                "{} has taken over: cancel the pair with --force on the side that is to be given up",
                pair.peer
            );
            return Err(refusal(RefusalKind::State, message));
        }
        if !dry_run {
            self.note_ours(pair.foreign_id());
        }
        Ok(Summary::default())
    }

    pub(super) async fn run_command(&self, command: Command) -> Result<Summary, Refusal> {
        self.command(command)
            .await
            .map_err(|refused| self.explain(&refused.why))
    }

    pub(super) fn must_be_up(&self, pair: &RemotePair) -> Result<(), Refusal> {
        if self.remote.is_up(&pair.peer) {
            return Ok(());
        }
        let message = format!("the link to {} is down: `holdfast link` says why", pair.peer);
        Err(refusal(RefusalKind::NoPath, message))
    }

    /// A remote pair by the numbers that users give: the volume of this system, and that of the other.
    /// `None` also when several are called so: [`Self::is_ambiguous`].
    pub(super) fn remote_pair(&self, primary: VolumeNumber, mirror: VolumeNumber) -> Option<RemotePair> {
        let mut called = self.remote_pairs_called(primary, mirror);
        (called.len() == 1).then(|| called.remove(0))
    }

    /// Do these numbers mean several remote pairs?
    pub(super) fn is_ambiguous(&self, primary: VolumeNumber, mirror: VolumeNumber) -> bool {
        self.remote_pairs_called(primary, mirror).len() > 1
    }

    fn remote_pairs_called(&self, primary: VolumeNumber, mirror: VolumeNumber) -> Vec<RemotePair> {
        let foreign = |number: VolumeNumber| VolumeId(number.0).is_foreign();
        let mut pairs = self.remote.pairs();
        pairs.retain(|pair| {
            let (p, m) = pair.volumes();
            let far = |id: VolumeId| {
                if id.is_foreign() {
                    pair.far
                } else {
                    VolumeNumber(id.0)
                }
            };
            let asked = |given: VolumeNumber, id: VolumeId| {
                if foreign(given) {
                    given.0 == id.0
                } else {
                    given == far(id)
                }
            };
            asked(primary, p) && asked(mirror, m)
        });
        pairs
    }

    /// Is there a local pair of these volumes?
    pub(super) fn is_local_pair(&self, primary: VolumeNumber, mirror: VolumeNumber) -> bool {
        let pair = lock(&self.engine).pair(replication_engine::ids::PairId(VolumeId(mirror.0)));
        pair.is_some_and(|view| view.primary.0 == primary.0)
    }
}

/// What the peer said, or that it said nothing, in the terms of the control set.
pub(super) fn of_peer(error: &OrderError) -> Refusal {
    let kind = match error {
        OrderError::NoPath(_) => RefusalKind::NoPath,
        OrderError::Refused(..) => RefusalKind::PeerRefused,
    };
    refusal(kind, error.to_string())
}
