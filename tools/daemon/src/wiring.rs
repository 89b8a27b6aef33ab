//! From the configuration to the objects that serve: volumes, logical units, targets, access rules.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use iscsi_frontend::{
    AuthPolicy, Credentials, FrontendConfig, Homes, InitiatorRule, IsnsConfig, Moved, Portal, Secret,
    TargetAccess,
};
use replication::{Array, HostUse, PairedVolume, remote::Shared};
use target_core::{
    control::ArrayControl,
    gauge::Gauge,
    identities::IdentityStore,
    logical_unit::{LogicalUnit, RecoverError},
    media::OpenError,
    plain::{self, Backing, PlainVolume},
    scsi_model::{control::VolumeNumber, log_pages::IoStatistics, logical_block_provisioning::Space},
    target::{Access, AccessRules, LunEntry, Target},
    tokens::TokenTable,
    unit_state::UnitStateStore,
    volume::IoFuture,
};

use crate::config::{
    Authentication, Chap, Config, InitiatorConfig, LunConfigs, Media, System, TargetConfig, VolumeConfig,
    offer,
};

/// Logical units by volume number: one for each volume, shared by all targets.
pub(crate) type Units = BTreeMap<u32, Arc<LogicalUnit>>;

/// Where sessions live.
pub(crate) fn homes(system: &System) -> io::Result<Homes> {
    match system.workers {
        _ if system.work_stealing => Ok(Homes::default()),
        0 => Homes::open(thread::available_parallelism()?.get()),
        workers => Homes::open(workers),
    }
}

/// Opens, or makes, one of the volumes of a configuration.
pub(crate) fn open_volume(
    volume: &VolumeConfig,
    identities: &IdentityStore,
    config: &Config,
) -> Result<Arc<PlainVolume>, OpenError> {
    if let Some(naa) = volume.naa {
        let is_served = |number: VolumeNumber| config.volumes.contains_key(&number.0);
        identities.assign(VolumeNumber(volume.number), naa, is_served)?;
    }
    identities.configure(VolumeNumber(volume.number), volume.designators);
    let config = plain::VolumeConfig {
        number: VolumeNumber(volume.number),
        name: volume.name.clone(),
        mirror_class: volume.mirror,
        size: volume.size,
        backing: match &volume.media {
            Media::File(path) if volume.direct => Backing::Direct(path.clone()),
            Media::File(path) => Backing::File(path.clone()),
            Media::Memory => Backing::Memory,
        },
        block_size: volume.block_size,
        physical_block_size: volume.physical_block_size,
        removable: volume.removable,
        thin: volume.thin,
        quota: volume.quota,
    };
    plain::open_volume(config, identities)
}

/// The logical unit of a volume, with the reservations and mode pages kept for it. Those of a volume in memory go with it.
/// A WRITE ATOMIC that was cut short is finished before anybody sees the unit.
pub(crate) async fn unit(
    volume: Arc<PairedVolume>,
    array: &Arc<Array>,
    config: &Config,
    tokens: &Arc<TokenTable>,
) -> Result<Arc<LogicalUnit>, RecoverError> {
    let number = volume.number();
    let in_memory = config
        .volumes
        .get(&number.0)
        .is_some_and(|volume| volume.media == Media::Memory);
    let store = if in_memory {
        UnitStateStore::ephemeral()
    } else {
        UnitStateStore::open(&config.system.state_dir, number)?
    };
    let control: Arc<dyn ArrayControl> = Arc::clone(array) as _;
    let unit = LogicalUnit::new(Arc::clone(&volume) as _, Some(control), store)?;
    unit.recover().await?;
    unit.set_tokens(Arc::clone(tokens));
    unit.set_gauge(Arc::new(VolumeGauge(volume)));
    tokio::spawn(LogicalUnit::watch_space(Arc::downgrade(&unit), SPACE_PERIOD));
    Ok(unit)
}

/// The volumes that other systems show as the same units.
pub(crate) fn shared(config: &Config) -> BTreeMap<VolumeNumber, Shared> {
    let shared = config.volumes.values().filter_map(|volume| {
        let shared = volume.shared.as_ref()?;
        let how = Shared {
            peer: shared.peer.clone(),
            volume: VolumeNumber(shared.volume),
            target_port_group: shared.target_port_group(&config.system.id),
        };
        Some((VolumeNumber(volume.number), how))
    });
    shared.collect()
}

/// How often the space of a unit is looked at when thresholds are set for it.
const SPACE_PERIOD: Duration = Duration::from_secs(10);

/// What the log pages of a unit tell of its volume.
struct VolumeGauge(Arc<PairedVolume>);

impl Gauge for VolumeGauge {
    fn statistics(&self) -> IoStatistics {
        let counted = self.0.statistics().view();
        IoStatistics {
            reads: counted.reads,
            writes: counted.writes,
            read_bytes: counted.read_bytes,
            written_bytes: counted.written_bytes,
        }
    }

    fn space(&self) -> IoFuture<Option<Space>> {
        self.0.plain().disk().space()
    }
}

/// Tells the array which volumes hosts hold reservations on.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Mutex<Units>);

impl Reservations {
    /// These are the units now.
    pub(crate) fn set(&self, units: Units) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = units;
    }
}

impl HostUse for Reservations {
    fn in_use(&self, volume: VolumeNumber) -> Option<String> {
        let units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reserved = units.get(&volume.0)?.is_reserved();
        reserved.then(|| "a host holds a reservation on it".to_owned())
    }
}

/// A target.
pub(crate) fn target(target: &TargetConfig, units: &Units) -> Arc<Target> {
    Target::with_ports_from(&target.iqn, rules(target, units), target.relative_port_offset)
}

/// What of a target may change while it is served, but for the rules.
pub(crate) fn adjust(object: &Target, target: &TargetConfig, portals: &[Portal]) {
    object.set_portal_groups(&target.groups(portals));
    object.set_one_path(target.redirect.is_some());
}

/// What each initiator may see and do.
pub(crate) fn rules(target: &TargetConfig, units: &Units) -> AccessRules {
    if target.initiators.is_empty() {
        // Anybody, from this machine only: who can log in could as well use the command line.
        return AccessRules::for_all(Access {
            control: true,
            luns: lun_entries(&target.luns, units),
        });
    }
    let rules = target.initiators.iter().map(|initiator| {
        let luns = initiator.luns.as_ref().unwrap_or(&target.luns);
        let access = Access {
            control: initiator.control,
            luns: lun_entries(luns, units),
        };
        (initiator.name.clone(), access)
    });
    AccessRules(rules.collect())
}

fn lun_entries(luns: &LunConfigs, units: &Units) -> Vec<LunEntry> {
    let entries = luns.iter().filter_map(|(lun, map)| {
        let unit = units.get(&map.volume)?;
        Some(LunEntry {
            lun: *lun,
            unit: Arc::clone(unit),
            read_only: map.read_only,
        })
    });
    entries.collect()
}

/// What the frontend is told.
pub(crate) fn frontend(config: &Config, targets: &BTreeMap<String, Arc<Target>>) -> FrontendConfig {
    let accesses = config.targets.values().filter_map(|target| {
        Some(TargetAccess {
            alias: target.alias.clone(),
            keepalive: target.keepalive,
            announces_luns: target.announce_luns,
            portal_groups: target.portal_groups.iter().copied().collect(),
            initiators: target
                .initiators
                .iter()
                .map(|initiator| initiator_rule(initiator, target, config))
                .collect(),
            offer: Some(offer([&config.sessions, &target.keys])),
            ..TargetAccess::open(Arc::clone(targets.get(&target.iqn)?))
        })
    });
    FrontendConfig {
        tuning: iscsi_frontend::Tuning {
            offer: offer([&config.sessions]),
            longest_look: config.longest_look,
            ..iscsi_frontend::Tuning::default()
        },
        portals: config.portals.clone(),
        targets: accesses.collect(),
        discovery: auth_policy(&config.discovery, config),
        isns: config.isns.as_ref().map(|isns| IsnsConfig {
            server: isns.server.clone(),
            // System ids are one of a kind among those who know each other, as are entities at a server.
            entity: isns
                .entity
                .clone()
                .unwrap_or_else(|| format!("holdfast:{}", config.system.id)),
            esi_interval: isns.esi_interval,
        }),
    }
}

fn initiator_rule(initiator: &InitiatorConfig, target: &TargetConfig, config: &Config) -> InitiatorRule {
    let moved = initiator.moved.map(|(to, permanent)| Moved {
        address: to.to_string(),
        permanent,
    });
    InitiatorRule {
        name: initiator.name.clone(),
        auth: auth_policy(&initiator.authentication, config),
        offer: Some(offer([&config.sessions, &target.keys, &initiator.keys])),
        moved,
    }
}

fn auth_policy(authentication: &Authentication, config: &Config) -> AuthPolicy {
    let accepted: Vec<Credentials> = authentication.chap.iter().map(credentials).collect();
    let mut auth = match (accepted.is_empty(), &authentication.mutual) {
        (true, _) => AuthPolicy::none(),
        (false, None) => AuthPolicy::chap(accepted),
        (false, Some(mutual)) => AuthPolicy::chap(accepted).with_mutual(credentials(mutual)),
    };
    auth.algorithms.clone_from(&config.chap_algorithms);
    auth
}

fn credentials(chap: &Chap) -> Credentials {
    Credentials {
        name: chap.user.clone(),
        secret: Secret::new(chap.secret.bytes()),
    }
}
