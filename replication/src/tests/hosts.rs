//! Hosts on the volumes of an array: SCSI commands through nexuses, and what each host hears.

use target_core::{
    logical_unit::LogicalUnit,
    scsi_model::sense::Sense,
    target::{
        Access, AccessRules, Execution, InitiatorPort, LunEntry, Nexus, ScsiCommand, ScsiResponse, Target,
        TaskAttribute,
    },
    unit_state::UnitStateStore,
};

use super::*;

pub(crate) const BLOCK: usize = 512;

/// A target whose LUNs are the array's volumes, by number.
pub(crate) struct Hosts {
    pub(crate) rig: Rig,
    pub(crate) units: Vec<Arc<LogicalUnit>>,
    target: Arc<Target>,
}

impl Hosts {
    pub(crate) fn on(rig: Rig) -> Self {
        let control: Arc<dyn ArrayControl> = rig.array.clone();
        let unit = |number: u32| {
            let control = Some(Arc::clone(&control));
            LogicalUnit::new(rig.volume(number), control, UnitStateStore::ephemeral()).unwrap()
        };
        let units: Vec<_> = (1..=rig.plain.len() as u32).map(unit).collect();
        let entry = |(unit, lun): (&Arc<LogicalUnit>, u16)| LunEntry {
            lun,
            unit: unit.clone(),
            read_only: false,
        };
        let access = Access {
            control: true,
            luns: units.iter().zip(1..).map(entry).collect(),
        };
        let target = Target::new("iqn.2026-11.test:t", AccessRules::for_all(access));
        Self { rig, units, target }
    }

    /// A host that has heard of the power on of every unit.
    pub(crate) async fn host(&self, name: &str) -> Host {
        let port = InitiatorPort {
            name: name.to_owned(),
            isid: [1; 6],
        };
        let host = Host(self.target.attach(port, 1));
        for lun in 1..=self.units.len() as u8 {
            assert_eq!(host.hears(lun).await, Some((6, 0x29, 0)));
        }
        host
    }
}

/// A path of one host to the target.
pub(crate) struct Host(pub(crate) Arc<Nexus>);

impl Host {
    pub(crate) fn begin(&self, lun: u8, cdb: &[u8], data_out: &[u8]) -> Execution {
        let mut padded = cdb.to_vec();
        padded.resize(16, 0);
        self.0.execute(ScsiCommand {
            lun: [0, lun, 0, 0, 0, 0, 0, 0],
            cdb: Bytes::from(padded),
            attribute: TaskAttribute::Simple,
            data_out: Bytes::copy_from_slice(data_out),
            data_in_limit: 8 << 20,
        })
    }

    pub(crate) async fn run(&self, lun: u8, cdb: &[u8], data_out: &[u8]) -> ScsiResponse {
        match self.begin(lun, cdb, data_out) {
            Execution::Done(response) => response,
            Execution::Later(future) => tokio::time::timeout(SOON, future).await.expect("it ends"),
        }
    }

    /// A command that must end GOOD, and its data.
    pub(crate) async fn good(&self, lun: u8, cdb: &[u8], data_out: &[u8]) -> Bytes {
        let response = self.run(lun, cdb, data_out).await;
        assert_eq!(response.status, 0, "{cdb:02x?}: {:?}", sense(&response));
        response.data_in
    }

    /// TEST UNIT READY's sense.
    pub(crate) async fn hears(&self, lun: u8) -> Option<(u8, u8, u8)> {
        sense(&self.run(lun, &[0; 6], &[]).await)
    }

    /// READ(16).
    pub(crate) async fn read(&self, lun: u8, lba: u64, blocks: u32) -> Bytes {
        self.good(lun, &cdb16(0x88, 0, lba, blocks), &[]).await
    }

    /// A C1h command on two volumes.
    pub(crate) async fn out(&self, action: u8, flags: u8, primary: u32, mirror: u32) -> ScsiResponse {
        self.run(
            primary as u8,
            &control(0xc1, action, flags, (primary, mirror), 0),
            &[],
        )
        .await
    }
}

pub(crate) fn sense(response: &ScsiResponse) -> Option<(u8, u8, u8)> {
    let sense = Sense::decode(&response.sense)?;
    Some((sense.key as u8, sense.additional.code, sense.additional.qualifier))
}

pub(crate) fn cdb16(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    let mut cdb = vec![opcode, flags];
    cdb.extend(lba.to_be_bytes());
    cdb.extend(blocks.to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

/// A C0h or C1h CDB (docs/control-cdb.md); `select` is byte 2, `length` bytes 12-14.
pub(crate) fn control(opcode: u8, action: u8, select: u8, pair: (u32, u32), length: u32) -> Vec<u8> {
    let mut cdb = vec![opcode, action, select, 0];
    cdb.extend(pair.0.to_be_bytes());
    cdb.extend(pair.1.to_be_bytes());
    cdb.extend(&length.to_be_bytes()[1..]);
    cdb.push(0);
    cdb
}

/// An array whose copies hardly move: what it takes for a pair to stay in a state. Holes cost nothing, so what is empty is
/// copied at once.
pub(crate) fn slow(volumes: u32) -> Rig {
    let limits = Limits {
        pace: 4096,
        copy_run_bytes: u64::from(TRACK),
        ..Limits::default()
    };
    Rig::with_limits(volumes, limits)
}

/// Volume 1 filled with a pattern and 1 -> 2 DUPLEX, on such an array.
pub(crate) async fn slow_duplex(volumes: u32) -> Hosts {
    let rig = slow(volumes);
    rig.establish((1, 2)).await;
    rig.await_state((1, 2), PairState::Duplex).await;
    rig.write(1, 0, pattern(1, SIZE as usize)).await.unwrap();
    Hosts::on(rig)
}
