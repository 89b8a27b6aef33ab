//! A backup's mirrors at the far site (430-460 of Fig. 4): they are split by a command given where their primaries are led, and follow again where
//! the backup did not come to be.

use std::sync::Arc;

use link_proto::FailureCode;
use replication_engine::{
    command::{Command, Verb},
    ids::VolumeId,
    state::PairState,
};
use target_core::scsi_model::control::{SystemId, VolumeNumber, VolumePair};

use super::{Image, RemotePair, serve::Refused};
use crate::array::Array;

impl Array {
    /// Splits local mirrors of volumes that follow the peer, and hold its image now. A mirror that is apart is made equal first; the image is that of this moment
    /// all the same, for a split owes what it has not.
    pub(super) async fn split_for_backup(
        self: &Arc<Self>,
        peer: &SystemId,
        members: &[VolumePair],
        dry_run: bool,
    ) -> Result<(), Refused> {
        let refused = |text: String| (FailureCode::Refused, text);
        let _alone = self.remote.obeying.lock().await;
        let (mut pairs, mut apart, mut parted) = (Vec::new(), Vec::new(), Vec::new());
        for &VolumePair { primary, mirror } in members {
            let follows = |pair: &RemotePair| pair.peer == *peer && pair.local == primary && !pair.leads;
            let pair = self.remote.pairs().into_iter().find(follows);
            let text = || format!("volume {} of {} does not follow {peer}", primary.0, self.system());
            pairs.push(pair.ok_or_else(|| refused(text()))?);
            let mirror = VolumeId(mirror.unwrap_or(VolumeNumber(u32::MAX)).0);
            let members = (VolumeId(primary.0), mirror);
            let view = self.view_of(mirror).filter(|view| view.primary == members.0);
            let view = view.ok_or_else(|| {
                let text = format!(
                    "volume {} of {} is not a mirror of volume {}",
                    mirror.0,
                    self.system(),
                    primary.0
                );
                refused(text)
            })?;
            match view.state {
                PairState::Copy | PairState::Duplex | PairState::Restored => {}
                PairState::Split | PairState::Suspended => {
                    self.may_be_taken(VolumeNumber(mirror.0))?;
                    apart.push(members);
                }
                state => return Err(refused(format!("the pair with mirror {} is {state}", mirror.0))),
            }
            parted.push(members);
        }
        if dry_run {
            return Ok(());
        }
        for pair in &pairs {
            let view = self.follower_view(pair)?;
            self.arrive(pair, &view).await?;
        }
        let pair = |verb, members| Command::Pair {
            verb,
            members,
            dry_run: false,
        };
        if !apart.is_empty() {
            self.obeyed(pair(Verb::Establish { full: false }, apart)).await?;
        }
        let split = Verb::Split {
            instant: false,
            strict_hold: false,
            force: false,
        };
        self.obeyed(pair(split, parted.clone())).await?;
        for (pair, (_, mirror)) in pairs.iter().zip(parted) {
            let image = self.view_of(mirror).map(|view| Image {
                mirror: VolumeNumber(mirror.0),
                split_at_ms: view.split_at_ms,
            });
            self.change_registry(pair, |known| known.image = image)
                .map_err(|error| (FailureCode::Internal, error.to_string()))?;
        }
        Ok(())
    }

    /// A backup did not come to be at all systems: mirrors that were split here for it follow again. One that was split anew since, or follows already,
    /// is left as it is.
    pub(super) async fn follow_after_backup(
        self: &Arc<Self>,
        peer: &SystemId,
        members: &[VolumePair],
    ) -> Result<(), Refused> {
        // Behind a split that its leader has given up waiting for.
        let _alone = self.remote.obeying.lock().await;
        let mut again = Vec::new();
        for VolumePair { primary, mirror } in members {
            let mut following = self.remote.pairs().into_iter().filter(|pair| !pair.leads);
            let pair = following.find(|pair| pair.peer == *peer && pair.local == *primary);
            let Some(image) = pair
                .and_then(|pair| pair.image)
                .filter(|image| Some(image.mirror) == *mirror)
            else {
                continue;
            };
            let Some(view) = self.view_of(VolumeId(image.mirror.0)) else {
                continue;
            };
            if view.primary.0 != primary.0 || view.split_at_ms != image.split_at_ms {
                continue;
            }
            match view.state {
                PairState::Split => {
                    self.may_be_taken(image.mirror)?;
                    again.push((view.primary, view.mirror));
                }
                PairState::Splitting => {
                    let text = format!(
                        "volume {} of {} is being split still",
                        image.mirror.0,
                        self.system()
                    );
                    return Err((FailureCode::Busy, text));
                }
                _ => {}
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        self.obeyed(Command::Pair {
            verb: Verb::Establish { full: false },
            members: again,
            dry_run: false,
        })
        .await
    }
}
