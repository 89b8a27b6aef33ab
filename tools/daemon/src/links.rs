//! The link to other systems, and what is done for them.

use std::{
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use replication::{
    Array,
    events::{ArrayEvent, Level},
    link::{LinkService, LinkStartError, Links, Request, Response, service::Serving},
};
use target_core::scsi_model::control::SystemId;

use crate::config::Config;

const DAY: Duration = Duration::from_secs(86_400);
/// From so many days before its end on the certificate is told of.
const SOON_DAYS: u64 = 30;

/// Listens for peers and calls them; `None` when no link is configured.
pub(crate) async fn start(config: &Config, array: &Arc<Array>) -> anyhow::Result<Option<Arc<Links>>> {
    let Some(link) = &config.link else {
        return Ok(None);
    };
    let mut boot = [0; 16];
    getrandom::fill(&mut boot).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    let boot = u128::from_le_bytes(boot);
    let service = ForPeers {
        array: Arc::clone(array),
        boot,
    };
    let link = link.start_with(&config.system.id, boot, &config.peers);
    let started = Links::start(link, Arc::new(service)).await;
    let links = started.map_err(|error| match error {
        LinkStartError::Listen { .. } => anyhow::anyhow!("link.listen: {error}"),
        _ => error.into(),
    })?;
    array.connect(links.clone());
    tokio::spawn(watch_certificate(Arc::downgrade(&links), Arc::downgrade(array)));
    Ok(Some(links))
}

/// Says once a day that the certificate expires soon, or has: a link that is up goes on, and is not made again.
async fn watch_certificate(links: Weak<Links>, array: Weak<Array>) {
    loop {
        let (Some(links), Some(array)) = (links.upgrade(), array.upgrade()) else {
            return;
        };
        let warning = links
            .certificate_until()
            .and_then(|until| expiry(until, SystemTime::now()));
        if let Some(text) = warning {
            tell(&array, Level::Warning, text);
        }
        drop((links, array));
        tokio::time::sleep(DAY).await;
    }
}

fn expiry(until: SystemTime, now: SystemTime) -> Option<String> {
    let left = until.duration_since(now).unwrap_or_default();
    let days = left.as_secs() / DAY.as_secs();
    let renew = "`holdfast pki issue` makes another, which counts after a restart";
    if left.is_zero() {
        return Some(format!(
            "the certificate of the link has expired: no peer takes a new connection from here; {renew}"
        ));
    }
    (days < SOON_DAYS).then(|| format!("the certificate of the link expires in {days} days; {renew}"))
}

/// What this system does for its peers.
struct ForPeers {
    array: Arc<Array>,
    boot: u128,
}

impl LinkService for ForPeers {
    fn serve(&self, peer: &SystemId, request: Request) -> Serving {
        self.array.serve(peer, self.boot, request)
    }

    fn write_at_once(&self, peer: &SystemId, request: &Request) -> Option<Response> {
        self.array.serve_at_once(peer, request)
    }

    fn up(&self, peer: &SystemId, _: u128) {
        self.tell(Level::Info, format!("the link to {peer} is up"));
        self.array.link_found();
    }

    fn down(&self, peer: &SystemId, reason: &str) {
        self.tell(Level::Warning, format!("the link to {peer} is down: {reason}"));
        self.array.link_lost(peer, reason);
    }
}

impl ForPeers {
    fn tell(&self, level: Level, text: String) {
        tell(&self.array, level, text);
    }
}

fn tell(array: &Array, level: Level, text: String) {
    let kind = "link";
    array.events().push(ArrayEvent::Told { kind, level, text });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_expires_soon_is_told_of() {
        let until = SystemTime::UNIX_EPOCH + 100 * DAY;
        let on = |day: u32| expiry(until, SystemTime::UNIX_EPOCH + day * DAY);
        assert_eq!(on(70), None);
        assert!(on(71).is_some_and(|text| text.contains("in 29 days")));
        assert!(on(99).is_some_and(|text| text.contains("in 1 days")));
        assert!(on(100).is_some_and(|text| text.contains("has expired")));
        assert!(on(200).is_some_and(|text| text.contains("has expired")));
    }
}
