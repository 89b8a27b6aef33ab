//! Targets with `redirect`: initiators that have one session are sent to the system that leads the shared units.
//!
//! A target is to be used through the other system while every shared unit of it is led there, and this system knows so of this moment
//! ([`Array::is_led_elsewhere`]). Two systems never know that of each other, so nobody is sent in circles; who does not know serves.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use iscsi_frontend::{Frontend, Guide};
use replication::{
    Array,
    events::{ArrayEvent, Level},
};
use target_core::scsi_model::control::VolumeNumber;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, service::Service};

/// Which targets are so, and where their initiators are sent.
pub(crate) struct Redirecting {
    array: Arc<Array>,
    /// By target.
    targets: Mutex<BTreeMap<String, Redirect>>,
}

struct Redirect {
    /// A portal of the other system.
    to: SocketAddr,
    /// The shared volumes of the target.
    volumes: Vec<VolumeNumber>,
    /// It was to be used there, when that was looked at last.
    is_elsewhere: bool,
}

impl Redirecting {
    /// Those of this configuration.
    pub(crate) fn new(array: Arc<Array>, config: &Config) -> Arc<Self> {
        let targets = Mutex::new(redirects(config));
        Arc::new(Self { array, targets })
    }

    /// The configuration is this from now on.
    pub(crate) fn set(&self, config: &Config) {
        let mut targets = self.targets();
        let mut new = redirects(config);
        for (target, redirect) in &mut new {
            let before = targets.get(target);
            redirect.is_elsewhere =
                before.is_some_and(|before| before.to == redirect.to && before.is_elsewhere);
        }
        *targets = new;
    }

    /// Tells the frontend when a target is to be used elsewhere from now on, or no more.
    pub(crate) fn look(&self, frontend: &Frontend) {
        let mut changed = false;
        for (target, redirect) in self.targets().iter_mut() {
            let is_elsewhere = self.is_elsewhere(redirect);
            if is_elsewhere == redirect.is_elsewhere {
                continue;
            }
            (redirect.is_elsewhere, changed) = (is_elsewhere, true);
            let text = if is_elsewhere {
                format!("initiators of {target} are sent to {}", redirect.to)
            } else {
                format!("initiators of {target} are served here")
            };
            self.array.events().push(ArrayEvent::Told {
                kind: "access",
                level: Level::Info,
                text,
            });
        }
        if changed {
            frontend.follow();
        }
    }

    fn is_elsewhere(&self, redirect: &Redirect) -> bool {
        let mut volumes = redirect.volumes.iter();
        !redirect.volumes.is_empty() && volumes.all(|volume| self.array.is_led_elsewhere(*volume))
    }

    fn targets(&self) -> MutexGuard<'_, BTreeMap<String, Redirect>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guide for Redirecting {
    fn elsewhere(&self, target: &str) -> Option<String> {
        let targets = self.targets();
        let redirect = targets.get(target)?;
        self.is_elsewhere(redirect).then(|| redirect.to.to_string())
    }
}

fn redirects(config: &Config) -> BTreeMap<String, Redirect> {
    let redirects = config.targets.values().filter_map(|target| {
        let volumes = target.shared(&config.volumes);
        let redirect = Redirect {
            to: target.redirect?,
            volumes: volumes.map(|(number, _)| VolumeNumber(number)).collect(),
            is_elsewhere: false,
        };
        Some((target.iqn.clone(), redirect))
    });
    redirects.collect()
}

/// Looks whenever something has changed, until the daemon stops.
pub(crate) async fn run(service: Arc<Service>, stop: CancellationToken) {
    let mut changes = service.array.changes();
    loop {
        service.redirect();
        tokio::select! {
            () = stop.cancelled() => return,
            () = changes.changed() => {}
        }
    }
}
