//! The pairs of a restore: the remote pair that the volume follows in, and the local one that has the image.

use std::{path::PathBuf, thread, time::Duration};

use admin_api::{PairState, QueryPair};
use scsi_model::control::{
    Flags, OutVerb, PairSelector, RefusalKind, Reply, Request, VolumeNumber, VolumePair,
};

use super::{Interrupt, device};
use crate::{
    args::{FarRestoreArgs, FarVolume, VolumeName},
    failure::Failure,
    output::{Output, progress::Progress, table},
    system::System,
};

/// Between two looks at a pair.
const LOOK: Duration = Duration::from_millis(200);

/// Which volumes.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The system that follows.
    pub(crate) system: String,
    /// The mirror with the image (SVOL).
    pub(crate) from: VolumeNumber,
    /// The volume that follows (SPVOL).
    pub(crate) to: VolumeNumber,
    /// The system that leads.
    pub(crate) peer: String,
    /// Its volume (PVOL).
    pub(crate) primary: VolumeNumber,
}

impl Site {
    /// Finds the pairs; refused unless the image is there.
    pub(crate) fn find(system: &mut System, args: &FarRestoreArgs) -> Result<Self, Failure> {
        let (from, to) = (number(system, &args.from)?, number(system, &args.to)?);
        let pairs = system.query(PairSelector::All)?.pairs;
        let (from_name, to_name) = (system.called(from), system.called(to));
        let remote = pairs
            .iter()
            .find(|pair| pair.role == "mirror" && pair.mirror.number == to.0);
        let Some((remote, peer)) = remote.and_then(|pair| Some((pair, pair.peer.clone()?))) else {
            let leads = pairs
                .iter()
                .any(|pair| pair.role == "primary" && pair.primary.number == to.0);
            let text = if leads {
                format!("volume {to_name} is a primary itself: `restore` brings an image back to it")
            } else {
                format!("volume {to_name} follows no other system: `restore` brings an image back to it")
            };
            return Err(Failure::Failed(text));
        };
        let primary = VolumeNumber(remote.primary.number);
        match &args.primary {
            Some(FarVolume::There(system, number)) if system.as_str() == peer && *number == primary.0 => {}
            None => {}
            Some(_) => {
                return Err(Failure::Failed(format!(
                    "volume {to_name} follows {peer}:{}, not the primary given",
                    primary.0
                )));
            }
        }
        let image = pairs
            .iter()
            .find(|pair| pair.kind == "local" && pair.primary.number == to.0 && pair.mirror.number == from.0);
        match image.map(|pair| (pair.pair_state(), pair)) {
            // A whole-volume restore that was interrupted.
            Some((Some(PairState::Split | PairState::ProtectedRestoring), _)) => {}
            Some((_, pair)) => {
                return Err(Failure::Failed(format!(
                    "volume {from_name} holds no image: the pair {} is {}; an image is made by `backup` at {peer}, or by `split`",
                    table::pair(pair),
                    pair.state
                )));
            }
            None => {
                return Err(Failure::Failed(format!(
                    "volume {from_name} is not a mirror of volume {to_name}"
                )));
            }
        }
        Ok(Self {
            system: system.id()?.to_string(),
            from,
            to,
            peer,
            primary,
        })
    }

    fn remote(&self) -> VolumePair {
        VolumePair {
            primary: self.primary,
            mirror: Some(self.to),
        }
    }

    fn local(&self) -> VolumePair {
        VolumePair {
            primary: self.to,
            mirror: Some(self.from),
        }
    }

    /// The remote pair for people.
    pub(crate) fn leader(&self) -> String {
        format!("{}:{}", self.peer, self.primary.0)
    }

    /// How the remote pair is.
    pub(crate) fn remote_now(&self, system: &mut System) -> Result<QueryPair, Failure> {
        one(system, &self.remote())
    }

    /// The tracks in which image and volume may differ, in bytes.
    pub(crate) fn differs(&self, system: &mut System) -> Result<u64, Failure> {
        let pair = one(system, &self.local())?;
        Ok((pair.mirror_invalid + pair.primary_invalid) * u64::from(pair.track_size))
    }

    /// Would the leader split the pair?
    pub(crate) fn would_split(&self, system: &mut System) -> Result<(), Failure> {
        if self.remote_now(system)?.pair_state() == Some(PairState::Split) {
            return Ok(());
        }
        give(system, OutVerb::Split, Flags::default(), self.remote(), true)
    }

    /// 520, 630: the volume is this site's. `ours`: an earlier run of this restore may have split the pair.
    pub(crate) fn split(
        &self,
        system: &mut System,
        output: Output,
        interrupt: &Interrupt,
        ours: bool,
    ) -> Result<(), Failure> {
        let mut progress = Progress::new(output);
        let mut given = false;
        loop {
            interrupt.check()?;
            let pair = self.remote_now(system)?;
            progress.show([&pair]);
            match pair.pair_state() {
                Some(PairState::Split) if given || ours || pair.primary_invalid == 0 => return Ok(()),
                Some(PairState::Split) => {
                    return Err(Failure::Failed(format!(
                        "the pair {} is split already, and {} tracks of its mirror were written: they would be restored with the files; `establish` gives them up",
                        table::pair(&pair),
                        pair.primary_invalid
                    )));
                }
                Some(PairState::Duplex | PairState::Restored) if !given => {
                    give(system, OutVerb::Split, Flags::default(), self.remote(), false)?;
                    given = true;
                    continue;
                }
                Some(PairState::Suspended) => {
                    return Err(Failure::Failed(format!(
                        "the pair {} is suspended: `establish` it first; `link` shows the link",
                        table::pair(&pair)
                    )));
                }
                _ => {}
            }
            thread::sleep(LOOK);
        }
    }

    /// What was written to the volume is given up: it follows again.
    pub(crate) fn undo(
        &self,
        system: &mut System,
        output: Output,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        let state = self.remote_now(system)?.pair_state();
        if matches!(state, Some(PairState::Split | PairState::Suspended)) {
            let establish = OutVerb::Establish { remote: None };
            give(system, establish, Flags::default(), self.remote(), false)?;
        }
        self.until_equal(system, output, interrupt, false)
    }

    /// 640, 650: the image comes to the volume. The mirror stays split, and is never written.
    pub(crate) fn restore_locally(
        &self,
        system: &mut System,
        output: Output,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        let flags = Flags {
            protected: true,
            ..Flags::default()
        };
        if one(system, &self.local())?.pair_state() == Some(PairState::Split) {
            give(system, OutVerb::Restore, flags, self.local(), false)?;
        }
        let mut progress = Progress::new(output);
        loop {
            interrupt.check()?;
            let pair = one(system, &self.local())?;
            progress.show([&pair]);
            match pair.pair_state() {
                Some(PairState::Split) => return Ok(()),
                Some(PairState::ProtectedRestoring) => thread::sleep(LOOK),
                _ => {
                    return Err(Failure::Failed(format!(
                        "the pair {} became {} while it was restored{}",
                        table::pair(&pair),
                        pair.state,
                        pair.reason
                            .map(|reason| format!(" ({reason})"))
                            .unwrap_or_default()
                    )));
                }
            }
        }
    }

    /// 540, 660: the primary is to become what the volume is. Refused while a host uses the primary.
    pub(crate) fn ask_restore(&self, system: &mut System) -> Result<(), Failure> {
        give(system, OutVerb::Restore, Flags::default(), self.remote(), false)
    }

    /// Until it is, from the union of both sides' bitmaps.
    pub(crate) fn restore_primary(
        &self,
        system: &mut System,
        output: Output,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        self.until_equal(system, output, interrupt, true)
    }

    /// Until the volume follows and is equal. A restore that a lost link stopped is asked for again (S84).
    fn until_equal(
        &self,
        system: &mut System,
        output: Output,
        interrupt: &Interrupt,
        restoring: bool,
    ) -> Result<(), Failure> {
        let mut progress = Progress::new(output);
        let mut told = String::new();
        loop {
            interrupt.check()?;
            let pair = self.remote_now(system)?;
            progress.show([&pair]);
            match pair.pair_state() {
                Some(PairState::Duplex | PairState::Restored) => return Ok(()),
                Some(PairState::Split) => {
                    return Err(Failure::Failed(format!(
                        "somebody split the pair {} before it was equal",
                        table::pair(&pair)
                    )));
                }
                Some(PairState::Suspended) if restoring && pair.link_up == Some(true) => {
                    match give(system, OutVerb::Restore, Flags::default(), self.remote(), false) {
                        // The link is lost again, or one of the systems has not looked at it yet.
                        Err(Failure::Refused(refusal))
                            if matches!(refusal.kind, RefusalKind::NoPath | RefusalKind::PeerRefused) =>
                        {
                            let text = refusal.to_string();
                            if text != told {
                                eprintln!("holdfast: the restore waits: {text}");
                                told = text;
                            }
                        }
                        done => done?,
                    }
                }
                _ => {}
            }
            thread::sleep(LOOK);
        }
    }
}

/// A volume by number or name, or by the device that it is on this host.
fn number(system: &mut System, name: &VolumeName) -> Result<VolumeNumber, Failure> {
    let path = match name {
        VolumeName::Name(name) if name.starts_with("/dev/") => PathBuf::from(name),
        _ => return system.number(name),
    };
    let path = path.canonicalize().unwrap_or(path);
    let volumes = system.volumes()?;
    let found = volumes
        .iter()
        .find(|volume| device::find(volume.naa).is_some_and(|device| device == path));
    found
        .map(|volume| volume.number)
        .ok_or_else(|| Failure::Failed(format!("{} is no volume of this system", path.display())))
}

fn one(system: &mut System, pair: &VolumePair) -> Result<QueryPair, Failure> {
    let mirror = pair.mirror.unwrap_or(pair.primary);
    let pairs = system.query(PairSelector::One(pair.primary, mirror))?.pairs;
    pairs
        .into_iter()
        .next()
        .ok_or_else(|| Failure::Failed("the pair was cancelled".to_owned()))
}

fn give(
    system: &mut System,
    verb: OutVerb,
    flags: Flags,
    pair: VolumePair,
    dry_run: bool,
) -> Result<(), Failure> {
    let request = Request::Out {
        verb,
        flags,
        members: vec![pair],
        dry_run,
    };
    system.ask_for(&request, |reply| match reply {
        Reply::Done => Ok(()),
        other => Err(other),
    })
}
