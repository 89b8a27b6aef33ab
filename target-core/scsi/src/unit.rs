//! What the device server is told about its logical unit and about who asks.

use serde::{Deserialize, Serialize};

use crate::control::VolumeNumber;

/// An I_T nexus, named by the shell for as long as it lasts; never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusId(pub u64);

/// An initiator port as its iSCSI TransportID names it (SPC-4 7.6.4.6).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InitiatorPort {
    /// iSCSI node name.
    pub name: String,
    /// Initiator session id.
    pub isid: [u8; 6],
}

/// The target port through which a nexus came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetPort {
    /// iSCSI node name of the target.
    pub name: String,
    /// Target portal group tag.
    pub portal_group: u16,
    /// RELATIVE TARGET PORT IDENTIFIER, 1 or more.
    pub relative_id: u16,
}

/// Both ends of an I_T nexus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NexusPorts {
    /// Initiator port.
    pub initiator: InitiatorPort,
    /// Target port.
    pub target: TargetPort,
}

/// What the logical unit is; changes only together with a unit attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitIdentity {
    /// Volume number behind it.
    pub number: VolumeNumber,
    /// The volume is meant as a mirror: the product is "MIRROR", else "VOLUME".
    pub mirror_class: bool,
    /// Bytes per logical block: 512 or 4096.
    pub block_size: u32,
    /// Bytes per physical block: `block_size` times a power of two.
    pub physical_block_size: u32,
    /// Capacity in logical blocks, at least 1.
    pub blocks: u64,
    /// Thin provisioned: LBPME, UNMAP, GET LBA STATUS.
    pub thin: bool,
    /// RMB.
    pub removable: bool,
    /// NAA type 6 designator, 16 bytes.
    pub naa: [u8; 16],
    /// EUI-64 designator.
    pub eui64: [u8; 8],
    /// UUID designator (SPC-5 7.7.6.12).
    pub uuid: [u8; 16],
    /// Unit serial number, ASCII.
    pub serial: String,
}

impl UnitIdentity {
    /// Capacity in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }
}

/// How hosts reach, through this system, a unit that another system shows them as well (SPC-4 5.15): by a target port group of this
/// system's own, whose state nobody sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedAccess {
    /// TARGET PORT GROUP, 1 or more; the other system's is another.
    pub target_port_group: u16,
    /// The group is active/optimized; else it is standby, because hosts are to use the other system.
    pub active: bool,
    /// Who comes through this target has no path to the other system, and is sent there when that leads. Until then a group that is not
    /// active is transitioning instead of in standby: hosts try again.
    pub one_path: bool,
}

/// May this nexus send C0h and C1h?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlAccess {
    /// There is no replication here: 20h/00h.
    None,
    /// The initiator may not: 20h/02h.
    Denied,
    /// Yes.
    Granted,
}

/// What holds for one command: handed to [`crate::device_server::DeviceServer::plan`] with each.
#[derive(Debug, Clone, Copy)]
pub struct UnitFacts<'a> {
    /// Geometry and names.
    pub identity: &'a UnitIdentity,
    /// The volume answers hosts.
    pub ready: bool,
    /// This nexus may not write.
    pub read_only: bool,
    /// LUNs that this initiator sees, ascending.
    pub luns: &'a [u16],
    /// The ports of the target that was asked.
    pub target_ports: &'a [TargetPort],
    /// Replication control.
    pub control: ControlAccess,
    /// Another system shows the unit too.
    pub shared: Option<SharedAccess>,
}
