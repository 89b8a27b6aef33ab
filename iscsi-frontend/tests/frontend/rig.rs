//! A frontend on a free loopback port.

use std::{net::SocketAddr, sync::Arc};

use iscsi_frontend::{Frontend, FrontendConfig, Homes, TargetAccess};
use iscsi_proto::negotiation::Offer;
use target_core::{
    initiator_pattern::InitiatorPattern,
    logical_unit::LogicalUnit,
    target::{Access, AccessRules, LunEntry, Target},
    unit_state::UnitStateStore,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    held_volume::HeldVolume,
    initiator::{Initiator, config},
};

pub(crate) const TARGET: &str = "iqn.2026-11.io.holdfast:test";

/// Sees the unit under [`OTHER_LUN`]; everybody else under LUN 0.
pub(crate) const OTHER: &str = "iqn.test:other";
pub(crate) const OTHER_LUN: u8 = 4;

const BYTES: u64 = 32 << 20;

pub(crate) struct Rig {
    pub(crate) volume: Arc<HeldVolume>,
    pub(crate) frontend: Arc<Frontend>,
    pub(crate) address: SocketAddr,
    pub(crate) config: FrontendConfig,
    pub(crate) shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts with a configuration that `change` has changed.
    pub(crate) fn start_with(change: impl FnOnce(&mut FrontendConfig)) -> Self {
        let volume = HeldVolume::new(BYTES);
        let unit = LogicalUnit::new(volume.clone(), None, UnitStateStore::ephemeral()).unwrap();
        let access = |lun| Access {
            control: false,
            luns: vec![LunEntry {
                lun,
                unit: unit.clone(),
                read_only: false,
            }],
        };
        let mut rules = AccessRules::for_all(access(0));
        let other = InitiatorPattern::exactly(OTHER);
        rules.0.insert(other, access(u16::from(OTHER_LUN)));
        let target = Target::new(TARGET, rules);
        let mut config = FrontendConfig {
            targets: vec![TargetAccess::open(target)],
            ..FrontendConfig::default()
        };
        config.tuning.logout_grace = std::time::Duration::ZERO;
        change(&mut config);
        // The port is found first, so that the same configuration can be applied again.
        let (frontend, address) = loop {
            let address = free_address();
            config.portals = vec![address.into()];
            if let Ok(frontend) = Frontend::bind(config.clone(), Homes::default()) {
                break (Arc::new(frontend), address);
            }
        };
        assert_eq!(frontend.addresses(), [address]);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let (frontend, shutdown) = (frontend.clone(), shutdown.clone());
            async move { frontend.run(shutdown).await }
        });
        Self {
            volume,
            frontend,
            address,
            config,
            shutdown,
            running,
        }
    }

    pub(crate) async fn login(&self, name: &str) -> Initiator {
        self.login_with(name, Offer::default()).await
    }

    pub(crate) async fn login_with(&self, name: &str, keys: Offer) -> Initiator {
        Initiator::login(self.address, config(name, Some(TARGET), keys))
            .await
            .unwrap()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}

pub(crate) fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
