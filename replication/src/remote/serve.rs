//! The follower's side: what a peer's requests come to here.
//!
//! A request of data names the pair and its epoch; one of a pair that this system does not know, leads itself, or knows in another epoch is
//! refused and changes nothing. Writes go through the engine like a host's, so that the volume's own mirrors and generations get what
//! they are promised; only readiness is the other way round: the leader is answered while hosts are not.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use link_proto::{
    Action, Description, FailureCode, PairOrder, PairReport, Request, Response, Run, VolumeName,
    response::MAX_RUNS,
};
use replication_engine::{
    command::{Command, PairView, RemoteAct, Side, Verb},
    state::PairState,
};
use target_core::{
    buffer::Buffer,
    scsi_model::control::{
        OnLinkLoss, OutVerb, Request as ControlRequest, SystemId, VolumeNumber, decode_cdb,
    },
    volume::{IoError, Volume},
};

use super::RemotePair;
use crate::{
    array::Array,
    digest::{self, Digest},
    lock,
    machine::Mutation,
    paired_volume::PairedVolume,
};

/// The answer to a peer.
pub type ServeFuture = Pin<Box<dyn Future<Output = Response> + Send>>;

pub(super) type Refused = (FailureCode, String);

impl Array {
    /// A request of a peer. To be called in the order of arrival.
    pub fn serve(&self, peer: &SystemId, boot: u128, request: Request) -> ServeFuture {
        let Some(array) = self.strong() else {
            let stopping = Response::failed(FailureCode::Refused, "the system is stopping");
            return Box::pin(std::future::ready(stopping));
        };
        let peer = peer.clone();
        Box::pin(async move {
            if array.planted(Mutation::AnswerBeforeWriting) && matches!(request, Request::Write { .. }) {
                tokio::spawn(async move { array.serve_data(&peer, request).await });
                return Response::Done;
            }
            let result = match request {
                Request::Describe(name) => array.describe(&name, boot),
                Request::Pair(order) => array.obey(&peer, &order).await.map(Response::PairState),
                Request::Forward(command) => array.forwarded(&peer, &command).await,
                data => array.serve_data(&peer, data).await,
            };
            result.unwrap_or_else(|(code, message)| Response::failed(code, message))
        })
    }

    /// A write of a peer that has nothing in its way, to be called in the order of arrival. `None`: nothing was done, and [`Array::serve`] is
    /// to be asked.
    pub fn serve_at_once(&self, peer: &SystemId, request: &Request) -> Option<Response> {
        let Request::Write {
            pair,
            epoch,
            volume,
            offset,
            data,
            ..
        } = request
        else {
            return None;
        };
        let place = (*offset, data.len() as u64);
        let volume = self.followed(peer, (*pair, *epoch, *volume), place).ok()?;
        volume.try_write_by_link(*offset, data).then_some(Response::Done)
    }

    fn describe(&self, name: &VolumeName, boot: u128) -> Result<Response, Refused> {
        let found = match name {
            VolumeName::Number(number) => self.volume(VolumeNumber(*number)),
            VolumeName::Name(name) => self
                .volumes()
                .into_iter()
                .find(|volume| volume.info().name == *name),
        };
        let volume = found.ok_or_else(|| no_such_volume(self, name))?;
        let info = volume.info();
        Ok(Response::Described(Description {
            number: info.number.0,
            name: info.name.clone(),
            bytes: info.bytes(),
            block_size: info.block_size,
            track_size: self.track_size(),
            mirror_class: info.mirror_class,
            boot,
        }))
    }

    async fn serve_data(&self, peer: &SystemId, request: Request) -> Result<Response, Refused> {
        let done = |result: Result<(), IoError>| {
            result
                .map(|()| Response::Done)
                .map_err(|error| refused_io(&error))
        };
        match request {
            Request::Write {
                pair,
                epoch,
                volume,
                offset,
                data,
                ..
            } => {
                let volume = self.followed(peer, (pair, epoch, volume), (offset, data.len() as u64))?;
                done(volume.write_by_link(offset, data).await)
            }
            Request::Zero {
                pair,
                epoch,
                volume,
                offset,
                length,
                unmap,
                ..
            } => {
                let volume = self.followed(peer, (pair, epoch, volume), (offset, length))?;
                done(volume.zero_by_link(offset, length, unmap).await)
            }
            Request::Read {
                pair,
                epoch,
                volume,
                offset,
                length,
            } => {
                let volume = self.followed(peer, (pair, epoch, volume), (offset, u64::from(length)))?;
                let read = volume.read_by_link(offset, Buffer::new(length as usize)).await;
                let buffer = read.map_err(|error| refused_io(&error))?;
                Ok(Response::Data(buffer.freeze()))
            }
            Request::Flush { pair, epoch, volume } => {
                let volume = self.followed(peer, (pair, epoch, volume), (0, 0))?;
                match volume.flush_by_link().await {
                    // It is its hosts' by now. What came over the link before must be stable all the same.
                    Err(IoError::NotReady) => done(volume.plain().disk().flush().await),
                    result => done(result),
                }
            }
            Request::Extents {
                pair,
                epoch,
                volume,
                offset,
            } => {
                let volume = self.followed(peer, (pair, epoch, volume), (offset, 0))?;
                let extents = volume.extents_by_link(self, offset).await;
                let extents = extents.map_err(|error| refused_io(&error))?;
                let first = extents.first().copied();
                Ok(first.map_or(
                    Response::Extent {
                        mapped: true,
                        length: 0,
                    },
                    |first| Response::Extent {
                        mapped: first.mapped,
                        length: first.length,
                    },
                ))
            }
            Request::Digest {
                pair,
                epoch,
                volume,
                offset,
                length,
                piece,
                ..
            } => {
                let volume = self.followed(peer, (pair, epoch, volume), (offset, u64::from(length)))?;
                let digests = self.digests(&volume, offset, (length as usize, piece as usize));
                let digests = digests.await.map_err(|error| refused_io(&error))?;
                Ok(Response::Digests(digests.concat().into()))
            }
            Request::Describe(_) | Request::Pair(_) | Request::Forward(_) => {
                Err((FailureCode::Internal, "this is no request for data".to_owned()))
            }
        }
    }

    /// Of what the leader would read; or, when the volume is its hosts', of what they read. Then the marks say what they changed,
    /// and the leader asks for them after this.
    async fn digests(
        &self,
        volume: &PairedVolume,
        offset: u64,
        (length, piece): (usize, usize),
    ) -> Result<Vec<Digest>, IoError> {
        let extents = volume.extents_by_link(self, offset).await?;
        if digest::is_hole(extents.first(), offset, length as u64) {
            return Ok(digest::of_zeros(length, piece));
        }
        let buffer = Buffer::new(length);
        let read = if lock(&self.engine).follows(volume.id()) {
            volume.read_by_link(offset, buffer).await?
        } else {
            volume.read_either_way(offset, buffer).await?
        };
        digest::of_pieces(read, piece).await
    }

    /// The volume of a pair that this system follows in, if the leader means the same.
    fn followed(
        &self,
        peer: &SystemId,
        named: (u128, u64, u32),
        (offset, length): (u64, u64),
    ) -> Result<Arc<PairedVolume>, Refused> {
        let local = self
            .remote
            .follower(peer, named)
            .ok_or_else(|| self.not_followed(peer, named))?;
        let volume = self
            .volume(local)
            .ok_or_else(|| no_such_volume(self, &VolumeName::Number(local.0)))?;
        if offset.checked_add(length).is_none_or(|end| end > volume.bytes()) {
            let text = format!(
                "{length} bytes at {offset} are not in the volume, which has {}",
                volume.bytes()
            );
            return Err((FailureCode::Geometry, text));
        }
        Ok(volume)
    }

    /// Why the volume named does not follow the peer in this pair and epoch.
    fn not_followed(&self, peer: &SystemId, (pair, epoch, volume): (u128, u64, u32)) -> Refused {
        let known = self.known_pair(peer, pair);
        let refused = known.and_then(|known| check_epoch(&known, epoch)).err();
        refused.unwrap_or_else(|| {
            let text = format!("volume {volume} does not follow {peer} here");
            (FailureCode::State, text)
        })
    }

    pub(super) fn known_pair(&self, peer: &SystemId, pair: u128) -> Result<RemotePair, Refused> {
        self.remote
            .pair_called(pair)
            .filter(|known| known.peer == *peer)
            .ok_or_else(|| {
                let text = format!("{} has no such pair with {peer}", self.system());
                (FailureCode::NoSuchPair, text)
            })
    }

    /// An order about a pair.
    async fn obey(self: &Arc<Self>, peer: &SystemId, order: &PairOrder) -> Result<PairReport, Refused> {
        if order.action == Action::Cancel && order.flags & PairOrder::NEVER_MADE != 0 {
            return self.hear_withdrawal(peer, order).await;
        }
        if order.action == Action::Create {
            let _order = self.remote.orders.lock().await;
            self.create(peer, order).await?;
        }
        let pair = self.known_pair(peer, order.pair)?;
        if pair.draining || self.remote.is_changing(pair.foreign_id()) {
            // An epoch that is not in force yet is told to nobody: a crash takes it back.
            let text = format!("the parts in this pair are changing at {}", self.system());
            return Err((FailureCode::Busy, text));
        }
        self.hear_policy(&pair, order)?;
        self.hear_leader(&pair, order);
        if matches!(order.action, Action::Status | Action::Create) {
            return self.report(&pair, order.from);
        }
        check_epoch(&pair, order.epoch)?;
        if order.action == Action::Swap {
            return self.swap_asked(&pair).await;
        }
        let _alone = self.remote.obeying.lock().await;
        let pair = self.known_pair(peer, order.pair)?;
        check_epoch(&pair, order.epoch)?;
        if pair.leads {
            let text = format!("{} leads this pair itself", self.system());
            return Err((FailureCode::State, text));
        }
        let view = self.follower_view(&pair)?;
        match order.action {
            Action::Establish | Action::Restore | Action::RestoreProtected => {
                if matches!(view.state, PairState::Split | PairState::Suspended) {
                    self.may_be_taken(pair.local)?;
                    self.pair_command(&pair, Verb::Establish { full: false }).await?;
                } else {
                    self.act(&pair, RemoteAct::Depart).await?;
                }
            }
            Action::Finished => self.arrive(&pair, &view).await?,
            Action::Split => {
                if view.state != PairState::Split {
                    self.arrive(&pair, &view).await?;
                    let split = Verb::Split {
                        instant: false,
                        strict_hold: false,
                        force: false,
                    };
                    self.pair_command(&pair, split).await?;
                }
            }
            Action::Cancel => {
                let report = self.report(&pair, 0)?;
                self.dissolve(&pair).await?;
                return Ok(report);
            }
            Action::Status | Action::Create | Action::Swap => {}
        }
        self.report(&pair, order.from)
    }

    /// Who orders as the leader, in the epoch that is known here, leads; but for one who has stopped and has this side begin.
    fn hear_leader(&self, pair: &RemotePair, order: &PairOrder) {
        let says_so = order.primary == pair.far.0 && order.epoch == pair.epoch;
        if says_so && !pair.leads && !matches!(order.action, Action::Swap | Action::Cancel) {
            self.note_leader(pair.foreign_id());
        }
    }

    /// The leader's policy, for the day on which this side leads.
    fn hear_policy(&self, pair: &RemotePair, order: &PairOrder) -> Result<(), Refused> {
        let policy = policy_of(order);
        if pair.leads || pair.epoch != order.epoch || pair.on_link_loss == policy {
            return Ok(());
        }
        self.change_registry(pair, |known| known.on_link_loss = policy)
            .map_err(|error| (FailureCode::Internal, error.to_string()))
    }

    pub(super) async fn arrive(self: &Arc<Self>, pair: &RemotePair, view: &PairView) -> Result<(), Refused> {
        if view.state == PairState::Duplex {
            return Ok(());
        }
        self.act(pair, RemoteAct::Arrive).await
    }

    async fn act(self: &Arc<Self>, pair: &RemotePair, act: RemoteAct) -> Result<(), Refused> {
        let command = Command::Remote {
            pair: pair.volumes(),
            act,
            dry_run: false,
        };
        self.obeyed(command).await
    }

    /// A command of a follower to its leader, or what a backup asks for ([`super::backup`]).
    async fn forwarded(self: &Arc<Self>, peer: &SystemId, command: &[u8]) -> Result<Response, Refused> {
        let refused = |text: String| (FailureCode::Refused, text);
        let (cdb, data) = command
            .split_at_checked(16)
            .ok_or_else(|| refused(format!("a command has 16 bytes at least, not {}", command.len())))?;
        let decoded = decode_cdb(cdb, data, VolumeNumber(u32::MAX))
            .map_err(|failure| refused(format!("the command forwarded is none: {failure:?}")))?;
        if let Some(answer) = self.commanded_by_follower(peer, &decoded.request).await {
            return answer;
        }
        match decoded.request {
            ControlRequest::Out {
                verb: OutVerb::Establish { remote: None },
                members,
                dry_run: false,
                ..
            } => self.follow_after_backup(peer, &members).await?,
            ControlRequest::Out {
                verb: OutVerb::Split,
                members,
                dry_run,
                ..
            } => self.split_for_backup(peer, &members, dry_run).await?,
            _ => {
                return Err(refused(
                    "only the split of a local mirror, and commands to the leader of a pair, are forwarded"
                        .to_owned(),
                ));
            }
        }
        Ok(Response::Forwarded(Bytes::from_static(&[0])))
    }

    pub(super) async fn pair_command(self: &Arc<Self>, pair: &RemotePair, verb: Verb) -> Result<(), Refused> {
        let command = Command::Pair {
            verb,
            members: vec![pair.volumes()],
            dry_run: false,
        };
        self.obeyed(command).await
    }

    pub(super) async fn obeyed(self: &Arc<Self>, command: Command) -> Result<(), Refused> {
        let done = self.command(command).await;
        done.map(drop)
            .map_err(|error| (FailureCode::State, self.explain(&error.why).message))
    }

    /// The peer wants the other part, together with us.
    async fn swap_asked(self: &Arc<Self>, pair: &RemotePair) -> Result<PairReport, Refused> {
        let _order = self.remote.orders.lock().await;
        let known = self.known_pair(&pair.peer, pair.wire_id())?;
        // It may have changed parts while this waited.
        check_epoch(&known, pair.epoch)?;
        if pair.leads {
            self.may_be_taken(pair.local)?;
        }
        let changed = if pair.leads {
            self.stop_leading(pair).await
        } else {
            let act = RemoteAct::Swap { alone: false };
            self.change_parts(pair, act, pair.swapped()).await
        };
        changed.map_err(|error| (FailureCode::State, error.to_string()))?;
        let pair = self.known_pair(&pair.peer, pair.wire_id())?;
        self.report(&pair, 0)
    }

    pub(super) fn may_be_taken(&self, volume: VolumeNumber) -> Result<(), Refused> {
        match self.host_use(volume) {
            None => Ok(()),
            Some(why) => Err((
                FailureCode::Held,
                format!("volume {} of {} is in use: {why}", volume.0, self.system()),
            )),
        }
    }

    pub(super) fn follower_view(&self, pair: &RemotePair) -> Result<PairView, Refused> {
        self.view_of(pair.volumes().1)
            .ok_or_else(|| (FailureCode::NoSuchPair, "the pair is being dissolved".to_owned()))
    }

    /// How the pair is here, with the tracks that may differ, from this one on.
    pub(super) fn report(&self, pair: &RemotePair, from: u64) -> Result<PairReport, Refused> {
        let view = self.follower_view(pair)?;
        let track = u64::from(self.track_size());
        let mut changed = self.pending(view.mirror, Side::Union);
        changed.retain(|range| range.end.div_ceil(track) > from);
        let next = changed.get(MAX_RUNS).map(|range| range.start / track);
        let runs = changed.iter().take(MAX_RUNS).map(|range| {
            let first = (range.start / track).max(from);
            let tracks = range.end.div_ceil(track) - first;
            Run { first, tracks }
        });
        let mut flags = 0;
        for (set, flag) in [
            (pair.taken_over, PairReport::TAKEN_OVER),
            (view.mirror_ready && !pair.leads, PairReport::READY),
            (view.mirror_inconsistent, PairReport::INCONSISTENT),
        ] {
            flags |= if set { flag } else { 0 };
        }
        Ok(PairReport {
            pair: pair.wire_id(),
            epoch: pair.epoch,
            state: view.state.code(),
            flags,
            runs: runs.collect(),
            next,
        })
    }
}

pub(super) fn policy_of(order: &PairOrder) -> OnLinkLoss {
    if order.flags & PairOrder::REFUSES == 0 {
        OnLinkLoss::Mark
    } else {
        OnLinkLoss::Refuse
    }
}

pub(super) fn check_epoch(pair: &RemotePair, epoch: u64) -> Result<(), Refused> {
    if pair.epoch == epoch {
        return Ok(());
    }
    let text = format!("the pair is in epoch {} here, not {epoch}", pair.epoch);
    Err((FailureCode::WrongEpoch, text))
}

pub(super) fn no_such_volume(array: &Array, name: &VolumeName) -> Refused {
    let name = match name {
        VolumeName::Number(number) => number.to_string(),
        VolumeName::Name(name) => name.clone(),
    };
    let text = format!("{} has no volume {name}", array.system());
    (FailureCode::NoSuchVolume, text)
}

fn refused_io(error: &IoError) -> Refused {
    let code = match error {
        IoError::NotReady => FailureCode::State,
        IoError::NoSpace { .. } => FailureCode::NoSpace,
        IoError::MirrorAway => FailureCode::Busy,
        IoError::Read { .. } => FailureCode::Read,
        IoError::Write { .. } => FailureCode::Write,
        _ => FailureCode::Internal,
    };
    (code, error.to_string())
}
