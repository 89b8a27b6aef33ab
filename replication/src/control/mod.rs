//! The one executor of replication requests: [`Request`] in, [`Reply`] or [`Refusal`] out, wherever it came from (a
//! C0h/C1h CDB, the admin socket, the command line).
//!
//! [`out`] turns the OUT verbs into engine commands, [`making`], [`remote`] and [`backup`] those for remote pairs, [`leader`] has the peer execute what only it can,
//! [`list`] takes several pairs at once, [`deep`] compares both sides of a pair, [`reports`] answers the IN requests from the engine's views,
//! [`refusals`] says in names and sentences why something is not done.

mod backup;
mod deep;
mod leader;
mod list;
mod making;
mod out;
mod refusals;
mod remote;
mod reports;

use std::{sync::Arc, time::Duration};

use replication_engine::{command::PairView, ids::VolumeId};
use target_core::{
    control::{ArrayControl, ControlFuture},
    scsi_model::control::{
        PairSelector, Refusal, RefusalKind, Reply, Request, VerifySummary, VolumeNumber, VolumePair,
    },
};

use crate::array::Array;

pub use backup::{BACKUP_DEADLINE, BackupDone, BackupMember, BackupTerms};
pub use deep::DeepSlice;

/// Most members of a LIST (docs/control-cdb.md, FLAGS).
pub const MOST_MEMBERS: usize = 1024;

/// Knows what hosts do with a volume outside its data: whoever keeps reservations implements it.
pub trait HostUse: Send + Sync + 'static {
    /// Why the volume must not be taken away from its hosts ("initiator iqn... holds a persistent reservation"), if
    /// it must not (S94).
    fn in_use(&self, volume: VolumeNumber) -> Option<String>;
}

impl ArrayControl for Array {
    fn execute(&self, request: Request) -> ControlFuture {
        let Some(array) = self.strong() else {
            return Box::pin(async {
                Err(refusals::refusal(
                    RefusalKind::Internal,
                    "the array is shutting down",
                ))
            });
        };
        Box::pin(async move { array.run(request).await })
    }
}

impl Array {
    async fn run(self: Arc<Self>, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::Out {
                verb,
                flags,
                members,
                dry_run,
            } => self
                .out(&verb, flags, &members, dry_run)
                .await
                .map(|_| Reply::Done),
            Request::Preview { verb, flags, pair } => {
                self.preview(&verb, flags, pair).await.map(Reply::Preview)
            }
            Request::Query(selector) => {
                let mut pairs = self.query(selector)?;
                if matches!(selector, PairSelector::One(..)) {
                    self.as_their_leaders_see_them(&mut pairs).await;
                }
                Ok(Reply::Pairs(pairs))
            }
            Request::Verify { pairs, state } => self.verify(pairs, state).map(Reply::Verify),
            Request::Setup => Ok(Reply::Volumes(self.setup())),
            Request::ReportCapabilities => Ok(Reply::Capabilities(self.capabilities())),
            Request::ReadPendingMap { pair, side } => self.pending_map(&pair, side).map(Reply::Pending),
            Request::CopyManagementTable(volume) => self.copy_table(volume).map(Reply::Table),
        }
    }

    /// VERIFY, waiting until every selected pair is in the state (`None`: until no copy runs), or the time is over.
    /// The second value says that the time was over first.
    pub async fn wait_until(
        &self,
        pairs: PairSelector,
        state: Option<u8>,
        timeout: Duration,
    ) -> Result<(VerifySummary, bool), Refusal> {
        let mut changes = self.changes();
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            changes.mark_unchanged();
            let summary = self.verify(pairs, state)?;
            if summary.in_state == summary.selected {
                return Ok((summary, false));
            }
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                return Ok((summary, true));
            }
        }
    }

    /// The pairs a selector means, in the order of their mirrors' numbers.
    fn select(&self, selector: PairSelector) -> Result<Vec<PairView>, Refusal> {
        match selector {
            PairSelector::All => Ok(self.pairs()),
            PairSelector::OfPrimary(primary) => {
                self.known(primary)?;
                Ok(self
                    .pairs()
                    .into_iter()
                    .filter(|pair| pair.primary == id(primary))
                    .collect())
            }
            PairSelector::One(primary, mirror) => {
                let (primary, mirror) = self.place(primary, mirror);
                for volume in [primary, mirror]
                    .into_iter()
                    .filter(|volume| !id(*volume).is_foreign())
                {
                    self.known(volume)?;
                }
                let pair = self.pairs().into_iter().find(|pair| is(pair, primary, mirror));
                pair.map(|pair| vec![pair])
                    .ok_or_else(|| self.no_such_pair(primary, mirror))
            }
        }
    }

    /// A member with its mirror named: "the only pair of that primary" where none was.
    fn resolve(&self, pair: &VolumePair) -> Result<(VolumeNumber, VolumeNumber), Refusal> {
        if let Some(mirror) = pair.mirror {
            return Ok((pair.primary, mirror));
        }
        self.known(pair.primary)?;
        let mirrors: Vec<VolumeId> = self
            .pairs()
            .into_iter()
            .filter(|view| view.primary == id(pair.primary))
            .map(|view| view.mirror)
            .collect();
        match mirrors[..] {
            [mirror] => Ok((pair.primary, VolumeNumber(mirror.0))),
            _ => Err(self.not_the_only_pair(pair.primary, &mirrors)),
        }
    }

    /// The pair as the engine names it: of a remote one, a volume is named by its number on its own system.
    fn place(&self, primary: VolumeNumber, mirror: VolumeNumber) -> (VolumeNumber, VolumeNumber) {
        if self.is_local_pair(primary, mirror) {
            return (primary, mirror);
        }
        self.remote_pair(primary, mirror)
            .map_or((primary, mirror), |pair| {
                let (primary, mirror) = pair.volumes();
                (VolumeNumber(primary.0), VolumeNumber(mirror.0))
            })
    }

    fn known(&self, volume: VolumeNumber) -> Result<(), Refusal> {
        if self.volume(volume).is_some() {
            Ok(())
        } else {
            Err(self.no_such_volume(volume))
        }
    }
}

fn id(volume: VolumeNumber) -> VolumeId {
    VolumeId(volume.0)
}

fn is(pair: &PairView, primary: VolumeNumber, mirror: VolumeNumber) -> bool {
    (pair.primary, pair.mirror) == (id(primary), id(mirror))
}
