//! The leader's side: what a follower is told, and when.
//!
//! A pair whose link has come back is compared first (`Status`): does the follower know it, in the same epoch? Only then may effects
//! go over the link. From then on the follower is told whatever it does not know yet of the pair's state: that it follows, that it
//! is equal, that it is on its own. What is told can be told again, so nothing needs to be remembered of an order whose answer was lost:
//! from the moment an order goes out until it is answered, the follower counts as told nothing.
//!
//! One thing can be lost with an answer: the marks that a follower hands over when it is told to follow. If the leader did not come to
//! follow that up, its pair is apart still, and the follower, which is told so again, would begin with no marks. So a leader that does not
//! know what its follower was told last asks first, and adopts what it hears.
//!
//! A pair that a lost link suspended while it was COPY or DUPLEX resumes: the follower is told to follow, and answers with the tracks it
//! knows to be changed there or lost in a crash; these are adopted, durably, and then the union is copied. Its own marks it keeps until it
//! has been told that it is equal.
//!
//! # Who is right
//!
//! Each pair has an epoch, which goes up when a side becomes the primary. A leader that finds its follower in a higher epoch was left
//! behind: somebody took over there. If this side has nothing that the other has not, it yields and follows. Else both
//! sides have something, and nobody guesses: an event says so, and the pair waits until it is cancelled on the side that is to be
//! given up.
//!
//! # Handing over
//!
//! When parts change together, the side that leads stops before the other begins. In between nobody leads, and a lost message must not leave
//! it so: whoever has stopped keeps that in mind (`handing_over`), also through a restart, and has the other side begin as soon as it is
//! there; or leads again, when that says that it cannot.
//!
//! The last writes of an async pair are on their way when this side stops, those of any may not be stable. They arrive and are made stable
//! first, and until that is durable as well (`draining`), the other side is not told to begin. So who finds after a restart that it has
//! stopped and perhaps not all has arrived leads again: its hot regions are marked, as after any death of a leader.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use link_proto::{Action, FailureCode, PairOrder, PairReport, Request, Response, response::MAX_RUNS};
use replication_engine::{
    command::{Command, PairView, RemoteAct, Verb},
    effects::Input,
    ids::{PairId, VolumeId},
    state::PairState,
    track::TrackRange,
};

use target_core::scsi_model::control::OnLinkLoss;
use tokio::time::Instant;

use super::{Parts, RemotePair, Told};
use crate::{array::Array, lock, machine::Mutation};

/// Between two looks when nothing calls for one.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for an order's answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Why an order came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrderError {
    /// No answer.
    NoPath(String),
    /// The peer's refusal.
    Refused(FailureCode, String),
}

impl std::fmt::Display for OrderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoPath(reason) => f.write_str(reason),
            Self::Refused(_, message) => f.write_str(message),
        }
    }
}

/// Looks after the pairs that this system leads, until the array is gone.
pub(super) async fn look_after(array: Weak<Array>) {
    loop {
        let Some(strong) = array.upgrade().and_then(|array| array.strong()) else {
            return;
        };
        strong.look_at_all().await;
        let mut changes = strong.changes();
        let remote = Arc::clone(&strong);
        drop(strong);
        tokio::select! {
            biased;
            () = changes.changed() => {}
            () = remote.remote.wake.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl Array {
    async fn look_at_all(self: &Arc<Self>) {
        let concerns = |pair: &RemotePair| pair.leads || pair.handing_over;
        for pair in self.remote.pairs().into_iter().filter(concerns) {
            let _order = self.remote.orders.lock().await;
            // It may have changed while others gave orders.
            let Some(pair) = self.remote.pair_of(pair.foreign_id()).filter(concerns) else {
                continue;
            };
            let looked = if pair.leads {
                self.look_at(&pair).await
            } else if pair.draining {
                self.drain(&pair).await
            } else if self.remote.is_up(&pair.peer) {
                self.hand_over(&pair).await
            } else {
                Ok(())
            };
            if let Err(error) = looked {
                let name = format!("{} {}:{}", pair.local.0, pair.peer, pair.far.0);
                self.remote
                    .say(self, pair.foreign_id(), format!("pair {name}: {error}"));
            }
        }
        self.withdraw_what_is_open().await;
    }

    async fn look_at(self: &Arc<Self>, pair: &RemotePair) -> Result<(), OrderError> {
        let foreign = pair.foreign_id();
        if !self.remote.is_up(&pair.peer) {
            if self.remote.is_linked(foreign) {
                self.remote.lost(self, foreign, "it is down");
            }
            return Ok(());
        }
        if !self.remote.is_linked(foreign) && !self.compare(pair).await? {
            return Ok(());
        }
        let Some(view) = self.view_of(foreign) else {
            return Ok(());
        };
        self.undo_backup(pair).await?;
        let told = self.remote.told(foreign);
        if pair.in_backup && view.state.keeps_two_legs() {
            // Somebody else has seen to it that it goes on.
            self.change_registry(pair, |known| known.in_backup = false)?;
        }
        match view.state {
            // A backup was cut short: whatever became of it, the pair goes on.
            PairState::Split | PairState::Suspended if pair.in_backup => {
                self.follow_again(pair).await?;
                self.change_registry(pair, |known| known.in_backup = false)?;
            }
            PairState::Suspended if view.resumes && self.may_try_again(foreign) => {
                self.follow_again(pair).await?;
            }
            PairState::Duplex | PairState::Restored if told != Some(Told::Equal) => {
                self.order(pair, Action::Finished).await?;
                self.remote.tell(foreign, Told::Equal);
                self.remote.again.forget(foreign);
            }
            PairState::Split if told != Some(Told::Apart) => {
                if told.is_none() {
                    self.hear_again(pair).await?;
                }
                self.order(pair, Action::Split).await?;
                self.remote.tell(foreign, Told::Apart);
                self.note_change();
            }
            PairState::ProtectedRestoring if told.is_none() => {
                self.order(pair, Action::RestoreProtected).await?;
                self.remote.tell(foreign, Told::Following);
            }
            _ => {}
        }
        self.remote.said_nothing(foreign);
        Ok(())
    }

    fn may_try_again(&self, foreign: VolumeId) -> bool {
        let limits = self.limits();
        limits.auto_resume && self.remote.again.is_due(foreign, Instant::now(), limits)
    }

    /// One who gives orders at a time.
    pub(crate) async fn remote_orders(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.remote.orders.lock().await
    }

    /// Compares notes with the follower now, if that was not done over this link.
    pub(crate) async fn compare_now(self: &Arc<Self>, pair: &RemotePair) -> Result<(), OrderError> {
        if !self.remote.is_linked(pair.foreign_id()) && !self.compare(pair).await? {
            let text = format!("{} leads this pair now", pair.peer);
            return Err(OrderError::Refused(FailureCode::WrongEpoch, text));
        }
        Ok(())
    }

    /// Tells the follower what it does not know yet. If that fails it is told later.
    pub(crate) async fn tell_now(self: &Arc<Self>, pair: &RemotePair) {
        // What the caller has in hand may be out of date.
        let known = self.remote.pair_of(pair.foreign_id());
        let Some(pair) = &known.filter(|pair| pair.leads) else {
            return;
        };
        if let Err(error) = self.look_at(pair).await {
            tracing::warn!("{}:{}: {error}", pair.peer, pair.far.0);
        }
    }

    /// Do both sides mean the same by this pair? If so the engine may use the link.
    async fn compare(self: &Arc<Self>, pair: &RemotePair) -> Result<bool, OrderError> {
        let (report, _) = self.order(pair, Action::Status).await?;
        if report.epoch > pair.epoch {
            return self.left_behind(pair, &report).await;
        }
        if report.epoch < pair.epoch {
            self.note_ours(pair.foreign_id());
            let text = format!(
                "{} knows epoch {} of it, this system {}: it waits for the other side to be cancelled",
                pair.peer, report.epoch, pair.epoch
            );
            return Err(OrderError::Refused(FailureCode::WrongEpoch, text));
        }
        let volume = pair.foreign_id();
        let led = self.view_of(volume).map(|view| view.state);
        if led == Some(PairState::Duplex) && report.state == PairState::Copy.code() {
            // It was equal when this side was told to lead, and had died between: what that may have taken is copied to it.
            self.feed([Input::Link { volume, up: false }]);
        }
        self.relink(pair);
        self.note_ours(volume);
        Ok(true)
    }

    /// Effects may go over the link.
    pub(crate) fn relink(self: &Arc<Self>, pair: &RemotePair) {
        let foreign = pair.foreign_id();
        // What was on its way over a link that was lost is lost, and marked. What a new leader has sent over this one counts.
        if self.remote.far(foreign).is_none_or(|far| far.is_outdated()) {
            self.remote.add_far(self, pair);
        }
        lock(&self.remote.told).remove(&foreign);
        lock(&self.remote.linked).insert(foreign);
        self.feed([Input::Link {
            volume: foreign,
            up: true,
        }]);
    }

    /// The other side has become the primary without us.
    async fn left_behind(
        self: &Arc<Self>,
        pair: &RemotePair,
        report: &PairReport,
    ) -> Result<bool, OrderError> {
        self.note_theirs(pair.foreign_id());
        let Some(view) = self.view_of(pair.foreign_id()) else {
            return Ok(false);
        };
        let ours = view.mirror_invalid + view.primary_invalid;
        if view.state != PairState::Suspended || ours > 0 {
            let text = format!(
                "{} took over in epoch {}, and {ours} tracks were changed here: cancel the pair with --force on the side that is to be \
                 given up, then establish it from the other",
                pair.peer, report.epoch
            );
            return Err(OrderError::Refused(FailureCode::WrongEpoch, text));
        }
        let parts = Parts {
            epoch: report.epoch,
            leads: false,
            taken_over: false,
            handing_over: false,
            draining: false,
        };
        self.change_parts(pair, RemoteAct::Yield, parts).await?;
        Ok(false)
    }

    /// This side has stopped leading: the other begins, or this one begins again. Where the other stands it says itself.
    pub(crate) async fn hand_over(self: &Arc<Self>, pair: &RemotePair) -> Result<(), OrderError> {
        let (report, _) = self.order(pair, Action::Status).await?;
        if report.epoch < pair.epoch {
            let order = RemotePair {
                leads: true,
                epoch: report.epoch,
                ..pair.clone()
            };
            match self.order(&order, Action::Swap).await {
                Ok(_) => {}
                Err(OrderError::Refused(FailureCode::State, why)) => {
                    let parts = Parts {
                        epoch: report.epoch,
                        leads: true,
                        taken_over: false,
                        handing_over: false,
                        draining: false,
                    };
                    self.lead_again(pair, parts, &why).await?;
                    return Err(OrderError::Refused(FailureCode::State, why));
                }
                Err(error) => return Err(error),
            }
        }
        self.change_registry(pair, |known| known.handing_over = false)?;
        self.remote.said_nothing(pair.foreign_id());
        self.note_change();
        Ok(())
    }

    /// This side, which leads, stops doing so; the other may begin when this has returned.
    pub(crate) async fn stop_leading(self: &Arc<Self>, pair: &RemotePair) -> Result<(), OrderError> {
        let act = RemoteAct::Swap { alone: false };
        let mut parts = pair.swapped();
        parts.draining &= !self.planted(Mutation::HandOverUndrained);
        self.change_parts(pair, act, parts).await?;
        self.drain(pair).await
    }

    /// What hosts were answered for, and is on its way now that this side has stopped, arrives and is made stable on both sides: the other one would
    /// refuse it once it leads, and what either lost then with its power nobody would know of. That it has is durable before anybody is told to
    /// lead. If it does not arrive this side leads again, and marks it.
    async fn drain(self: &Arc<Self>, pair: &RemotePair) -> Result<(), OrderError> {
        let foreign = pair.foreign_id();
        let Some(stopped) = self.remote.pair_of(foreign) else {
            return Ok(());
        };
        let before = stopped.before.unwrap_or_else(|| pair.parts());
        let arrived = match self.remote.far(foreign) {
            Some(far) => far.handed(before.epoch).await,
            None => Ok(()),
        };
        let stable = match (arrived, self.leg(VolumeId(stopped.local.0))) {
            (Ok(()), Some(leg)) => leg.flush().await.map_err(|error| error.to_string()),
            (arrived, _) => arrived,
        };
        let known = match stable {
            Ok(()) if stopped.draining => self
                .change_registry(&stopped, |known| known.draining = false)
                .map_err(|error| error.to_string()),
            stable => stable,
        };
        let Err(reason) = known else {
            lock(&self.engine).has_arrived(foreign);
            self.remote.wake();
            return Ok(());
        };
        self.lead_again(&stopped, before, &reason).await?;
        Err(OrderError::Refused(FailureCode::State, reason))
    }

    /// The other side has not begun: this one does, apart from it until both have compared notes.
    async fn lead_again(
        self: &Arc<Self>,
        stopped: &RemotePair,
        parts: Parts,
        reason: &str,
    ) -> Result<(), OrderError> {
        self.change_parts(stopped, RemoteAct::Regain, parts).await?;
        self.remote.lost(self, stopped.foreign_id(), reason);
        Ok(())
    }

    /// The parts of a pair change here: the registry first, then the engine.
    pub(crate) async fn change_parts(
        self: &Arc<Self>,
        pair: &RemotePair,
        act: RemoteAct,
        parts: Parts,
    ) -> Result<(), OrderError> {
        let command = |dry_run| Command::Remote {
            pair: pair.volumes(),
            act: act.clone(),
            dry_run,
        };
        let refused = |why: String| OrderError::Refused(FailureCode::State, why);
        self.command(command(true))
            .await
            .map_err(|error| refused(self.explain(&error.why).message))?;
        let _changing = self.remote.changing.begin(pair.foreign_id());
        self.change_registry(pair, |known| {
            known.set_parts(parts);
            known.handing_over &= !self.planted(Mutation::ForgetHandingOver);
            known.in_backup = false;
            if parts.taken_over {
                // It was taken over to go on without the other side.
                known.on_link_loss = OnLinkLoss::Mark;
            }
        })?;
        if parts.leads
            && let Some(leads) = self.remote.pair_of(pair.foreign_id())
        {
            // Its hosts may write before both sides have compared notes.
            self.remote.add_far(self, &leads);
        }
        if let Err(error) = self.command(command(false)).await {
            self.change_registry(pair, |known| known.set_parts(pair.parts()))?;
            return Err(refused(self.explain(&error.why).message));
        }
        let foreign = pair.foreign_id();
        if parts.leads {
            self.note_ours(foreign);
        } else {
            self.note_not_ours(foreign);
        }
        lock(&self.remote.linked).remove(&foreign);
        lock(&self.remote.told).remove(&foreign);
        // Who stops leading sends what is on its way as the leader that it was.
        if let Some(far) = self.remote.far(foreign).filter(|_| parts.leads) {
            far.set_epoch(parts.epoch);
        }
        self.remote.wake();
        Ok(())
    }

    pub(crate) fn change_registry(
        &self,
        pair: &RemotePair,
        change: impl FnOnce(&mut RemotePair),
    ) -> Result<(), OrderError> {
        let foreign = pair.foreign;
        let stored = lock(&self.remote.registry).change(|pairs| {
            if let Some(known) = pairs.iter_mut().find(|known| known.foreign == foreign) {
                change(known);
            }
        });
        self.tell_modes();
        self.remote.note_waits(self, pair.local);
        // Before the engine hears of it: hosts are told first that they are to use the other system.
        self.note_access();
        stored.map_err(|error| OrderError::Refused(FailureCode::Internal, error.to_string()))
    }

    /// A suspended pair whose primary is right goes on: the union of both sides' marks is copied.
    async fn follow_again(self: &Arc<Self>, pair: &RemotePair) -> Result<(), OrderError> {
        self.take_back(pair, Action::Establish).await?;
        let command = Command::Pair {
            verb: Verb::Establish { full: false },
            members: vec![pair.volumes()],
            dry_run: false,
        };
        let done = self.command(command).await;
        done.map_err(|error| OrderError::Refused(FailureCode::State, self.explain(&error.why).message))?;
        Ok(())
    }

    /// The follower follows (again): its volume answers no host any more, and what it knows to be changed there is adopted.
    pub(crate) async fn take_back(
        self: &Arc<Self>,
        pair: &RemotePair,
        action: Action,
    ) -> Result<(), OrderError> {
        let (_, changed) = self.order(pair, action).await?;
        self.adopt(pair, changed).await?;
        self.following(pair);
        Ok(())
    }

    /// The follower of a pair that is apart may follow already, by an order whose answer was lost. What it handed over then is asked for again.
    async fn hear_again(self: &Arc<Self>, pair: &RemotePair) -> Result<(), OrderError> {
        let (report, changed) = self.order(pair, Action::Status).await?;
        if report.state == PairState::Split.code() || changed.is_empty() {
            return Ok(());
        }
        self.adopt(pair, changed).await
    }

    async fn adopt(self: &Arc<Self>, pair: &RemotePair, changed: Vec<TrackRange>) -> Result<(), OrderError> {
        if self.planted(Mutation::ForgetHandedOver) {
            return Ok(());
        }
        let adopt = Command::Remote {
            pair: pair.volumes(),
            act: RemoteAct::Adopt(changed),
            dry_run: false,
        };
        let adopted = self.command(adopt).await;
        adopted.map_err(|error| OrderError::Refused(FailureCode::State, self.explain(&error.why).message))?;
        Ok(())
    }

    /// The follower has been told that it follows, and is not equal yet.
    pub(crate) fn following(&self, pair: &RemotePair) {
        self.remote.tell(pair.foreign_id(), Told::Following);
    }

    /// Gives an order and takes the whole answer.
    pub(crate) async fn order(
        self: &Arc<Self>,
        pair: &RemotePair,
        action: Action,
    ) -> Result<(PairReport, Vec<TrackRange>), OrderError> {
        let mut order = self.pair_order(pair, action);
        if !matches!(action, Action::Status | Action::Create) {
            self.remote.forget_told(pair.foreign_id());
        }
        let mut changed = Vec::new();
        loop {
            match self.ask(pair, Request::Pair(order.clone())).await? {
                Response::PairState(report) => {
                    let runs = report.runs.iter().take(MAX_RUNS);
                    changed.extend(runs.map(|run| TrackRange::new(run.first, run.first + run.tracks)));
                    match report.next {
                        Some(next) => (order.from, order.action) = (next, Action::Status),
                        None => return Ok((report, changed)),
                    }
                }
                other => return Err(unasked(&other)),
            }
        }
    }

    /// An order about the pair as it is known here.
    pub(super) fn pair_order(&self, pair: &RemotePair, action: Action) -> PairOrder {
        let (primary, mirror) = if pair.leads {
            (pair.local.0, pair.far.0)
        } else {
            (pair.far.0, pair.local.0)
        };
        PairOrder {
            pair: pair.wire_id(),
            epoch: pair.epoch,
            action,
            flags: self.flags_of(pair),
            primary,
            mirror,
            mode: pair.mode,
            bytes: pair.bytes,
            track_size: self.track_size(),
            from: 0,
        }
    }

    fn flags_of(&self, pair: &RemotePair) -> u16 {
        let flag = |set: bool, flag: u16| if set { flag } else { 0 };
        flag(pair.on_link_loss == OnLinkLoss::Refuse, PairOrder::REFUSES)
            | flag(self.remote.sharing.is_shared_in(pair), PairOrder::SHARED)
    }

    pub(crate) async fn ask(
        self: &Arc<Self>,
        pair: &RemotePair,
        request: Request,
    ) -> Result<Response, OrderError> {
        let Some(paths) = self.remote.paths().filter(|_| !self.is_stopped()) else {
            return Err(OrderError::NoPath("this system has no links".to_owned()));
        };
        let answer = tokio::time::timeout(ANSWER, paths.request(&pair.peer, request)).await;
        match answer {
            Ok(Ok(Response::Failed { code, message })) => Err(OrderError::Refused(code, message)),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(OrderError::NoPath(format!("{}: {error}", pair.peer))),
            Err(_) => Err(OrderError::NoPath(format!(
                "{} did not answer within {} s",
                pair.peer,
                ANSWER.as_secs()
            ))),
        }
    }

    pub(crate) fn view_of(&self, mirror: VolumeId) -> Option<PairView> {
        lock(&self.engine).pair(PairId(mirror))
    }
}

fn unasked(response: &Response) -> OrderError {
    let text = format!("an answer of kind {:?} was not asked for", response.kind());
    OrderError::Refused(FailureCode::Internal, text)
}
