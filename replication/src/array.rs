//! The array: all volumes of this system, the engine that keeps their pairs, and the journal under it.
//!
//! [`Array::open`] reads the journal, lets the engine recover, writes a fresh journal and only then hands out volumes, so
//! no host gets in before what a crash may have left is marked. From then on everything is an input of the engine (see
//! [`crate::perform`]): host I/O from [`PairedVolume`], commands from [`crate::control`], ends of effects, and time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use replication_engine::{
    Engine, EngineConfig, Limits,
    command::{Command, PairView, Refused, Side, Summary, VolumeSpec, Why},
    effects::{Found, Input},
    ids::{ByteRange, CheckId, CommandId, PairId, VolumeId},
    state::PairState,
    track::{REGION_TRACKS, TrackRange},
};
use target_core::{
    plain::PlainVolume,
    scsi_model::control::{SystemId, VolumeNumber},
    volume::{IoError, Volume},
};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
};

use crate::{
    array_error::ArrayError,
    clock::Clock,
    control::HostUse,
    events::{ArrayEvent, EventLog},
    jobs::Jobs,
    journal_file::JournalDirectory,
    journal_writer::{DEFAULT_LIMIT, JournalWriter, Notice},
    lock,
    machine::{Machine, Mutation, ThisMachine},
    ops::OpTable,
    paired_volume::PairedVolume,
    recovery::{self, Recovered},
    remote::Remote,
    tally::{Changes, Tally},
};

/// See the module's page.
pub struct Array {
    pub(crate) me: Weak<Self>,
    pub(crate) machine: Arc<dyn Machine>,
    system: SystemId,
    config: EngineConfig,
    pub(crate) engine: Mutex<Engine>,
    pub(crate) journal: JournalWriter,
    pub(crate) volumes: ArcSwap<BTreeMap<VolumeNumber, Arc<PairedVolume>>>,
    pub(crate) ops: OpTable,
    pub(crate) commands: Mutex<BTreeMap<CommandId, oneshot::Sender<Result<Summary, Refused>>>>,
    next_command: AtomicU64,
    pub(crate) checks: Mutex<BTreeMap<CheckId, oneshot::Sender<Found>>>,
    /// Mirrors of pairs whose copy compares digests first; until it has ended, or this array has.
    pub(crate) checksummed: Mutex<BTreeSet<VolumeId>>,
    /// Held by whoever changes which way the I/O of a volume goes, or which volumes there are.
    pub(crate) membership: tokio::sync::Mutex<()>,
    pub(crate) events: EventLog,
    changes: Arc<Tally>,
    host_use: OnceLock<Arc<dyn HostUse>>,
    pub(crate) remote: Remote,
    pub(crate) clock: Clock,
    pub(crate) runtime: Handle,
    pub(crate) jobs: Jobs,
    /// The engine wants ticks soon; rung when that begins.
    busy: AtomicBool,
    became_busy: Arc<Notify>,
    stopped: AtomicBool,
}

/// What an array is tuned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Of the engine.
    pub limits: Limits,
    /// Bytes above which the journal's file is replaced by one that begins with a snapshot; one that is not yet four times as
    /// large as its snapshot is not.
    pub journal_limit: u64,
    /// Bytes of an async pair on their way from which on its writes wait for room, or go to the queue on disk; twice as many are the most. From the
    /// fifth pair with a system on all share four times as many.
    pub on_the_way: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            journal_limit: DEFAULT_LIMIT,
            on_the_way: 32 << 20,
        }
    }
}

/// What an array is opened with, on a machine of the caller's ([`Array::open_on`]).
#[derive(Debug)]
pub struct Opening<'a> {
    /// Where its journal is; made when absent.
    pub state_directory: &'a Path,
    /// The system's id.
    pub system: SystemId,
    /// Bytes a track.
    pub track_size: u32,
    /// As the caller tunes it.
    pub tuning: Tuning,
    /// All volumes, with the content they had.
    pub volumes: Vec<Arc<PlainVolume>>,
    /// Those that come without it.
    pub fresh: &'a BTreeSet<VolumeNumber>,
}

/// Ticks while the engine is busy.
const BUSY_TICK: Duration = Duration::from_millis(100);
/// Between two looks at a pair that a command is about to change.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Ticks otherwise.
const IDLE_TICK: Duration = Duration::from_secs(1);

impl Array {
    /// Opens the array on the journal in `state_directory` (made when absent) with these volumes. `track_size` is in
    /// bytes. Must be called inside a tokio runtime, on which the array runs. All volumes have the content they had.
    pub fn open(
        state_directory: &Path,
        system: SystemId,
        track_size: u32,
        volumes: Vec<Arc<PlainVolume>>,
    ) -> Result<Arc<Self>, ArrayError> {
        let (tuning, fresh) = (Tuning::default(), BTreeSet::new());
        Self::open_with(state_directory, system, track_size, tuning, volumes, &fresh)
    }

    /// [`Array::open`], tuned by the caller. The volumes in `fresh` come without the content they had: their pairs are
    /// dissolved before any copy begins, which is said in an event.
    pub fn open_with(
        state_directory: &Path,
        system: SystemId,
        track_size: u32,
        tuning: Tuning,
        volumes: Vec<Arc<PlainVolume>>,
        fresh: &BTreeSet<VolumeNumber>,
    ) -> Result<Arc<Self>, ArrayError> {
        let machine: Arc<dyn Machine> = Arc::new(ThisMachine);
        let opening = Opening {
            state_directory,
            system,
            track_size,
            tuning,
            volumes,
            fresh,
        };
        Self::open_on(&machine, opening)
    }

    /// [`Array::open_with`] on a machine of the caller's.
    pub fn open_on(machine: &Arc<dyn Machine>, opening: Opening<'_>) -> Result<Arc<Self>, ArrayError> {
        let Opening {
            state_directory,
            system,
            track_size,
            tuning,
            volumes,
            fresh,
        } = opening;
        let runtime = Handle::try_current().map_err(|_| ArrayError::NoRuntime)?;
        let Tuning {
            limits,
            journal_limit,
            on_the_way,
        } = tuning;
        let config = EngineConfig { track_size, limits };
        let (directory, found) = JournalDirectory::open(&state_directory.join("journal"))?;
        let remote = Remote::load(state_directory, on_the_way)?;
        let Recovered {
            engine,
            header,
            snapshot,
            events,
        } = recovery::recover(&system, config, found, &volumes, &remote, fresh)?;
        remote.agree(&engine)?;

        let (notices, received) = mpsc::unbounded_channel();
        // The receiver ends with the array, and then nobody needs to hear.
        let notify = move |notice| drop(notices.send(notice));
        let journal = JournalWriter::start(machine, directory, header, &snapshot, journal_limit, notify)
            .map_err(ArrayError::StartJournal)?;

        let array = Arc::new_cyclic(|me: &Weak<Self>| {
            let paired = |plain: Arc<PlainVolume>| {
                let id = VolumeId(plain.info().number.0);
                let (member, ready) = (engine.member(id), engine.ready(id));
                let volume = Arc::new(PairedVolume::new(plain, Weak::clone(me), member, ready));
                (volume.number(), volume)
            };
            let volumes = volumes.into_iter().map(paired).collect::<BTreeMap<_, _>>();
            Self {
                me: Weak::clone(me),
                machine: Arc::clone(machine),
                system,
                config,
                engine: Mutex::new(engine),
                journal,
                volumes: ArcSwap::from_pointee(volumes),
                ops: OpTable::new(),
                commands: Mutex::default(),
                next_command: AtomicU64::new(0),
                checks: Mutex::default(),
                checksummed: Mutex::default(),
                membership: tokio::sync::Mutex::default(),
                events: EventLog::on(Arc::clone(machine)),
                changes: Arc::default(),
                host_use: OnceLock::new(),
                remote,
                clock: Clock::new(),
                runtime,
                jobs: Jobs::default(),
                busy: AtomicBool::new(false),
                became_busy: Arc::default(),
                stopped: AtomicBool::new(false),
            }
        });
        for event in events {
            array.events.push(event);
        }
        array.runtime.spawn(hear(Weak::clone(&array.me), received));
        array.runtime.spawn(tick(Weak::clone(&array.me)));
        array.tell_modes();
        // No link is there yet: what was kept equal with another system is apart from now on, with marks.
        let lost = array
            .remote
            .specs()
            .into_iter()
            .map(|(volume, _)| Input::Link { volume, up: false });
        array.feed(lost.chain([Input::Tick]));
        Ok(array)
    }

    /// The pairs of these mirrors, and of no others, wait for a command after a fault instead of resuming by themselves
    /// (decision 10 of docs/pairs.md).
    pub fn set_resumed_by_command(&self, mirrors: impl IntoIterator<Item = VolumeNumber>) {
        let mirrors = mirrors.into_iter().map(|mirror| VolumeId(mirror.0)).collect();
        lock(&self.engine).set_resumed_by_command(mirrors);
    }

    /// The system's id.
    pub fn system(&self) -> &SystemId {
        &self.system
    }

    /// Bytes a track.
    pub fn track_size(&self) -> u32 {
        self.config.track_size
    }

    /// Bytes a region.
    pub(crate) fn region_bytes(&self) -> u64 {
        u64::from(self.track_size()) * REGION_TRACKS
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Most pairs of one volume.
    pub fn most_pairs(&self) -> u32 {
        self.config.limits.pairs_per_volume
    }

    /// A volume.
    pub fn volume(&self, number: VolumeNumber) -> Option<Arc<PairedVolume>> {
        self.volumes.load().get(&number).cloned()
    }

    /// All volumes, by number.
    pub fn volumes(&self) -> Vec<Arc<PairedVolume>> {
        self.volumes.load().values().cloned().collect()
    }

    /// What happened lately.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// All pairs, by the number of the mirror.
    pub fn pairs(&self) -> Vec<PairView> {
        lock(&self.engine).pairs()
    }

    /// The tracks of a pair that differ, as ascending byte ranges; none for an unknown mirror.
    pub fn pending(&self, mirror: VolumeId, side: Side) -> Vec<ByteRange> {
        lock(&self.engine).pending(PairId(mirror), side)
    }

    /// The pace of all copies together from now on, in bytes of data a second; 0: as fast as they go.
    pub fn set_copy_rate(&self, bytes_per_second: u64) {
        lock(&self.engine).set_pace(bytes_per_second);
    }

    /// How long hosts' I/O may take while copies run, in percent of what it takes without, from now on; 0: copies do not care.
    pub fn set_latency_factor(&self, percent: u32) {
        lock(&self.engine).set_latency_factor(percent);
    }

    /// Bytes a second that the hosts' latency leaves to the copies now; `None`: as many as they like.
    pub fn copy_allowance(&self) -> Option<u64> {
        lock(&self.engine).allowance()
    }

    /// Sees whenever a pair changed state or a command ended.
    pub fn changes(&self) -> Changes {
        Changes::of(&self.changes)
    }

    /// Sets who knows of reservations. Once; later calls change nothing.
    pub fn set_host_use(&self, host_use: Arc<dyn HostUse>) {
        let _ = self.host_use.set(host_use);
    }

    /// An orderly end, to be called when no host is left: lets regions cool, so that nothing needs to be
    /// copied at the next start, makes the volumes stable and closes the journal. A copy under way is continued at
    /// the next start.
    pub async fn shutdown(&self) {
        const ROUNDS: usize = 40;
        for _ in 0..ROUNDS {
            let Some(array) = self.strong().filter(|array| !array.journal.failed()) else {
                break;
            };
            self.clock.skip(2 * self.config.limits.cool_after);
            array.feed([Input::Tick]);
            let calm = {
                let engine = lock(&self.engine);
                engine.idle() && engine.hot_regions() == 0
            };
            if calm {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.stop().await;
        for volume in self.volumes() {
            if let Err(error) = volume.plain().disk().flush().await {
                self.events.push_failure(volume.number(), error.to_string());
            }
        }
        self.journal.close();
    }

    /// The end without any order, as if the process were killed: nothing more is journaled, answered or begun.
    /// Returns when no I/O is in flight, so that the volumes can be opened again. For tests of recovery.
    pub async fn abandon(&self) {
        self.stop().await;
    }

    async fn stop(&self) {
        {
            // Under the mutex, so that no step is half way.
            let _engine = lock(&self.engine);
            self.stopped.store(true, Ordering::Release);
        }
        lock(&self.commands).clear();
        lock(&self.checks).clear();
        self.remote.close_queues();
        for op in self.ops.drain() {
            op.finish(Err(IoError::Internal("the array is shutting down".into())));
        }
        self.jobs.none().await;
    }

    /// Is this the bug that is planted?
    pub(crate) fn planted(&self, mutation: Mutation) -> bool {
        self.machine.mutation() == Some(mutation)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn strong(&self) -> Option<Arc<Self>> {
        self.me.upgrade().filter(|array| !array.is_stopped())
    }

    pub(crate) fn host_use(&self, volume: VolumeNumber) -> Option<String> {
        self.host_use.get().and_then(|host_use| host_use.in_use(volume))
    }

    /// The ranges of a volume whose content is read from another volume now, ascending: tracks that a running restore of
    /// the volume has not brought yet, or that an instant split still owes it.
    pub(crate) fn elsewhere(&self, volume: VolumeId) -> Vec<ByteRange> {
        let engine = lock(&self.engine);
        let lives_elsewhere = |pair: &PairView| match pair.state {
            PairState::Restoring | PairState::ProtectedRestoring => pair.primary == volume,
            PairState::Splitting => pair.mirror == volume,
            _ => false,
        };
        let pairs = engine.table(volume).into_iter().filter(lives_elsewhere);
        let mut ranges: Vec<_> = pairs
            .flat_map(|pair| engine.pending(PairId(pair.mirror), Side::Remaining))
            .collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }

    /// Tells the pacer how long hosts waited.
    fn hear_hosts(&self) {
        let mut engine = lock(&self.engine);
        for volume in self.volumes.load().values() {
            let (ios, nanos) = volume.statistics().take_waits();
            engine.hear_hosts(ios, nanos);
        }
    }

    pub(crate) fn note_busy(&self, busy: bool) {
        if busy && !self.busy.swap(true, Ordering::AcqRel) {
            self.became_busy.notify_one();
        } else if !busy && self.busy.load(Ordering::Relaxed) {
            self.busy.store(false, Ordering::Release);
        }
    }

    pub(crate) fn note_change(&self) {
        self.changes.add_one();
    }

    /// Gives the engine a command and waits for its answer.
    pub(crate) async fn give(self: &Arc<Self>, command: Command) -> Result<Summary, Refused> {
        let id = CommandId(self.next_command.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        lock(&self.commands).insert(id, answer);
        self.feed([Input::Command {
            id,
            command,
            now_ms: self.machine.unix_ms(),
        }]);
        if self.is_stopped() {
            lock(&self.commands).remove(&id);
        }
        // Without an answer the array was stopped.
        answered.await.unwrap_or(Err(Refused {
            member: 0,
            why: Why::Journal,
        }))
    }

    /// Has the engine look whether both volumes of a pair hold the same in these tracks, with nothing under way there.
    pub(crate) async fn check(self: &Arc<Self>, pair: PairId, tracks: TrackRange) -> Found {
        if let Some(far) = self.remote.far(pair.0) {
            // Hosts that write there wait for the look, which waits for what is on its way.
            far.all_arrived().await;
        }
        loop {
            let id = CheckId(self.next_command.fetch_add(1, Ordering::Relaxed));
            let (answer, answered) = oneshot::channel();
            lock(&self.checks).insert(id, answer);
            self.feed([Input::Check { id, pair, tracks }]);
            if self.is_stopped() {
                lock(&self.checks).remove(&id);
            }
            match answered.await {
                Ok(Found::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
                Ok(found) => return found,
                Err(_) => return Found::Unreadable,
            }
        }
    }

    /// The journal has outgrown its file.
    fn rotate(&self) {
        let engine = lock(&self.engine);
        if !self.is_stopped() {
            // Under the engine's mutex: the snapshot says exactly what the records queued so far say.
            self.journal.replace(&engine.snapshot());
        }
    }
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Array({}, {} volumes)", self.system, self.volumes.load().len())
    }
}

/// What the engine has to know of a volume.
pub(crate) fn spec(plain: &PlainVolume) -> VolumeSpec {
    let info = plain.info();
    VolumeSpec {
        bytes: info.bytes(),
        block_size: info.block_size,
    }
}

/// Hands the journal's notices to the engine, in their order.
async fn hear(array: Weak<Array>, mut notices: mpsc::UnboundedReceiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        let Some(array) = array.upgrade() else { return };
        let (tokens, outcome) = match notice {
            Notice::Durable(tokens) => (tokens, crate::perform::DURABLE),
            Notice::Failed(tokens) => (tokens, crate::perform::NOT_DURABLE),
            Notice::Full => {
                array.rotate();
                continue;
            }
            Notice::Broken(reason) => {
                array.events.push(ArrayEvent::JournalFailed { reason });
                continue;
            }
        };
        array.feed(tokens.into_iter().map(|token| Input::Done { token, outcome }));
    }
}

async fn tick(array: Weak<Array>) {
    loop {
        // The array is not kept alive while this waits: it is only looked in on.
        let look = |array: Arc<Array>| (array.busy.load(Ordering::Acquire), Arc::clone(&array.became_busy));
        let Some((busy, became_busy)) = array.upgrade().map(look) else {
            return;
        };
        if busy {
            tokio::time::sleep(BUSY_TICK).await;
        } else {
            // Either way it is time to look again.
            let _ = tokio::time::timeout(IDLE_TICK, became_busy.notified()).await;
        }
        let Some(array) = array.upgrade().filter(|array| !array.is_stopped()) else {
            return;
        };
        array.hear_hosts();
        array.feed([Input::Tick]);
    }
}
