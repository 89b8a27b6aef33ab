//! A logical unit: a volume and the device server in front of it.
//!
//! The device server (`scsi-model`) is behind a mutex, held only to plan a command, never over I/O. Most commands
//! do not even take it: each I_T_L nexus has a flag that says it is *calm*, meaning no unit attention is pending for
//! it, no reservation keeps it out and no mode page asks for anything special; then READ and WRITE are planned from
//! the CDB and the geometry alone. Whoever changes the device server under the mutex brings all flags up to date
//! before letting go of it.
//!
//! A command is inside its nexus's gate from before that flag is read until it has ended. PREEMPT AND ABORT closes
//! the gates of those it preempts after the flags have changed, and waits until they are empty: when it is
//! answered no command of theirs can touch the medium any more.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use scsi_model::{
    device_server::{DeviceServer, Kept},
    log_pages::{IoStatistics, LogFacts},
    logical_block_provisioning::Space,
    plan::{Answer, Plan},
    sense::Sense,
    unit::{NexusId, NexusPorts, UnitFacts, UnitIdentity},
    unit_attention::{Attentions, UnitAttention},
};

use crate::{
    command_counts::{CommandCounts, CountedCommands, UnitCommands},
    control::ArrayControl,
    gate::Gate,
    gauge::Gauge,
    redo::Redo,
    state_file::StateFileError,
    throttle::Throttle,
    tokens::{TokenTable, Watched},
    unit_state::{UnitState, UnitStateStore},
    volume::{IoError, Volume, VolumeChange, VolumeInfo, VolumeWatcher},
};

/// A volume with its device server; shared by every target and nexus that maps it.
pub struct LogicalUnit {
    /// `watched`, as a volume.
    volume: Arc<dyn Volume>,
    watched: Arc<Watched>,
    tokens: OnceLock<Arc<TokenTable>>,
    control: Option<Arc<dyn ArrayControl>>,
    identity: ArcSwap<UnitIdentity>,
    server: Mutex<Server>,
    store: UnitStateStore,
    /// Held over a store, so that the newest state is the one that stays.
    storing: tokio::sync::Mutex<()>,
    redo: Option<Redo>,
    /// Whose turn it is to have the unit quiet.
    quieting: Arc<tokio::sync::Mutex<()>>,
    /// Copies that commands of other units do here.
    copies: Arc<Gate>,
    gauge: OnceLock<Arc<dyn Gauge>>,
    /// What the counters were at the last LOG SELECT that reset them.
    counted_before: Mutex<IoStatistics>,
    started: Instant,
    /// For what is logged of failed commands.
    pub(crate) failures: Throttle,
}

struct Server {
    device: DeviceServer,
    nexuses: BTreeMap<NexusId, Arc<ItlNexus>>,
    /// While the unit is to be quiet: those that came since, whose gates are closed.
    newcomers: Option<Vec<Arc<ItlNexus>>>,
    /// What nexuses that have ended sent.
    ended: CountedCommands,
}

/// An I_T_L nexus: one initiator's way to one unit.
pub(crate) struct ItlNexus {
    pub(crate) id: NexusId,
    /// READ and WRITE need not ask the device server.
    calm: AtomicBool,
    /// Commands in progress.
    pub(crate) tasks: Arc<Gate>,
    pub(crate) commands: CommandCounts,
}

impl ItlNexus {
    fn new(id: NexusId, gate: Gate) -> Arc<Self> {
        Arc::new(Self {
            id,
            calm: AtomicBool::new(false),
            tasks: Arc::new(gate),
            commands: CommandCounts::default(),
        })
    }

    /// One that the unit does not know any more.
    pub(crate) fn ended(id: NexusId) -> Arc<Self> {
        Self::new(id, Gate::new())
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Acquire)
    }
}

impl LogicalUnit {
    /// A unit on this volume, with the reservations and mode pages stored for it.
    pub fn new(
        volume: Arc<dyn Volume>,
        control: Option<Arc<dyn ArrayControl>>,
        store: UnitStateStore,
    ) -> Result<Arc<Self>, StateFileError> {
        let stored = store.load()?;
        let identity = identity_of(&volume.info());
        let server = Server {
            device: DeviceServer::new(stored.reservations, stored.modes)
                .with_sanitize_cut_short(stored.unfinished),
            nexuses: BTreeMap::new(),
            newcomers: None,
            ended: CountedCommands::default(),
        };
        let watched = Watched::new(volume);
        let unit = Arc::new(Self {
            volume: watched.clone(),
            watched,
            tokens: OnceLock::new(),
            control,
            identity: ArcSwap::from_pointee(identity),
            server: Mutex::new(server),
            redo: store.redo(),
            store,
            quieting: Arc::default(),
            copies: Arc::new(Gate::new()),
            storing: tokio::sync::Mutex::default(),
            gauge: OnceLock::new(),
            counted_before: Mutex::default(),
            started: Instant::now(),
            failures: Throttle::per_io(),
        });
        unit.volume.watch(Arc::new(Watcher(Arc::downgrade(&unit))));
        // Whatever changed before anybody watched.
        unit.identity.store(Arc::new(identity_of(&unit.volume.info())));
        Ok(unit)
    }

    /// The volume behind it.
    pub fn volume(&self) -> &Arc<dyn Volume> {
        &self.volume
    }

    /// Who executes C0h and C1h commands; without it they are invalid operation codes.
    pub fn control(&self) -> Option<&Arc<dyn ArrayControl>> {
        self.control.as_ref()
    }

    /// How many commands came, by operation code and by who sent them.
    pub fn commands(&self) -> UnitCommands {
        let server = self.lock();
        let mut commands = UnitCommands {
            all: server.ended.clone(),
            ..UnitCommands::default()
        };
        for (id, itl) in &server.nexuses {
            commands.all.add(&itl.commands);
            if let Some(ports) = server.device.ports(*id) {
                let names = (ports.initiator.name.clone(), ports.target.name.clone());
                commands.by_nexus.entry(names).or_default().add(&itl.commands);
            }
        }
        commands
    }

    /// Says where the tokens are that it shares with others; before that, and without it, it has a table of its own.
    pub fn set_tokens(&self, tokens: Arc<TokenTable>) {
        // A second one is a mistake of the wiring that changes nothing.
        let _ = self.tokens.set(tokens);
    }

    /// Says who knows its statistics and its space; the first one stays.
    pub fn set_gauge(&self, gauge: Arc<dyn Gauge>) {
        // A second one is a mistake of the wiring that changes nothing.
        let _ = self.gauge.set(gauge);
    }

    /// Looks at its space every `period`, while a host wants to hear of thresholds (6h/38h/07h). Ends with the unit.
    pub async fn watch_space(unit: Weak<Self>, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(unit) = unit.upgrade() else { return };
            if let Err(error) = unit.check_space().await {
                tracing::warn!(?unit, %error, "cannot find out how much space is left");
            }
        }
    }

    pub(crate) async fn check_space(&self) -> Result<(), IoError> {
        if self.lock().device.watches_space()
            && let Some(space) = self.space().await?
        {
            self.change(|server| server.device.space(space));
        }
        Ok(())
    }

    /// Another system shows the unit too, and hosts are to use that one.
    pub(crate) fn in_standby(&self) -> bool {
        self.volume.shared().is_some_and(|shared| !shared.active)
    }

    /// Does a host hold a reservation on it, persistent or not?
    pub fn is_reserved(&self) -> bool {
        self.lock().device.is_reserved()
    }

    /// Geometry and names.
    pub(crate) fn identity(&self) -> Arc<UnitIdentity> {
        self.identity.load_full()
    }

    /// [`Self::identity`] without counting references.
    pub(crate) fn with_identity<T>(&self, look: impl FnOnce(&UnitIdentity) -> T) -> T {
        look(&self.identity.load())
    }

    pub(crate) fn attach(&self, id: NexusId, ports: NexusPorts) -> Arc<ItlNexus> {
        self.change(|server| {
            let gate = if server.newcomers.is_some() {
                Gate::closed()
            } else {
                Gate::new()
            };
            let itl = ItlNexus::new(id, gate);
            server.device.attach(id, ports);
            server.nexuses.insert(id, itl.clone());
            if let Some(newcomers) = &mut server.newcomers {
                newcomers.push(itl.clone());
            }
            itl
        })
    }

    pub(crate) fn detach(&self, id: NexusId) {
        self.change(|server| {
            server.device.detach(id);
            if let Some(itl) = server.nexuses.remove(&id) {
                server.ended.add(&itl.commands);
            }
        });
    }

    pub(crate) fn reset(&self) {
        self.change(|server| server.device.logical_unit_reset());
    }

    pub(crate) fn hard_reset(&self) {
        self.change(|server| server.device.hard_reset());
    }

    pub(crate) fn nexus_loss(&self, id: NexusId) {
        self.change(|server| server.device.nexus_loss(id));
    }

    /// The next unit attention of this nexus, as QUERY ASYNCHRONOUS EVENT tells it.
    pub(crate) fn event_information(&self, id: NexusId) -> Option<[u8; 3]> {
        let server = self.lock();
        server
            .device
            .pending_attentions(id)
            .map(Attentions::event_information)
    }

    pub(crate) fn raise_for(&self, id: NexusId, attention: UnitAttention) {
        self.change(|server| server.device.raise_for(id, attention));
    }

    /// Has the device server look at a command.
    pub(crate) fn plan(&self, id: NexusId, cdb: &[u8], data_out: &[u8], facts: &UnitFacts<'_>) -> Planned {
        self.change(|server| {
            let (before, kept) = (server.state(), server.device.kept());
            let plan = server.device.plan(id, cdb, data_out, facts);
            let after = server.state();
            let aborted = plan
                .abort
                .iter()
                .filter_map(|id| server.nexuses.get(id).cloned())
                .collect();
            let must_store = plan.persist_modes
                || before.reservations != after.reservations
                || before.unfinished != after.unfinished;
            Planned {
                must_store: must_store.then(|| Box::new([kept, server.device.kept()])),
                plan,
                aborted,
            }
        })
    }

    /// Changes the device server, or asks it something that may change it.
    pub(crate) fn with_device<T>(&self, change: impl FnOnce(&mut DeviceServer) -> T) -> T {
        self.change(|server| change(&mut server.device))
    }

    /// The ROD tokens it knows.
    pub(crate) fn tokens(&self) -> &Arc<TokenTable> {
        self.tokens.get_or_init(Arc::default)
    }

    /// The volume, as what keeps tokens of it.
    pub(crate) fn watched(&self) -> &Arc<Watched> {
        &self.watched
    }

    /// Where a WRITE ATOMIC is recorded first.
    pub(crate) fn redo(&self) -> Option<&Redo> {
        self.redo.as_ref()
    }

    /// Whose turn it is to have the unit quiet.
    pub(crate) fn quieting(&self) -> &Arc<tokio::sync::Mutex<()>> {
        &self.quieting
    }

    /// What commands of other units read and write here passes this gate, piece by piece: nobody waits inside.
    pub(crate) fn copies(&self) -> &Arc<Gate> {
        &self.copies
    }

    /// From now on a nexus begins with its gate closed; those that are there already are to be closed.
    pub(crate) fn begin_quiet(&self) -> Vec<Arc<ItlNexus>> {
        let mut server = self.lock();
        server.newcomers = Some(Vec::new());
        server.nexuses.values().cloned().collect()
    }

    /// Those that began closed, to be opened.
    pub(crate) fn end_quiet(&self) -> Vec<Arc<ItlNexus>> {
        self.lock().newcomers.take().unwrap_or_default()
    }

    /// CHECK CONDITION in the format the initiators chose.
    pub(crate) fn check_condition(&self, sense: &Sense) -> Answer {
        self.lock().device.check_condition(sense)
    }

    /// What the log pages are about.
    pub(crate) async fn log_facts(&self) -> Result<LogFacts, IoError> {
        let space = self.space().await?;
        let before = *self.counted_before();
        let statistics = self.gauge.get().map(|gauge| gauge.statistics());
        Ok(LogFacts {
            block_size: self.identity().block_size,
            space,
            statistics: statistics.unwrap_or_default().since(before),
            minutes: u32::try_from(self.started.elapsed().as_secs() / 60).unwrap_or(u32::MAX),
        })
    }

    /// The counters start at zero again.
    pub(crate) fn reset_statistics(&self) {
        if let Some(gauge) = self.gauge.get() {
            *self.counted_before() = gauge.statistics();
        }
    }

    /// The space under a thin unit, if its store can tell.
    async fn space(&self) -> Result<Option<Space>, IoError> {
        let thin = self.with_identity(|identity| identity.thin);
        match self.gauge.get().filter(|_| thin) {
            Some(gauge) => gauge.space().await,
            None => Ok(None),
        }
    }

    fn counted_before(&self) -> MutexGuard<'_, IoStatistics> {
        self.counted_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores reservations and saved mode pages as they are now.
    pub(crate) async fn store_state(&self) -> Result<(), IoError> {
        let _one_at_a_time = self.storing.lock().await;
        let state = self.lock().state();
        self.store.save(state).await
    }

    fn change<T>(&self, change: impl FnOnce(&mut Server) -> T) -> T {
        let mut server = self.lock();
        let result = change(&mut server);
        server.update_calm();
        result
    }

    fn lock(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn volume_changed(&self, change: VolumeChange) {
        self.watched.forget_those_over();
        self.identity.store(Arc::new(identity_of(&self.volume.info())));
        let attention = match change {
            // Hosts do not use it here, and hear 2Ah/06h when they are to.
            VolumeChange::Medium if self.in_standby() => return,
            VolumeChange::Medium => UnitAttention::MediumChanged,
            VolumeChange::Capacity => UnitAttention::CapacityChanged,
            VolumeChange::Access => UnitAttention::AccessStateChanged,
        };
        self.change(|server| server.device.raise(attention, None));
    }
}

/// Why a unit cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// What is stored of it cannot be used.
    #[error(transparent)]
    State(#[from] StateFileError),
    /// An atomic write that was cut short cannot be finished.
    #[error("an atomic write that was cut short cannot be finished: {0}")]
    Write(#[from] IoError),
}

/// A plan, and what the shell needs around it.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    /// Store the state before answering; what was before and after the command, should that fail.
    pub(crate) must_store: Option<Box<[Kept; 2]>>,
    /// Wait for the end of the tasks of these.
    pub(crate) aborted: Vec<Arc<ItlNexus>>,
}

impl Server {
    fn update_calm(&self) {
        for (id, itl) in &self.nexuses {
            itl.calm
                .store(!self.device.attention_or_reservation(*id), Ordering::Release);
        }
    }

    fn state(&self) -> UnitState {
        UnitState {
            reservations: self.device.reservations().clone(),
            modes: self.device.modes_to_store(),
            unfinished: self.device.sanitize_to_store(),
        }
    }
}

impl std::fmt::Debug for LogicalUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogicalUnit({})", self.volume.info().name)
    }
}

/// What the volume knows of the unit: without keeping it alive.
struct Watcher(Weak<LogicalUnit>);

impl VolumeWatcher for Watcher {
    fn changed(&self, change: VolumeChange) {
        if let Some(unit) = self.0.upgrade() {
            unit.volume_changed(change);
        }
    }
}

fn identity_of(info: &VolumeInfo) -> UnitIdentity {
    UnitIdentity {
        number: info.number,
        mirror_class: info.mirror_class,
        block_size: info.block_size,
        physical_block_size: info.physical_block_size,
        blocks: info.blocks,
        thin: info.thin,
        removable: info.removable,
        naa: info.naa,
        eui64: info.eui64,
        uuid: info.uuid,
        serial: info.serial.clone(),
    }
}
