//! The system dies, in the middle of everything, and comes up again from its disks.

use crate::{
    journal_disk::JournalDisk,
    task::Stepped,
    world::{Broken, Checked, World, ensure},
};
use replication_engine::{
    Engine,
    effects::Input,
    ids::{CommandId, PairId, VolumeId},
    journal::{Image, PairMeta},
    state::PairState,
};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// The process is killed, or power fails; then it is started again and everything is looked at.
    pub(crate) fn crash(&mut self, power: bool) -> Checked {
        self.counts.crashes += 1;
        self.note(format!("= {}", if power { "power failure" } else { "kill" }));
        self.drop_tasks();
        if power {
            self.journal.lose_power(&mut self.rng);
            for disk in self.disks.values_mut() {
                disk.lose_power(&mut self.rng);
            }
        } else {
            self.journal.die(&mut self.rng);
        }
        self.start(power)
    }

    /// What effects had not done yet they may still do in part: the requests were with the kernel.
    fn drop_tasks(&mut self) {
        for mut task in core::mem::take(&mut self.tasks) {
            // A flush that was not answered has promised nothing.
            while self.rng.chance(400)
                && matches!(task.step(&mut self.disks, &mut self.rng, false), Stepped::More)
            {}
        }
    }

    fn start(&mut self, power: bool) -> Checked {
        let found = self
            .journal
            .parse()
            .map_err(|why| Broken(format!("the journal cannot be read: {why}")))?;
        let last = found.entries.last().map_or(0, |entry| entry.seq);
        ensure(last >= self.journal.durable(), || {
            "a durable record is lost".to_owned()
        })?;
        let image = Image::replay(self.profile.track_size(), &found.entries)
            .map_err(|why| Broken(format!("the journal cannot be replayed: {why}")))?;
        self.check_groups(last)?;
        self.time += 1;
        self.oracle.crash(last, power, self.time);
        self.ops.clear();
        self.passing.clear();
        self.commands.clear();

        let spec = self.spec();
        let mut effects = Vec::new();
        let volumes: Vec<_> = self.disks.keys().map(|volume| (*volume, spec)).collect();
        let (engine, recovery) = Engine::from_image(self.profile.config(), volumes, image, &mut effects)
            .map_err(|why| Broken(format!("the engine does not start: {why}")))?;
        self.note(format!("= recovered {recovery:?}"));
        self.engine = match self.mutation {
            Some(mutation) => engine.with_mutation(mutation),
            None => engine,
        };
        let records = self.engine.snapshot();
        self.image = Image::new(self.profile.track_size());
        for record in &records {
            self.image
                .apply(record)
                .map_err(|why| Broken(format!("a snapshot that does not fit: {why}")))?;
        }
        self.journal = JournalDisk::new(self.journal.epoch() + 1, self.profile.track_size(), &records);
        self.check_recovered_states()?;
        self.check_marks()?;
        self.feed(Input::Tick)?;
        self.read_everything(Some(power))
    }

    /// Of a command's records all survive or none: its members changed at one point in time.
    fn check_groups(&self, last: u64) -> Checked {
        let mut fates: BTreeMap<CommandId, BTreeSet<bool>> = BTreeMap::new();
        for pending in &self.oracle.pending {
            if let Some(command) = pending.command {
                fates.entry(command).or_default().insert(pending.seq <= last);
            }
        }
        match fates.iter().find(|(_, fates)| fates.len() > 1) {
            None => Ok(()),
            Some((command, _)) => Err(Broken(format!("half of {command:?} survived the crash"))),
        }
    }

    /// Every durable state is in force, but for what a crash does to two volumes that were equal.
    fn check_recovered_states(&mut self) -> Checked {
        let recovered: BTreeMap<PairId, PairMeta> = self
            .image
            .pairs
            .iter()
            .map(|(pair, image)| (*pair, image.meta))
            .collect();
        ensure(recovered.keys().eq(self.oracle.pairs.keys()), || {
            format!(
                "pairs {:?} became {:?}",
                self.oracle.pairs.keys(),
                recovered.keys()
            )
        })?;
        for (pair, meta) in &recovered {
            let before = self.oracle.pairs[pair];
            let known = matches!(
                (before.state, meta.state),
                (PairState::Duplex | PairState::Restored, PairState::Copy)
                    | (PairState::Split, PairState::Splitting)
            );
            let excused = known && meta.reason == 4;
            ensure(
                before.primary == meta.primary && (before.state == meta.state || excused),
                || format!("the pair of mirror {} was {before:?} and is {meta:?}", pair.0.0),
            )?;
        }
        let configs: Vec<VolumeId> = self.image.volumes.keys().copied().collect();
        for volume in configs {
            let config = self.image.volumes[&volume].config;
            if let Some(before) = self.oracle.configs.get(&volume) {
                ensure(*before == config, || format!("{before:?} became {config:?}"))?;
            }
        }
        self.oracle.pairs = recovered;
        Ok(())
    }
}
