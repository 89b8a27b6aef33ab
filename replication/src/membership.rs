//! Which volumes there are, and which way their I/O goes.
//!
//! A volume joins the engine with the ESTABLISH that gives it its first pair: its gate is closed, the I/O on the plain way
//! ends, the command is given, and when it has been answered the gate opens; by then the engine has said whether
//! the volume is a member. What arrives meanwhile waits: it must see the pair, or the refusal, but not the moment between.
//!
//! A volume leaves when the engine says so. I/O that the engine still holds ends there; behind the closed gate the
//! volume is told, and goes the plain way from then on.
//!
//! Joining, leaving, adding, removing and resizing exclude each other (`membership`). SPLIT and the like do not come here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use replication_engine::{
    command::{Command, Refused, Summary, Verb, Why},
    ids::VolumeId,
};
use target_core::{plain::PlainVolume, scsi_model::control::VolumeNumber, volume::Volume};

use crate::{
    array::{Array, spec},
    array_error::ArrayError,
    events::ArrayEvent,
    lock,
    paired_volume::PairedVolume,
};

impl Array {
    /// Gives the engine a command and waits for its end: durable, or refused. Runs to its end even when the
    /// caller goes away.
    pub async fn command(&self, command: Command) -> Result<Summary, Refused> {
        let journal = || Refused {
            member: 0,
            why: Why::Journal,
        };
        let Some(array) = self.strong() else {
            return Err(journal());
        };
        let running = self.jobs.start();
        let done = self.runtime.spawn(async move {
            let result = array.join_and_give(command).await;
            drop(running);
            result
        });
        done.await.unwrap_or_else(|_| Err(journal()))
    }

    /// Adds a volume, in no pair.
    pub async fn add_volume(&self, plain: Arc<PlainVolume>) -> Result<Arc<PairedVolume>, ArrayError> {
        let _membership = self.membership.lock().await;
        let number = plain.info().number;
        if self.volume(number).is_some() {
            return Err(ArrayError::VolumeExists { number });
        }
        lock(&self.engine).define_volume(VolumeId(number.0), spec(&plain));
        let volume = Arc::new(PairedVolume::new(plain, Weak::clone(&self.me), false, true));
        let mut volumes = BTreeMap::clone(&self.volumes.load());
        volumes.insert(number, Arc::clone(&volume));
        self.volumes.store(Arc::new(volumes));
        self.events.push(ArrayEvent::VolumeAdded { volume: number });
        Ok(volume)
    }

    /// Removes a volume that is in no pair, after the I/O in flight. Who still has it finds it not ready.
    pub async fn remove_volume(&self, number: VolumeNumber) -> Result<(), ArrayError> {
        let _membership = self.membership.lock().await;
        let volume = self.volume(number).ok_or(ArrayError::NoSuchVolume { number })?;
        let _alone = Arc::clone(volume.gate()).exclusive().await;
        self.refuse_in_pair(&volume)?;
        if !lock(&self.engine).remove_volume(volume.id()) {
            return Err(ArrayError::VolumeBusy { number });
        }
        volume.set_ready(false);
        let mut volumes = BTreeMap::clone(&self.volumes.load());
        volumes.remove(&number);
        self.volumes.store(Arc::new(volumes));
        self.events.push(ArrayEvent::VolumeRemoved { volume: number });
        Ok(())
    }

    /// Changes the capacity of a volume that is in no pair, in bytes.
    pub async fn resize_volume(&self, number: VolumeNumber, bytes: u64) -> Result<(), ArrayError> {
        let _membership = self.membership.lock().await;
        let volume = self.volume(number).ok_or(ArrayError::NoSuchVolume { number })?;
        self.refuse_in_pair(&volume)?;
        Arc::clone(volume.plain()).resize(bytes).await?;
        lock(&self.engine).define_volume(volume.id(), spec(volume.plain()));
        self.events.push(ArrayEvent::VolumeResized {
            volume: number,
            bytes,
        });
        Ok(())
    }

    /// A volume left the engine: as soon as the engine has ended the I/O it holds, it goes the plain way.
    pub(crate) fn let_go(self: &Arc<Self>, volume: VolumeId) {
        let array = Arc::clone(self);
        let running = self.jobs.start();
        self.runtime.spawn(async move {
            let _membership = array.membership.lock().await;
            let Some(volume) = array.volume(VolumeNumber(volume.0)) else {
                return;
            };
            let _alone = Arc::clone(volume.gate()).exclusive().await;
            // It may have joined again meanwhile.
            let member = lock(&array.engine).member(volume.id());
            volume.set_member(member);
            drop(running);
        });
    }

    /// Closes the gates of the volumes that the command would bring into the engine, drains them, gives the command and
    /// opens the gates: by then the engine has said which of them are members.
    async fn join_and_give(self: Arc<Self>, command: Command) -> Result<Summary, Refused> {
        let volumes = joining(&command);
        if volumes.is_empty() {
            return self.give(command).await;
        }
        let _membership = self.membership.lock().await;
        let mut alone = Vec::new();
        for volume in volumes
            .iter()
            .filter_map(|volume| self.volume(VolumeNumber(volume.0)))
        {
            if !volume.in_pair() {
                alone.push(Arc::clone(volume.gate()).exclusive().await);
            }
        }
        let result = self.give(command).await;
        drop(alone);
        result
    }

    fn refuse_in_pair(&self, volume: &PairedVolume) -> Result<(), ArrayError> {
        let id = volume.id();
        match self
            .pairs()
            .iter()
            .find(|pair| pair.primary == id || pair.mirror == id)
        {
            None => Ok(()),
            Some(pair) => Err(ArrayError::InPair {
                number: volume.number(),
                primary: VolumeNumber(pair.primary.0),
                mirror: VolumeNumber(pair.mirror.0),
            }),
        }
    }
}

/// The volumes whose I/O must pass through the engine once the command is accepted.
fn joining(command: &Command) -> Vec<VolumeId> {
    match command {
        Command::Pair {
            verb: Verb::Establish { .. },
            members,
            dry_run: false,
        } => {
            let mut volumes: Vec<_> = members
                .iter()
                .flat_map(|(primary, mirror)| [*primary, *mirror])
                .collect();
            volumes.sort_unstable();
            volumes.dedup();
            volumes
        }
        _ => Vec::new(),
    }
}
