//! ESTABLISH with REMOTE: a new pair with a volume of another system (`remote::making` tells how it comes to be on both).

use std::sync::Arc;

use link_proto::{Action, Request, Response, VolumeName};
use replication_engine::command::{Command, Summary, Verb};
use target_core::{
    scsi_model::control::{
        CopyMode, Flags, OnLinkLoss, OutVerb, Refusal, RefusalKind, SystemId, VolumeNumber,
    },
    volume::Volume,
};

use super::{refusals::refusal, remote::of_peer};
use crate::{
    array::Array,
    remote::{OrderError, RemotePair},
};

impl Array {
    /// ESTABLISH with REMOTE: the pair is made, or made again.
    pub(super) async fn establish_remote(
        self: &Arc<Self>,
        (primary, far): (VolumeNumber, VolumeNumber),
        (peer, mode): (&SystemId, CopyMode),
        flags: Flags,
        dry_run: bool,
    ) -> Result<Summary, Refusal> {
        if let Some(pair) = self.remote.led(peer, primary, far) {
            if pair.mode != mode {
                let message = "the pair has another mode: cancel it to change that";
                return Err(refusal(RefusalKind::State, message));
            }
            return self
                .out_remote(&OutVerb::Establish { remote: None }, flags, &pair, dry_run)
                .await;
        }
        let volume = self.volume(primary).ok_or_else(|| self.no_such_volume(primary))?;
        let _order = self.remote_orders().await;
        let Some(paths) = self.remote.paths().filter(|paths| paths.knows(peer)) else {
            let message = format!(
                "{peer} is not a configured peer of {}: add a [[peer]]",
                self.system()
            );
            return Err(refusal(RefusalKind::NoPath, message));
        };
        if !paths.is_up(peer) {
            let message = format!("the link to {peer} is down: `holdfast link` says why");
            return Err(refusal(RefusalKind::NoPath, message));
        }
        let id = self.machine.unique();
        let id = id.map_err(|why| refusal(RefusalKind::Internal, why))?;
        let info = volume.info();
        let pair = RemotePair {
            pair: format!("{:032x}", id.max(1)),
            epoch: 1,
            peer: peer.clone(),
            local: primary,
            far,
            foreign: self.remote.free_foreign(),
            mode,
            leads: true,
            bytes: info.bytes(),
            block_size: info.block_size,
            in_backup: false,
            undo: None,
            image: None,
            taken_over: false,
            handing_over: false,
            draining: false,
            on_link_loss: OnLinkLoss::Mark,
            before: None,
        };
        self.check_far(&pair).await?;
        let tracks = pair.bytes.div_ceil(u64::from(self.track_size()));
        if dry_run {
            return Ok(Summary { tracks });
        }
        self.withdraw_from(peer).await.map_err(|error| of_peer(&error))?;
        let internal = |text: String| refusal(RefusalKind::Internal, text);
        self.propose(&pair).map_err(internal)?;
        let made = self.make(&pair, flags.checksum).await;
        match &made {
            Ok(_) => self.has_come_to_be(&pair),
            // If the follower does not hear of it now, it does when the link is there.
            Err(_) => drop(self.withdraw(&pair).await),
        }
        made
    }

    /// The follower makes the pair, then this system does.
    async fn make(self: &Arc<Self>, pair: &RemotePair, checksum: bool) -> Result<Summary, Refusal> {
        let internal = |text: String| refusal(RefusalKind::Internal, text);
        self.order(pair, Action::Create)
            .await
            .map_err(|error| match error {
                OrderError::NoPath(why) => {
                    let message = format!(
                        "{why}; no pair is made, and what {} has of it goes when the link is there",
                        pair.peer
                    );
                    refusal(RefusalKind::NoPath, message)
                }
                refused @ OrderError::Refused(..) => of_peer(&refused),
            })?;
        self.enter(pair).map_err(internal)?;
        self.note_ours(pair.foreign_id());
        self.relink(pair);
        self.compare_in(&[pair.foreign_id()], checksum);
        let command = Command::Pair {
            verb: Verb::Establish { full: true },
            members: vec![pair.volumes()],
            dry_run: false,
        };
        let made = self.run_command(command).await;
        if made.is_err() {
            self.strike(pair).map_err(internal)?;
        }
        self.note_access();
        made
    }

    /// Are the two volumes of the same kind?
    async fn check_far(self: &Arc<Self>, pair: &RemotePair) -> Result<(), Refusal> {
        let request = Request::Describe(VolumeName::Number(pair.far.0));
        let answer = self.ask(pair, request).await.map_err(|error| of_peer(&error))?;
        let Response::Described(there) = answer else {
            let message = format!("{} did not say what its volume {} is", pair.peer, pair.far.0);
            return Err(refusal(RefusalKind::PeerRefused, message));
        };
        for (what, here, there) in [
            ("capacity", pair.bytes, there.bytes),
            (
                "block size",
                u64::from(pair.block_size),
                u64::from(there.block_size),
            ),
            (
                "track size",
                u64::from(self.track_size()),
                u64::from(there.track_size),
            ),
        ] {
            if here != there {
                let message = format!(
                    "volume {} and {}:{} differ in {what}: {here} and {there} bytes",
                    self.name(pair.local),
                    pair.peer,
                    pair.far.0
                );
                return Err(refusal(RefusalKind::Geometry, message));
            }
        }
        Ok(())
    }
}
