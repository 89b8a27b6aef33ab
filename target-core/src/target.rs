//! The seam a transport calls: a [`Target`] is one SCSI target device, a [`Nexus`] the path of one initiator port
//! to it (SAM-5 4.3), and commands are executed on a nexus.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;

use scsi_model::{
    unit::{SharedAccess, TargetPort},
    unit_attention::UnitAttention,
};

use crate::initiator_pattern::{InitiatorPattern, most_specific};

pub use crate::{
    command::{Execution, ReadAtOnce, Room, ScsiCommand, ScsiResponse, TaskAttribute, WriteAtOnce},
    lun_map::{Access, LunEntry},
    nexus::{Nexus, TmfRefusal},
};

/// An initiator port by its name and ISID: its TransportID is the one of SPC-4 7.6.4.6.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InitiatorPort {
    /// iSCSI name.
    pub name: String,
    /// Initiator session identifier.
    pub isid: [u8; 6],
}

/// What initiators may do and see, by whom it is about. Of the patterns that a name fits the narrowest counts; who fits none sees
/// nothing.
#[derive(Debug, Clone, Default)]
pub struct AccessRules(pub BTreeMap<InitiatorPattern, Access>);

impl AccessRules {
    /// The same for every initiator.
    pub fn for_all(access: Access) -> Self {
        Self([(InitiatorPattern::any(), access)].into())
    }

    /// What this initiator may do and see.
    pub fn for_initiator(&self, name: &str) -> Access {
        most_specific(&self.0, name).cloned().unwrap_or_default()
    }
}

/// One iSCSI target, which is one SCSI target device.
pub struct Target {
    name: String,
    rules: ArcSwap<AccessRules>,
    relative_port_offset: Option<u16>,
    /// Its ports: one for each portal group through which it is reached.
    ports: ArcSwap<Vec<TargetPort>>,
    /// Initiators have no path to the other system that shows its shared units.
    one_path: AtomicBool,
    /// Every nexus that has not been dropped.
    nexuses: Mutex<Vec<Weak<Nexus>>>,
}

impl Target {
    /// A target that serves what `rules` say, through portal group 1.
    pub fn new(name: impl Into<String>, rules: AccessRules) -> Arc<Self> {
        Self::with_ports_from(name, rules, None)
    }

    /// The same; the relative identifiers of its ports are made from this number ([`relative_port_id`]).
    pub fn with_ports_from(
        name: impl Into<String>,
        rules: AccessRules,
        relative_port_offset: Option<u16>,
    ) -> Arc<Self> {
        let mut target = Self {
            rules: ArcSwap::from_pointee(rules),
            relative_port_offset,
            ports: ArcSwap::default(),
            one_path: AtomicBool::new(false),
            nexuses: Mutex::new(Vec::new()),
            name: name.into(),
        };
        target.ports = ArcSwap::from_pointee(vec![target.port(1)]);
        Arc::new(target)
    }

    /// It is reached through these portal groups. Every nexus hears INQUIRY DATA HAS CHANGED (6h/3Fh/03h) when that is
    /// another set than before: VPD page 88h and the target port group tell of all ports.
    pub fn set_portal_groups(&self, groups: &BTreeSet<u16>) {
        let nexuses = self.nexuses();
        let ports: Vec<TargetPort> = groups.iter().map(|group| self.port(*group)).collect();
        if **self.ports.load() == ports {
            return;
        }
        self.ports.store(Arc::new(ports));
        for nexus in nexuses.iter().filter_map(Weak::upgrade) {
            nexus.raise_everywhere(UnitAttention::InquiryDataChanged);
        }
    }

    /// Initiators have no path to the other system that shows its shared units, and are sent there when that leads: while such a unit
    /// is not active here its port group is transitioning, and not in standby, and its commands are BUSY.
    pub fn set_one_path(&self, one_path: bool) {
        self.one_path.store(one_path, Ordering::Relaxed);
    }

    /// How a unit that is so is seen through this target.
    pub(crate) fn seen(&self, shared: SharedAccess) -> SharedAccess {
        let one_path = self.one_path.load(Ordering::Relaxed);
        SharedAccess { one_path, ..shared }
    }

    /// Its ports, by portal group.
    pub(crate) fn ports(&self) -> Arc<Vec<TargetPort>> {
        self.ports.load_full()
    }

    /// The port that it has in a portal group.
    pub(crate) fn port(&self, portal_group: u16) -> TargetPort {
        TargetPort {
            name: self.name.clone(),
            portal_group,
            relative_id: relative_port_id(&self.name, portal_group, self.relative_port_offset),
        }
    }

    /// iSCSI name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An I_T nexus comes to be: login of a new session. A session of the same port reinstated was closed by the
    /// caller before.
    pub fn attach(self: &Arc<Self>, initiator: InitiatorPort, portal_group: u16) -> Arc<Nexus> {
        // The registry is locked over the reading of the rules, so that no change of them is missed.
        let mut nexuses = self.nexuses();
        let access = self.rules.load().for_initiator(&initiator.name);
        let nexus = Nexus::new(self.clone(), initiator, portal_group, &access);
        nexuses.retain(|nexus| nexus.strong_count() > 0);
        nexuses.push(Arc::downgrade(&nexus));
        nexus
    }

    /// Replaces the rules. Every nexus whose view of logical units changes by it hears REPORTED LUNS DATA HAS
    /// CHANGED (6h/3Fh/0Eh); commands begun before end as they began.
    pub fn set_rules(&self, rules: AccessRules) {
        let nexuses = self.nexuses();
        for nexus in nexuses.iter().filter_map(Weak::upgrade) {
            nexus.remap(&rules.for_initiator(&nexus.initiator().name));
        }
        self.rules.store(Arc::new(rules));
    }

    /// The rules now.
    pub fn rules(&self) -> Arc<AccessRules> {
        self.rules.load_full()
    }

    fn nexuses(&self) -> MutexGuard<'_, Vec<Weak<Nexus>>> {
        self.nexuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RELATIVE TARGET PORT IDENTIFIER of a target's port in a portal group. Reservations know a target port by it, and one unit may
/// be reached through several targets, whose portal groups have the same tags. So it is derived from the
/// target's name too, which gives the same after a restart. Two groups may, rarely, give the same: a target cannot be in both.
/// With an offset, which a configuration gives where that does not do, it is the sum of that and the tag.
pub fn relative_port_id(target: &str, portal_group: u16, offset: Option<u16>) -> u16 {
    if let Some(offset) = offset {
        return offset.saturating_add(portal_group);
    }
    let port = format!("{target},t,{portal_group}");
    (crc32c::crc32c(port.as_bytes()) % u32::from(u16::MAX)) as u16 + 1
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.name)
    }
}
