//! A run: a random phase, then a phase without faults in which everything must end, be equal, and be right.

use crate::{
    content::Content,
    disk::Disk,
    journal_disk::JournalDisk,
    options::{Options, Profile},
    oracle::Oracle,
    rng::Rng,
    task::Task,
    world::{Broken, Checked, Counts, FIRST_NAME, World, ensure},
};
use replication_engine::{Engine, ids::VolumeId, journal::Image};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// A run that found something.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which run.
    pub options: Options,
    /// What it found.
    pub what: String,
    /// The last events before it.
    pub trace: Vec<String>,
}

/// Runs a seed. When something is found the run is repeated with a trace, of which the last lines are kept.
pub fn run(options: Options) -> Result<Counts, Box<Failure>> {
    let mut counts = Counts::default();
    let Err(Broken(what)) = guarded(options, None, &mut counts).0 else {
        return Ok(counts);
    };
    let (again, mut trace) = guarded(options, Some(Vec::new()), &mut counts);
    let what = match again {
        Err(Broken(again)) if again == what => what,
        _ => format!("{what} (but not when run again: the engine is not deterministic)"),
    };
    let keep = trace.len().saturating_sub(TRACE);
    Err(Box::new(Failure {
        options,
        what,
        trace: trace.split_off(keep),
    }))
}

const TRACE: usize = 4000;

fn guarded(options: Options, trace: Option<Vec<String>>, counts: &mut Counts) -> (Checked, Vec<String>) {
    let mut world = World::new(options, trace);
    let result = catch_unwind(AssertUnwindSafe(|| world.live(options.steps)));
    *counts = world.counts;
    let result = result.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        Err(Broken(format!("a panic: {}", said.unwrap_or_default())))
    });
    (result, world.trace.take().unwrap_or_default())
}

impl World {
    fn new(options: Options, trace: Option<Vec<String>>) -> Self {
        let mut rng = Rng::new(options.seed);
        let profile = Profile::new(&mut rng);
        let first =
            |volume: u32| (0..profile.blocks).map(move |block| u64::from(volume) << 20 | block as u64);
        let volumes = 1..=profile.volumes;
        let disks: BTreeMap<VolumeId, Disk> = volumes
            .clone()
            .map(|volume| (VolumeId(volume), Disk::new(first(volume).collect())))
            .collect();
        let contents =
            volumes.map(|volume| (VolumeId(volume), Content::new(&first(volume).collect::<Vec<_>>())));
        let mut engine = Engine::new(profile.config());
        if let Some(mutation) = options.mutation {
            engine = engine.with_mutation(mutation);
        }
        let faults = profile.fault_rate > 0;
        let mut world = Self {
            journal: JournalDisk::new(1, profile.track_size(), &engine.snapshot()),
            image: Image::new(profile.track_size()),
            oracle: Oracle::new(contents.collect()),
            time: 1,
            now: 0,
            engine,
            disks,
            tasks: Vec::new(),
            ops: BTreeMap::new(),
            passing: BTreeMap::new(),
            commands: BTreeMap::new(),
            faults,
            counts: Counts::default(),
            trace,
            next_name: FIRST_NAME,
            last_read: Vec::new(),
            mutation: options.mutation,
            profile,
            rng,
        };
        let spec = world.spec();
        for volume in world.disks.keys() {
            world.engine.define_volume(*volume, spec);
        }
        world.note(format!("{:?}", world.profile));
        world
    }

    fn live(&mut self, steps: u64) -> Checked {
        for _ in 0..steps {
            self.event()?;
        }
        self.quiet()?;
        // Nothing may depend on what only memory knows: once more, from the disks.
        self.crash(true)?;
        self.quiet()
    }

    /// One random event.
    fn event(&mut self) -> Checked {
        let faulty = self.profile.journal_fault_rate;
        if self.journal.failed() {
            // Not for long: only reads go on.
            if self.rng.chance(10) {
                let power = self.rng.chance(self.profile.power_rate);
                return self.crash(power);
            }
        } else if faulty > 0 && self.rng.chance(faulty) {
            return self.fail_journal();
        }
        let rare = self.rng.below(1000);
        let Profile {
            mut crash_rate,
            quiet_rate,
            command_rate,
            power_rate,
            sync_rate,
            depth,
            ..
        } = self.profile;
        let half_done = self.commands.values().any(|issued| issued.changed);
        if half_done || !self.oracle.pending.is_empty() {
            // The best time for it, and the better the more there is to tear apart.
            crash_rate *= if self.oracle.pending.len() > 1 { 40 } else { 6 };
        }
        if rare < crash_rate {
            let power = self.rng.chance(power_rate);
            return self.crash(power);
        }
        if rare < crash_rate + quiet_rate {
            return self.quiet();
        }
        if rare < crash_rate + quiet_rate + command_rate {
            return self.random_command();
        }
        match self.rng.below(100) {
            0..20 if self.ops.len() < depth => self.random_io(),
            0..85 => self.something_ends(),
            roll if roll < 85 + sync_rate => self.sync_journal(),
            99 if self.rng.chance(100) => self.rotate_journal(),
            _ => {
                let step = *self
                    .rng
                    .pick(&[1_000_000, 100_000_000, 1_000_000_000])
                    .expect("not empty");
                self.tick(step)
            }
        }
    }

    fn something_ends(&mut self) -> Checked {
        if self.tasks.is_empty() {
            return self.sync_journal();
        }
        // Near the front, so that nothing waits for ever; or anything.
        let most = if self.rng.chance(500) {
            2
        } else {
            self.tasks.len() as u64
        };
        let index = self.rng.below(most.min(self.tasks.len() as u64)) as usize;
        self.work(index)
    }

    /// Faults end, hosts fall silent: everything must come to an end; then all is compared.
    pub(crate) fn quiet(&mut self) -> Checked {
        let faults = core::mem::replace(&mut self.faults, false);
        self.note("= all quiet".to_owned());
        self.settle_down()?;
        if self.journal.failed() {
            // Memory is ahead of the disk: only what is read from there can be compared.
            self.crash(false)?;
            self.settle_down()?;
        }
        self.counts.quiet += 1;
        self.check_pairs()?;
        self.check_marks()?;
        self.check_replay()?;
        self.read_everything(None)?;
        self.faults = faults;
        Ok(())
    }

    /// Until nothing is in flight and no copy runs.
    pub(crate) fn settle_down(&mut self) -> Checked {
        let mut idle = 0;
        for _ in 0..PATIENCE {
            if self.tasks.is_empty() && !self.journal.unsynced() {
                let copying =
                    !self.journal.failed() && self.oracle.pairs.values().any(|meta| meta.state.is_copying());
                if self.ops.is_empty() && self.commands.is_empty() && !copying {
                    return Ok(());
                }
                idle += 1;
                if idle > IDLE {
                    break;
                }
                self.tick(100_000_000)?;
            } else if self.tasks.is_empty() || self.rng.chance(200) {
                self.sync_journal()?;
            } else {
                self.something_ends()?;
            }
        }
        let ops: Vec<_> = self
            .ops
            .iter()
            .map(|(id, op)| (id.0, op.volume.0, op.io, op.blocks.clone()))
            .collect();
        let pairs: Vec<_> = self
            .oracle
            .pairs
            .iter()
            .map(|(pair, meta)| (meta.primary.0, pair.0.0, meta.state))
            .collect();
        let commands: Vec<_> = self.commands.values().map(|issued| &issued.command).collect();
        let tasks: Vec<_> = self.tasks.iter().map(Task::name).collect();
        ensure(false, || {
            format!(
                "it does not settle: ops {ops:?}, commands {commands:?}, pairs {pairs:?}, effects {tasks:?}"
            )
        })
    }
}

/// Steps after which a system that hangs is told from one that works.
const PATIENCE: u64 = 60_000;
/// Of them, those in which nothing happens but ticks.
const IDLE: u64 = 300;
