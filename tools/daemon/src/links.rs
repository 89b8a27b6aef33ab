//! The link to other systems, and what is done for them.

use std::sync::Arc;

use replication::{
    Array,
    events::{ArrayEvent, Level},
    link::{LinkService, LinkStartError, Links, Request, Response, service::Serving},
};
use target_core::scsi_model::control::SystemId;

use crate::config::Config;

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
    Ok(Some(links))
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
        self.array.events().push(ArrayEvent::Told {
            kind: "link",
            level,
            text,
        });
    }
}
