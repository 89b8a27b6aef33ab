//! `restore-files` and `restore-volume`: Fig. 5 and 6, at the secondary's host. docs/restore.md tells the story.
//!
//! | part | module |
//! |---|---|
//! | what is to be done | [`plan`] (pure) |
//! | the pairs | [`site`] |
//! | the host's devices and mounts | [`device`], [`mount`] |
//! | what a file system holds, and copying it | [`tree`], [`copy`] |
//! | going on after an interruption | [`state`], `interrupt` |
//! | what is printed | [`report`] |

mod copy;
mod device;
mod mount;
mod plan;
mod report;
mod site;
mod state;
mod tree;

use std::{
    io,
    path::{Path, PathBuf},
};

use admin_api::PairState;
use scsi_model::control::VolumeNumber;

use self::{
    copy::Roots,
    mount::{MountError, Mounted, ReadOnly},
    plan::{Entry, Plan, Target},
    report::Report,
    site::Site,
    state::{Order, State, StateFile, Step},
};
use super::{hooks, interrupt::Interrupt};
use crate::{
    args::{FarRestoreArgs, RestoreFilesArgs},
    failure::Failure,
    output::{Output, bytes::Bytes},
    system::System,
};

/// One restore.
struct Restore<'a> {
    system: &'a mut System,
    output: Output,
    args: &'a FarRestoreArgs,
    site: Site,
    interrupt: Interrupt,
    file: StateFile,
    order: Order,
    /// How far an earlier run got.
    earlier: Option<Step>,
    report: Report,
}

pub(super) fn files(system: &mut System, output: Output, args: &RestoreFilesArgs) -> Result<(), Failure> {
    let names: Result<Vec<PathBuf>, _> = args.files.iter().map(|file| plan::name(file)).collect();
    let names = names.map_err(refused)?;
    let Some(mut restore) = Restore::begin(system, output, &args.restore, Some(names.clone()))? else {
        return Ok(());
    };
    match restore.earlier {
        Some(Step::Volume) => {
            restore.split()?;
            restore.whole_volume()?;
        }
        Some(Step::Primary) => {}
        _ => {
            let device = restore.device(restore.site.from, args.from_device.as_deref(), "--from-device")?;
            let image = restore.mount_image(&device, args.no_replay)?;
            let (entries, other) = look(&image, &names)?;
            if args.restore.how.dry_run {
                return restore.dry_run(&entries, other.as_deref());
            }
            if restore.earlier.is_none() {
                restore.site.would_split(restore.system)?;
            }
            restore.stop_application()?;
            restore.choose(image, (&entries, other.as_deref(), &names))?;
        }
    }
    restore.finish()
}

pub(super) fn volume(system: &mut System, output: Output, args: &FarRestoreArgs) -> Result<(), Failure> {
    let Some(mut restore) = Restore::begin(system, output, args, None)? else {
        return Ok(());
    };
    if args.how.dry_run {
        restore.site.would_split(restore.system)?;
        restore.report.bytes = restore.site.differs(restore.system)?;
        return restore.report.print(output);
    }
    if restore.earlier != Some(Step::Primary) {
        if restore.earlier.is_none() {
            restore.site.would_split(restore.system)?;
        }
        restore.stop_application()?;
        restore.split()?;
        // A host that sees the volume can say whether its file system was unmounted at the primary.
        if let Some(device) = restore.seen(restore.site.to, args.to_device.as_deref()) {
            let at_rest = restore.is_at_rest(&device);
            restore.or_undo(at_rest)?;
        }
        restore.whole_volume()?;
    }
    restore.finish()
}

/// What the image has of the names, and a file beside them.
fn look(image: &Image<'_>, names: &[PathBuf]) -> Result<(Vec<Entry>, Option<PathBuf>), Failure> {
    let mut found = Vec::new();
    for name in names {
        found.push((
            name.clone(),
            tree::find(image.mounted.root(), name).map_err(unreadable)?,
        ));
    }
    let entries = plan::entries(found).map_err(refused)?;
    let other = tree::other(image.mounted.root(), names).map_err(unreadable)?;
    Ok((entries, other))
}

/// The image, mounted; its device cannot be written meanwhile.
struct Image<'a> {
    mounted: Mounted,
    _device: ReadOnly<'a>,
}

impl<'a> Restore<'a> {
    /// Everything that can be known at once. `None`: there is nothing left to do.
    fn begin(
        system: &'a mut System,
        output: Output,
        args: &'a FarRestoreArgs,
        files: Option<Vec<PathBuf>>,
    ) -> Result<Option<Self>, Failure> {
        let site = Site::find(system, args)?;
        let order = Order {
            system: site.system.clone(),
            from: site.from.0,
            to: site.to.0,
            files,
        };
        let file = StateFile::new(args.state.as_deref(), &site.system, site.to.0);
        let earlier = file.load()?;
        let interrupt = Interrupt::listen()?;
        if args.abandon {
            if earlier.is_none() {
                let text = "no restore of this volume is interrupted: there is nothing to abandon";
                return Err(Failure::Failed(text.to_owned()));
            }
            if earlier.is_some_and(|state| state.step == Step::Primary) {
                let text = "the primary is being restored already: half of it is not what it was; run the command that was interrupted";
                return Err(Failure::Failed(text.to_owned()));
            }
            site.undo(system, output, &interrupt)?;
            file.remove()?;
            Report::new(&site, "abandoned", false).print(output)?;
            return Ok(None);
        }
        if let Some(State { order: known, .. }) = &earlier
            && *known != order
        {
            return Err(Failure::Failed(format!(
                "another restore of this volume was interrupted ({known}): the same command goes on, --abandon gives it up"
            )));
        }
        let what = if order.files.is_some() { "files" } else { "volume" };
        let mut report = Report::new(&site, what, args.how.dry_run);
        report.resumed = earlier.is_some();
        let state = site.remote_now(system)?.pair_state();
        // The pair was established meanwhile: what was copied is gone.
        let over = matches!(state, Some(PairState::Duplex | PairState::Copy));
        let earlier = earlier
            .map(|state| state.step)
            .filter(|step| !over || *step == Step::Primary);
        Ok(Some(Self {
            system,
            output,
            args,
            site,
            interrupt,
            file,
            order,
            earlier,
            report,
        }))
    }

    fn store(&self, step: Step) -> Result<(), Failure> {
        self.file.store(&State {
            order: self.order.clone(),
            step,
        })
    }

    /// 510, 620.
    fn stop_application(&self) -> Result<(), Failure> {
        hooks::run("--before", self.args.before.as_deref())
    }

    /// 520, 630. Written down first: a pair that an interrupted run has split is ours.
    fn split(&mut self) -> Result<(), Failure> {
        let ours = self.earlier.is_some();
        if !ours {
            let first = if self.order.files.is_some() {
                Step::Files(0)
            } else {
                Step::Volume
            };
            self.store(first)?;
        }
        let split = self.site.split(self.system, self.output, &self.interrupt, ours);
        if split.is_err() && !ours {
            self.file.remove()?;
            hooks::run("--after", self.args.after.as_deref())?;
        }
        split
    }

    /// Undoes a split of this run when what came after it is refused. Of two failures the first counts.
    fn or_undo<T>(&mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        let Err(failure) = done else { return done };
        if self.earlier.is_none() {
            let undone = self.site.undo(self.system, self.output, &self.interrupt);
            let undone = undone.and_then(|()| self.file.remove());
            let undone = undone.and_then(|()| hooks::run("--after", self.args.after.as_deref()));
            if let Err(second) = undone {
                eprintln!("holdfast: the split could not be undone: {second}; --abandon tries again");
            }
        }
        Err(failure)
    }

    /// Was the primary's file system unmounted, as far as its log says (510, 620)?
    fn is_at_rest(&self, device: &Path) -> Result<(), Failure> {
        let shown = device.display();
        let failed = |error: io::Error| Failure::Failed(format!("{shown}: {error}"));
        is_free(device)?;
        let Ok(kind) = device::file_system(device) else {
            return Ok(());
        };
        let read_only = ReadOnly::new(device).map_err(failed)?;
        match Mounted::new(device, kind, true) {
            Ok(mounted) => mounted.unmount(device).map_err(failed),
            Err(MountError::Dirty) if read_only.always() => {
                Err(Failure::Failed(format!("{shown} is read-only on this host")))
            }
            Err(MountError::Dirty) if !self.args.force => Err(Failure::Failed(format!(
                "the file system of {} was not unmounted: unmount it there; --force if its host has crashed",
                self.site.leader()
            ))),
            // What does not mount is looked at when it is needed.
            Err(_) => Ok(()),
        }
    }

    /// The device of a volume on this host.
    fn device(
        &mut self,
        volume: VolumeNumber,
        given: Option<&Path>,
        option: &str,
    ) -> Result<PathBuf, Failure> {
        let called = self.system.called(volume);
        let device = self.seen(volume, given);
        device.ok_or_else(|| {
            Failure::Failed(format!(
                "this host has no device that is volume {called}: log in to a target that has it, or give {option}"
            ))
        })
    }

    fn seen(&mut self, volume: VolumeNumber, given: Option<&Path>) -> Option<PathBuf> {
        let device = given.map(Path::to_owned).or_else(|| {
            let volumes = self.system.volumes().ok()?;
            let known = volumes.iter().find(|known| known.number == volume)?;
            device::find(known.naa)
        })?;
        device::look_again(&device);
        Some(device)
    }

    /// Mounts the image, which is not written unless its log has to be replayed.
    fn mount_image<'d>(&mut self, device: &'d Path, no_replay: bool) -> Result<Image<'d>, Failure> {
        let shown = device.display();
        let failed = |error: io::Error| Failure::Failed(format!("{shown}: {error}"));
        is_free(device)?;
        let kind = device::file_system(device)?;
        let read_only = ReadOnly::new(device).map_err(failed)?;
        match Mounted::new(device, kind, true) {
            Ok(mounted) => {
                return Ok(Image {
                    mounted,
                    _device: read_only,
                });
            }
            Err(MountError::Dirty) if read_only.always() || no_replay => {
                return Err(Failure::Failed(format!(
                    "the image was taken while its file system was in use, and its log has to be replayed, which writes to {shown}"
                )));
            }
            Err(MountError::Dirty) => {}
            Err(error) => return Err(Failure::Failed(format!("{shown} does not mount: {error}"))),
        }
        drop(read_only);
        let mounted = Mounted::new(device, kind, true);
        let mounted = mounted.map_err(|error| Failure::Failed(format!("{shown} does not mount: {error}")))?;
        self.report.replayed = true;
        Ok(Image {
            mounted,
            _device: ReadOnly::new(device).map_err(failed)?,
        })
    }

    /// 520, 530 or 630 to 650: as the planner says.
    fn choose(
        &mut self,
        image: Image<'_>,
        (entries, other, names): (&[Entry], Option<&Path>, &[PathBuf]),
    ) -> Result<(), Failure> {
        self.split()?;
        let target = self.open_target(names);
        let (device, mounted, target) = self.or_undo(target)?;
        let unmounted = |mounted: Mounted| {
            let done = mounted.unmount(&device);
            done.map_err(|error| Failure::Failed(error.to_string()))
        };
        match plan::plan(entries, other, &target) {
            Err(refusal) => {
                let done = mounted.map_or(Ok(()), unmounted);
                self.or_undo(done.and(Err(refused(refusal))))
            }
            Ok(Plan::Volume(why)) => {
                let done = mounted.map_or(Ok(()), unmounted);
                drop(image);
                self.or_undo(done)?;
                self.report.whole(why);
                self.store(Step::Volume)?;
                self.whole_volume()
            }
            Ok(Plan::Files { steps, notes }) => {
                let Some(mounted) = mounted else {
                    return Err(Failure::Failed("the volume to restore is not mounted".to_owned()));
                };
                self.report.notes = notes;
                let roots = Roots {
                    from: image.mounted.root(),
                    to: mounted.root(),
                };
                self.copy(roots, &steps)?;
                unmounted(mounted)
            }
        }
    }

    /// The volume to restore, mounted if it can be, with what else it holds.
    fn open_target(&mut self, names: &[PathBuf]) -> Result<(PathBuf, Option<Mounted>, Target), Failure> {
        let device = self.device(self.site.to, self.args.to_device.as_deref(), "--to-device")?;
        self.is_at_rest(&device)?;
        let mounted = device::file_system(&device).and_then(|kind| {
            Mounted::new(&device, kind, false).map_err(|error| Failure::Failed(error.to_string()))
        });
        match mounted {
            Err(failure) => Ok((device, None, Target::Unmountable(failure.to_string()))),
            Ok(mounted) => {
                let other = tree::other(mounted.root(), names).map_err(unreadable)?;
                let target = match other {
                    None => Target::NothingElse,
                    Some(_) => Target::Holds,
                };
                Ok((device, Some(mounted), target))
            }
        }
    }

    /// 530: exactly the files. What an earlier run has done is passed over.
    fn copy(&mut self, roots: Roots<'_>, steps: &[plan::Step]) -> Result<(), Failure> {
        let done = match self.earlier {
            Some(Step::Files(done)) => done,
            _ => 0,
        };
        let left = steps.iter().skip(done).map(|step| match step {
            plan::Step::File(_, bytes) => *bytes,
            _ => 0,
        });
        let mut progress = Bytes::new(self.output, left.sum());
        for (index, step) in steps.iter().enumerate() {
            self.report.step(step);
            if index < done {
                continue;
            }
            self.interrupt.check()?;
            let interrupt = self.interrupt.clone();
            let mut copied = |bytes| {
                progress.add(bytes);
                interrupt.check()
            };
            let (path, result) = match step {
                plan::Step::Directory(path) => (path, roots.directory(path).map_err(Failure::Output)),
                plan::Step::File(path, _) => (path, roots.file(path, &mut copied)),
                plan::Step::Symlink(path) => (path, roots.symlink(path).map_err(Failure::Output)),
                plan::Step::Name { name, file } => (name, roots.name(name, file).map_err(Failure::Output)),
                plan::Step::Finish(path) => (path, roots.finish(path).map_err(Failure::Output)),
            };
            result.map_err(|failure| match failure {
                Failure::Output(error) => Failure::Failed(format!(
                    "{}: {error}; what is restored so far is kept: the same command goes on, --abandon gives it up",
                    path.display()
                )),
                other => other,
            })?;
            self.store(Step::Files(index + 1))?;
        }
        Ok(())
    }

    fn whole_volume(&mut self) -> Result<(), Failure> {
        self.report.bytes = self.site.differs(self.system)?;
        self.site
            .restore_locally(self.system, self.output, &self.interrupt)
    }

    /// 540 to 560, 660 to 680.
    fn finish(self) -> Result<(), Failure> {
        self.interrupt.check()?;
        if self.earlier != Some(Step::Primary) {
            let before = self.site.remote_now(self.system)?.pair_state();
            if before == Some(PairState::Split) {
                self.site.ask_restore(self.system)?;
            }
            self.store(Step::Primary)?;
        }
        self.site
            .restore_primary(self.system, self.output, &self.interrupt)?;
        self.file.remove()?;
        hooks::run("--after", self.args.after.as_deref())?;
        self.report.print(self.output)
    }

    /// Nothing is split, and nothing is known of the volume to restore.
    fn dry_run(mut self, entries: &[Entry], other: Option<&Path>) -> Result<(), Failure> {
        self.site.would_split(self.system)?;
        if other.is_none() {
            self.report.notes.push(
                "the files named are all of the image: the whole volume is copied if the volume to restore holds no other"
                    .to_owned(),
            );
        }
        if let Plan::Files { steps, notes } = plan::plan(entries, other, &Target::Holds).map_err(refused)? {
            self.report.notes.extend(notes);
            for step in &steps {
                self.report.step(step);
            }
        }
        self.report.print(self.output)
    }
}

/// Nothing on this host has the device mounted, or open for itself.
fn is_free(device: &Path) -> Result<(), Failure> {
    let shown = device.display();
    match mount::is_in_use(device) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::Failed(format!(
            "{shown} is in use on this host: unmount it first"
        ))),
        Err(error) => Err(Failure::Failed(format!("{shown}: {error}"))),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a map_err")]
fn refused(refusal: plan::Refusal) -> Failure {
    Failure::Failed(refusal.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "a map_err")]
fn unreadable(error: io::Error) -> Failure {
    Failure::Failed(format!("the file system cannot be read: {error}"))
}
