//! Commands about a pair that the peer leads, given here, where it is followed: Fig. 5 and 6, whose host is the secondary's.
//!
//! ESTABLISH, SPLIT and RESTORE go over the link, and the leader executes them as if they had been given there. One thing is
//! different: a RESTORE overwrites a primary whose hosts are out of sight of whoever asks, so the leader refuses it while one of
//! them uses the primary (S71): holds a reservation, or has written since the pair was split. At the primary's own system that
//! is for its operator to judge, and nothing is refused.
//!
//! While the follower follows, QUERY of the pair shows how far the leader is.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use link_proto::{FailureCode, Request, Response};
use replication_engine::{command::Summary, state::PairState};
use target_core::scsi_model::control::{
    Flags, OutVerb, PairDescriptor, PairSelector, Refusal, RefusalKind, Request as ControlRequest, SystemId,
    VolumeNumber, VolumePair, encode_cdb,
};

use super::{refusals::refusal, remote::of_peer};
use crate::{
    array::Array,
    remote::{OrderError, RemotePair},
};

/// Longest wait for the leader's view of a pair; without it our own is shown.
const VIEW: Duration = Duration::from_secs(2);

impl Array {
    /// Has the leader execute it.
    pub(super) async fn ask_leader(
        self: &Arc<Self>,
        verb: &OutVerb,
        flags: Flags,
        pair: &RemotePair,
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        self.must_be_up(pair)?;
        let request = ControlRequest::Out {
            verb: verb.clone(),
            flags,
            members: vec![there(pair)],
            dry_run,
        };
        let answer = self.forward_request(pair, &request).await;
        let answer = answer.map_err(|error| of_peer(&error))?;
        let tracks = answer.as_ref().try_into().map_or(0, u64::from_be_bytes);
        Ok(Summary { tracks })
    }

    /// Replaces what a follower cannot know of pairs that follow now by what their leaders say.
    pub(super) async fn as_their_leaders_see_them(self: &Arc<Self>, pairs: &mut [PairDescriptor]) {
        for pair in pairs {
            if pair.role != 2 || pair.state != PairState::Copy.code() || pair.link_up != Some(true) {
                continue;
            }
            let Some(known) = self.remote_pair(pair.primary, pair.mirror) else {
                continue;
            };
            let VolumePair { primary, .. } = there(&known);
            let query = ControlRequest::Query(PairSelector::One(primary, known.local));
            let answer = tokio::time::timeout(VIEW, self.forward_request(&known, &query)).await;
            let Ok(Ok(bytes)) = answer else { continue };
            let Ok(seen) = serde_json::from_slice::<PairDescriptor>(&bytes) else {
                continue;
            };
            // What the leader has ended is news here only when the follower has been told so.
            let ended = matches!(
                PairState::from_code(seen.state),
                None | Some(PairState::Duplex | PairState::Restored | PairState::Split | PairState::Simplex)
            );
            if ended {
                continue;
            }
            (pair.state, pair.full, pair.reason) = (seen.state, seen.full, seen.reason);
            (pair.remaining, pair.rate, pair.eta_seconds) = (seen.remaining, seen.rate, seen.eta_seconds);
        }
    }

    /// A command that a follower forwards, if it is about a pair that this system leads with it.
    pub(crate) async fn commanded_by_follower(
        self: &Arc<Self>,
        peer: &SystemId,
        request: &ControlRequest,
    ) -> Option<Result<Response, (FailureCode, String)>> {
        let led = |primary, mirror| self.remote.led(peer, primary, mirror);
        match request {
            ControlRequest::Query(PairSelector::One(primary, mirror)) => {
                let pair = led(*primary, *mirror)?;
                let foreign = VolumeNumber(pair.foreign);
                Some(self.view_for_follower(PairSelector::One(pair.local, foreign)))
            }
            ControlRequest::Out {
                verb: verb @ (OutVerb::Establish { remote: None } | OutVerb::Split | OutVerb::Restore),
                flags,
                members,
                dry_run,
            } => {
                let [
                    VolumePair {
                        primary,
                        mirror: Some(mirror),
                    },
                ] = members[..]
                else {
                    return None;
                };
                let pair = led(primary, mirror)?;
                Some(self.execute_for_follower(verb, *flags, &pair, *dry_run).await)
            }
            _ => None,
        }
    }

    fn view_for_follower(&self, pair: PairSelector) -> Result<Response, (FailureCode, String)> {
        let internal = |text: String| (FailureCode::Internal, text);
        let pairs = self.query(pair).map_err(|refusal| internal(refusal.message))?;
        let text = serde_json::to_vec(&pairs.first()).map_err(|error| internal(error.to_string()))?;
        Ok(Response::Forwarded(text.into()))
    }

    async fn execute_for_follower(
        self: &Arc<Self>,
        verb: &OutVerb,
        flags: Flags,
        pair: &RemotePair,
        dry_run: bool,
    ) -> Result<Response, (FailureCode, String)> {
        let refused = |refusal: Refusal| (code(refusal.kind), refusal.message);
        if *verb == OutVerb::Restore {
            self.is_primary_at_rest(pair).map_err(refused)?;
        }
        let done = self.out_remote(verb, flags, pair, dry_run).await;
        let summary = done.map_err(refused)?;
        Ok(Response::Forwarded(Bytes::copy_from_slice(
            &summary.tracks.to_be_bytes(),
        )))
    }

    /// S71: no host of this system uses the volume that is to be overwritten. Once the restore has begun hosts see the restored volume, and
    /// may use it.
    fn is_primary_at_rest(&self, pair: &RemotePair) -> Result<(), Refusal> {
        let Some(view) = self.view_of(pair.foreign_id()) else {
            return Ok(());
        };
        let name = format!("{}:{}", self.system(), self.name(pair.local));
        let why = match view.state {
            PairState::Split if view.mirror_invalid > 0 => format!(
                "it was written since the pair was split ({} tracks)",
                view.mirror_invalid
            ),
            PairState::Split => match self.host_use(pair.local) {
                Some(why) => why,
                None => return Ok(()),
            },
            // Not out of a restore: what the primary has is newer, and on its way by itself.
            PairState::Suspended if view.resumes => {
                let message = format!("volume {name} is newer than its mirror: the pair resumes by itself");
                return Err(refusal(RefusalKind::State, message));
            }
            _ => return Ok(()),
        };
        let message = format!(
            "volume {name} is in use: {why}; take it out of use, or have the restore given on {}, whose operator may decide otherwise",
            self.system()
        );
        Err(refusal(RefusalKind::InUse, message))
    }

    /// Has the peer of this pair execute a request; gives what it answers.
    pub(super) async fn forward_request(
        self: &Arc<Self>,
        pair: &RemotePair,
        request: &ControlRequest,
    ) -> Result<Bytes, OrderError> {
        let encoded = encode_cdb(request, 0, false);
        let mut bytes = BytesMut::with_capacity(16 + encoded.data_out.len());
        bytes.put_slice(&encoded.cdb);
        bytes.put_slice(&encoded.data_out);
        match self.ask(pair, Request::Forward(bytes.freeze())).await? {
            Response::Forwarded(answer) => Ok(answer),
            other => {
                let text = format!("{} answered with a {:?}", pair.peer, other.kind());
                Err(OrderError::Refused(FailureCode::Internal, text))
            }
        }
    }
}

/// A pair that is followed here, in the numbers of both systems.
fn there(pair: &RemotePair) -> VolumePair {
    VolumePair {
        primary: pair.far,
        mirror: Some(pair.local),
    }
}

fn code(kind: RefusalKind) -> FailureCode {
    match kind {
        RefusalKind::InUse | RefusalKind::Held => FailureCode::Held,
        RefusalKind::State => FailureCode::State,
        RefusalKind::NoSuchPair => FailureCode::NoSuchPair,
        RefusalKind::Internal => FailureCode::Internal,
        _ => FailureCode::Refused,
    }
}
