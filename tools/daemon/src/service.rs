//! What is served, and how it changes while it is.
//!
//! A change (SIGHUP, `holdfast reload`, `holdfast volume`, `map`, `unmap`) is: the configuration that is to be served next,
//! the plan from the present one to it, and [`Service::apply`], which takes the steps that can fail first and takes them
//! back when one does. There is one change at a time.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use admin_api::{
    LunMap, MapRequest, ReloadCheck, UnmapRequest, VolumeCreate, VolumeDocument, VolumesDocument,
};
use iscsi_frontend::Frontend;
use replication::{Array, Tuning, link::Links};
use target_core::{
    control::ArrayControl,
    identities::IdentityStore,
    scsi_model::control::{Reply, Request, VolumeNumber},
    state_file::StateFileError,
    target::{AccessRules, Target},
    tokens::TokenTable,
    unit_state::UnitStateStore,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::Backups,
    config::{self, Config, Media},
    difference::difference,
    fresh::Fresh,
    generations::Generations,
    links, queues,
    redirecting::Redirecting,
    reload::Plan,
    runtime::Runtime,
    wiring::{self, Reservations, Units},
};

/// Where the configuration comes from, to be read again.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
}

impl Source {
    /// Reads and checks it.
    pub(crate) fn load(&self) -> Result<Config, config::problem::ConfigError> {
        Config::load(self.file.as_deref(), std::env::vars())
    }
}

/// Everything that serves.
pub(crate) struct Service {
    pub(crate) array: Arc<Array>,
    pub(crate) frontend: Frontend,
    pub(crate) generations: Generations,
    /// The link to other systems, when one is configured.
    pub(crate) links: Option<Arc<Links>>,
    pub(crate) reservations: Arc<Reservations>,
    /// Backups that can be cancelled.
    pub(crate) backups: Backups,
    redirecting: Arc<Redirecting>,
    source: Source,
    identities: IdentityStore,
    tokens: Arc<TokenTable>,
    served: tokio::sync::Mutex<Served>,
    stop: CancellationToken,
}

/// What changes.
struct Served {
    /// The configuration without what was changed at run time.
    configured: Config,
    runtime: Runtime,
    /// Both together: what is served.
    config: Config,
    units: Units,
    targets: BTreeMap<String, Arc<Target>>,
}

/// How much of what ROD tokens stand for is kept when hosts overwrite it, in a file of the state directory: four tokens of the
/// largest size.
const TOKEN_SPACE: u64 = 1 << 30;

impl Service {
    /// Opens the volumes, recovers the array and opens the portals; nothing is served before [`Frontend::run`].
    pub(crate) async fn open(
        source: Source,
        configured: Config,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let state_dir = configured.system.state_dir.clone();
        let mut runtime = Runtime::load(&state_dir)?;
        let config = runtime.merge(&configured)?;
        let identities = IdentityStore::open(&state_dir)?;
        let fresh = Fresh::find(&config)?;
        let mut volumes = Vec::new();
        for volume in config.volumes.values() {
            volumes.push(wiring::open_volume(volume, &identities, &config)?);
        }
        let mut tuning = Tuning::default();
        tuning.limits.pace = config.replication.copy_rate.unwrap_or(0);
        tuning.limits.auto_resume = config.replication.auto_resume;
        tuning.limits.latency_factor = config.replication.latency_factor;
        if let Some(bytes) = config.replication.journal_limit {
            tuning.journal_limit = bytes;
        }
        let system = config.system.id.clone();
        let track_size = config.system.track_size;
        let array = Array::open_with(&state_dir, system, track_size, tuning, volumes, fresh.numbers())?;
        fresh.settled()?;
        array.set_longest_hold(config.replication.longest_hold);
        let by_command = config.replication.resume_by_command.iter();
        array.set_resumed_by_command(by_command.map(|number| VolumeNumber(*number)));
        let tokens = TokenTable::open(&state_dir, TOKEN_SPACE)?;
        let mut units = Units::new();
        for volume in array.volumes() {
            units.insert(
                volume.number().0,
                wiring::unit(volume, &array, &config, &tokens).await?,
            );
        }
        array.set_shared(wiring::shared(&config));
        let reservations = Arc::new(Reservations::default());
        reservations.set(units.clone());
        array.set_host_use(Arc::clone(&reservations) as _);
        let mut targets = BTreeMap::new();
        for target in config.targets.values() {
            let object = wiring::target(target, &units);
            wiring::adjust(&object, target, &config.portals);
            targets.insert(target.iqn.clone(), object);
        }
        let generations = Generations::open(state_dir)?;
        let frontend = Frontend::bind(
            wiring::frontend(&config, &targets),
            wiring::homes(&config.system)?,
        )?;
        queues::open_all(&config, &array)?;
        let links = links::start(&config, &array).await?;
        let redirecting = Redirecting::new(Arc::clone(&array), &config);
        frontend.set_guide(Arc::clone(&redirecting) as _);
        let served = tokio::sync::Mutex::new(Served {
            configured,
            runtime,
            config,
            units,
            targets,
        });
        let service = Self {
            array,
            frontend,
            generations,
            links,
            reservations,
            backups: Backups::default(),
            redirecting,
            source,
            identities,
            tokens,
            served,
            stop,
        };
        service.generations.recover(&service).await;
        Ok(service)
    }

    /// Serves the portals until `stop`, and drains them.
    pub(crate) async fn run_frontend(self: Arc<Self>, stop: CancellationToken) {
        self.frontend.run(stop).await;
    }

    /// Initiators are sent to where the shared units of their target are led now.
    pub(crate) fn redirect(&self) {
        self.redirecting.look(&self.frontend);
    }

    /// Ends when the daemon begins to stop.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// The configuration that is served now.
    pub(crate) async fn config(&self) -> Config {
        self.served.lock().await.config.clone()
    }

    /// The volumes with their files and LUNs.
    pub(crate) async fn volumes(&self) -> Result<VolumesDocument, String> {
        let served = self.served.lock().await;
        let reply = self
            .array
            .execute(Request::Setup)
            .await
            .map_err(|refusal| refusal.to_string())?;
        let Reply::Volumes(descriptors) = reply else {
            return Err(format!("unexpected reply {reply:?}"));
        };
        let volumes = descriptors.iter().map(|descriptor| {
            let mut volume = VolumeDocument::from(descriptor);
            volume.luns = luns_of(&served.config, volume.number);
            volume.lun = volume.luns.first().map(|map| map.lun);
            volume.media = served
                .config
                .volumes
                .get(&volume.number)
                .map(|config| match &config.media {
                    Media::File(path) => path.display().to_string(),
                    Media::Memory => "memory".to_owned(),
                });
            volume
        });
        Ok(VolumesDocument {
            system: self.array.system().to_string(),
            volumes: volumes.collect(),
        })
    }

    /// Reads the configuration again and serves what it says.
    pub(crate) async fn reload(&self) -> Result<Vec<String>, String> {
        let mut served = self.served.lock().await;
        let configured = self.source.load().map_err(|error| error.to_string())?;
        let runtime = served.runtime.clone();
        self.change(&mut served, configured, runtime).await
    }

    /// What a reload would change, and what would keep it from that.
    pub(crate) async fn check_reload(&self) -> Result<ReloadCheck, String> {
        let served = self.served.lock().await;
        let configured = self.source.load().map_err(|error| error.to_string())?;
        let next = served.runtime.clone().merge(&configured);
        let next = next.map_err(|problems| problems.to_string())?;
        let plan = Plan::new(&served.config, &next);
        Ok(ReloadCheck {
            changes: difference(&served.config, &next),
            refused: plan.map_or_else(
                |refused| refused,
                |plan| self.paired_volumes_removed(&plan).collect(),
            ),
        })
    }

    /// `holdfast volume create`.
    pub(crate) async fn create_volume(&self, wanted: VolumeCreate) -> Result<Vec<String>, String> {
        self.edit(|served, runtime| {
            let number = runtime.create(&served.config, wanted)?;
            // It is nobody that hosts have known, whatever was left of an earlier volume with its number.
            self.forget(served, number).map_err(|error| error.to_string())?;
            Ok(None)
        })
        .await
    }

    /// `holdfast volume delete`. Its identity, reservations and mode pages end with it.
    pub(crate) async fn delete_volume(&self, number: u32) -> Result<Vec<String>, String> {
        let done = self
            .edit(|served, runtime| runtime.delete(&served.config, number).map(|()| None))
            .await?;
        let served = self.served.lock().await;
        if !served.config.volumes.contains_key(&number)
            && let Err(error) = self.forget(&served, number)
        {
            // The volume is gone all the same, and one created with its number is made to forget again.
            tracing::error!(%error, "cannot forget who volume {number} was");
        }
        Ok(done)
    }

    fn forget(&self, served: &Served, number: u32) -> Result<(), StateFileError> {
        let number = VolumeNumber(number);
        self.identities.forget(number)?;
        UnitStateStore::open(&served.config.system.state_dir, number)?.forget()
    }

    /// The logical units that are served, by volume.
    pub(crate) async fn units(&self) -> Units {
        self.served.lock().await.units.clone()
    }

    /// `holdfast volume resize`.
    pub(crate) async fn resize_volume(&self, number: u32, size: &str) -> Result<Vec<String>, String> {
        let volume = self.array.volume(VolumeNumber(number));
        let now = volume.map_or(0, |volume| volume.bytes());
        self.edit(|served, runtime| {
            runtime
                .resize(&served.configured, number, now, size)
                .map(|_| None)
        })
        .await
    }

    /// `holdfast map`.
    pub(crate) async fn map(&self, wanted: &MapRequest) -> Result<Vec<String>, String> {
        self.edit(|served, runtime| {
            let (iqn, lun) = runtime.map(&served.config, wanted)?;
            let name = served.config.volume_named(wanted.volume);
            Ok(Some(format!("volume {name} is LUN {lun} of {iqn}")))
        })
        .await
    }

    /// `holdfast unmap`.
    pub(crate) async fn unmap(&self, wanted: &UnmapRequest) -> Result<Vec<String>, String> {
        self.edit(|served, runtime| {
            let (iqn, lun) = runtime.unmap(&served.config, wanted)?;
            let name = served.config.volume_named(wanted.volume);
            Ok(Some(format!("volume {name} is no longer LUN {lun} of {iqn}")))
        })
        .await
    }

    async fn edit(
        &self,
        edit: impl FnOnce(&Served, &mut Runtime) -> Result<Option<String>, String>,
    ) -> Result<Vec<String>, String> {
        let mut served = self.served.lock().await;
        let mut runtime = served.runtime.clone();
        let said = edit(&served, &mut runtime)?;
        let configured = served.configured.clone();
        let done = self.change(&mut served, configured, runtime).await?;
        Ok(said.map_or(done, |said| vec![said]))
    }

    /// Serves `configured` with `runtime` laid over it: all of it, or nothing has changed.
    async fn change(
        &self,
        served: &mut Served,
        configured: Config,
        mut runtime: Runtime,
    ) -> Result<Vec<String>, String> {
        let next = runtime
            .merge(&configured)
            .map_err(|problems| problems.to_string())?;
        let plan = Plan::new(&served.config, &next).map_err(|refused| refused.join("\n"))?;
        // Kept before it is in force: after a crash in between, the daemon comes up with it.
        let state_dir = next.system.state_dir.clone();
        runtime.store(&state_dir).map_err(|error| error.to_string())?;
        if let Err(why) = self.apply(served, &plan, &next).await {
            served
                .runtime
                .store(&state_dir)
                .map_err(|error| format!("{why}\n{error}"))?;
            return Err(why);
        }
        let done = plan.describe(&served.config);
        for line in &done {
            tracing::info!("{line}");
        }
        (served.configured, served.runtime, served.config) = (configured, runtime, next);
        Ok(done)
    }

    /// The volumes that are to go, and are in a pair, a sentence each.
    fn paired_volumes_removed(&self, plan: &Plan) -> impl Iterator<Item = String> {
        let paired = plan.remove_volumes.iter().filter(|number| {
            let volume = self.array.volume(VolumeNumber(**number));
            volume.is_some_and(|volume| volume.in_pair())
        });
        paired.map(|number| format!("volume {number} is in a pair: `holdfast cancel` it first"))
    }

    /// Takes the plan's steps. What can fail comes first; when it does, what was done is taken back.
    async fn apply(&self, served: &mut Served, plan: &Plan, next: &Config) -> Result<(), String> {
        if let Some(why) = self.paired_volumes_removed(plan).next() {
            return Err(why);
        }
        queues::change(&self.array, &served.config, &plan.queues)?;
        let mut units = served.units.clone();
        let mut added = Vec::new();
        let mut resized = Vec::new();
        let result = self
            .prepare(plan, next, &mut units, &mut added, &mut resized)
            .await;
        if result.is_ok() {
            self.array.set_shared(wiring::shared(next));
        }
        let targets = targets(served, plan, next, &units);
        let result = match result {
            Ok(()) => self.switch(served, next, &targets, &units).await,
            Err(why) => Err(why),
        };
        let result = match result {
            Ok(()) => self.remove(plan, &mut units).await,
            Err(why) => Err(why),
        };
        if let Err(why) = result {
            self.array.set_shared(wiring::shared(&served.config));
            self.take_back(served, &added, &resized).await;
            queues::take_back(&self.array, &served.config, next, &plan.queues);
            return Err(why);
        }
        for (number, bytes) in &plan.quotas {
            if let Some(volume) = self.array.volume(VolumeNumber(*number)) {
                volume.plain().set_quota(*bytes);
            }
        }
        if let Some(links) = &self.links
            && let Err(error) = links.reconfigure(&config::peer_configs(&next.peers))
        {
            // The configuration was checked for this.
            tracing::error!("the peers have not changed: {error}");
        }
        for id in &plan.remove_peers {
            queues::forget(&self.array, id, &served.config);
        }
        if let Some(copy_rate) = plan.copy_rate {
            self.array.set_copy_rate(copy_rate);
        }
        if let Some(percent) = plan.latency_factor {
            self.array.set_latency_factor(percent);
        }
        if let Some(longest) = plan.longest_hold {
            self.array.set_longest_hold(longest);
        }
        self.reservations.set(units.clone());
        self.redirecting.set(next);
        self.redirect();
        (served.units, served.targets) = (units, targets);
        Ok(())
    }

    /// New volumes and new sizes.
    async fn prepare(
        &self,
        plan: &Plan,
        next: &Config,
        units: &mut Units,
        added: &mut Vec<u32>,
        resized: &mut Vec<(u32, u64)>,
    ) -> Result<(), String> {
        for volume in &plan.add_volumes {
            let plain =
                wiring::open_volume(volume, &self.identities, next).map_err(|error| error.to_string())?;
            let paired = self
                .array
                .add_volume(plain)
                .await
                .map_err(|error| error.to_string())?;
            added.push(volume.number);
            let unit = wiring::unit(paired, &self.array, next, &self.tokens)
                .await
                .map_err(|error| error.to_string())?;
            units.insert(volume.number, unit);
        }
        for (number, bytes) in &plan.resize_volumes {
            let number = VolumeNumber(*number);
            let before = self.array.volume(number).map_or(0, |volume| volume.bytes());
            self.array
                .resize_volume(number, *bytes)
                .await
                .map_err(|error| error.to_string())?;
            resized.push((number.0, before));
        }
        Ok(())
    }

    /// Targets, rules and portals.
    async fn switch(
        &self,
        served: &Served,
        next: &Config,
        targets: &BTreeMap<String, Arc<Target>>,
        units: &Units,
    ) -> Result<(), String> {
        // Nobody comes through a port before the others hear of it.
        for target in next.targets.values() {
            if let Some(object) = targets.get(&target.iqn) {
                wiring::adjust(object, target, &next.portals);
            }
        }
        self.frontend
            .reconfigure(wiring::frontend(next, targets))
            .await
            .map_err(|error| error.to_string())?;
        for (iqn, object) in &served.targets {
            if !targets.contains_key(iqn) {
                // Its sessions are asked to log out; what they still send until then reaches no volume.
                object.set_rules(AccessRules::default());
            }
        }
        for target in next.targets.values() {
            if served.config.targets.get(&target.iqn) != Some(target)
                && let Some(object) = targets.get(&target.iqn)
            {
                object.set_rules(wiring::rules(target, units));
            }
        }
        Ok(())
    }

    async fn remove(&self, plan: &Plan, units: &mut Units) -> Result<(), String> {
        for number in &plan.remove_volumes {
            self.array
                .remove_volume(VolumeNumber(*number))
                .await
                .map_err(|error| error.to_string())?;
            units.remove(number);
        }
        Ok(())
    }

    /// Everything as it was. A failure here is logged: the reason why the change failed is what the caller hears.
    async fn take_back(&self, served: &Served, added: &[u32], resized: &[(u32, u64)]) {
        let complain = |error: &dyn std::fmt::Display| tracing::error!(%error, "cannot take a change back");
        if let Err(error) = self
            .frontend
            .reconfigure(wiring::frontend(&served.config, &served.targets))
            .await
        {
            complain(&error);
        }
        for target in served.config.targets.values() {
            if let Some(object) = served.targets.get(&target.iqn) {
                wiring::adjust(object, target, &served.config.portals);
                object.set_rules(wiring::rules(target, &served.units));
            }
        }
        for (number, before) in resized {
            if let Err(error) = self.array.resize_volume(VolumeNumber(*number), *before).await {
                complain(&error);
            }
        }
        for number in added {
            if let Err(error) = self.array.remove_volume(VolumeNumber(*number)).await {
                complain(&error);
            }
        }
    }
}

/// The targets of the next configuration: those there are, and new ones for new names.
fn targets(served: &Served, plan: &Plan, next: &Config, units: &Units) -> BTreeMap<String, Arc<Target>> {
    let mut targets = served.targets.clone();
    for iqn in &plan.remove_targets {
        targets.remove(iqn);
    }
    for target in next.targets.values() {
        targets
            .entry(target.iqn.clone())
            .or_insert_with(|| wiring::target(target, units));
    }
    targets
}

fn luns_of(config: &Config, number: u32) -> Vec<LunMap> {
    let mut luns: Vec<LunMap> = config
        .targets
        .values()
        .flat_map(|target| {
            let luns = target.all_luns().filter(|(.., map)| map.volume == number);
            luns.map(|(whose, lun, map)| LunMap {
                target: target.iqn.clone(),
                lun,
                read_only: map.read_only,
                initiator: whose.map(ToString::to_string),
            })
        })
        .collect();
    // What everybody sees comes first.
    luns.sort_by_key(|map| (map.initiator.is_some(), map.lun));
    luns
}
