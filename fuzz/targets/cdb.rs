#![no_main]
//! Any sequence of CDBs with any data from two nexuses: each is planned or refused, never a panic.
use libfuzzer_sys::fuzz_target;
use scsi_model::{
    control::VolumeNumber,
    device_server::DeviceServer,
    unit::{ControlAccess, InitiatorPort, NexusId, NexusPorts, SharedAccess, TargetPort, UnitFacts, UnitIdentity},
};

fn ports(number: u8) -> NexusPorts {
    NexusPorts {
        initiator: InitiatorPort { name: format!("iqn.2026-11.io.holdfast:host-{number}"), isid: [number; 6] },
        target: TargetPort { name: "iqn.2026-11.io.holdfast:t".to_owned(), portal_group: 1, relative_id: 1 },
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, mut rest)) = data.split_first() else { return };
    let block_size = if kind & 1 == 0 { 512 } else { 4096 };
    let identity = UnitIdentity {
        number: VolumeNumber(1),
        mirror_class: kind & 2 != 0,
        block_size,
        physical_block_size: 4096,
        blocks: if kind & 4 == 0 { 2048 } else { 1 << 40 },
        thin: kind & 8 != 0,
        removable: kind & 16 != 0,
        naa: [0x60; 16],
        eui64: [2; 8],
        uuid: [4; 16],
        serial: "0123456789abcdef".to_owned(),
    };
    let facts = UnitFacts {
        identity: &identity,
        ready: kind & 32 == 0,
        read_only: kind & 64 != 0,
        luns: &[0, 1, 300],
        target_ports: &[],
        control: if kind & 128 == 0 { ControlAccess::Granted } else { ControlAccess::Denied },
        shared: (kind & 96 == 96).then_some(SharedAccess { target_port_group: 2, active: kind & 32 == 0, one_path: kind & 16 == 0 }),
    };
    let mut server = DeviceServer::default();
    for nexus in [1, 2] {
        server.attach(NexusId(nexus), ports(nexus as u8));
    }
    // Each command: who and how long the CDB is, how much data, the CDB, the data.
    while let [who, length, tail @ ..] = rest {
        let cdb = (usize::from(who >> 1) % 17).min(tail.len());
        let (cdb, tail) = tail.split_at(cdb);
        let (out, next) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = next;
        let _ = server.plan(NexusId(u64::from(who & 1) + 1), cdb, out, &facts);
    }
});
