//! The link to other systems, and what is done for them.

use std::sync::Arc;

use replication::{
    Array,
    events::{ArrayEvent, Level},
    link::{
        Description, FailureCode, LinkService, LinkStartError, Links, Request, Response, VolumeName,
        service::Serving,
    },
};
use target_core::{scsi_model::control::SystemId, volume::Volume as _};

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
    Ok(Some(links))
}

/// What this system does for its peers.
struct ForPeers {
    array: Arc<Array>,
    boot: u128,
}

impl LinkService for ForPeers {
    fn serve(&self, _: &SystemId, request: Request) -> Serving {
        let response = match request {
            Request::Describe(name) => self.describe(&name),
            _ => Response::failed(FailureCode::Refused, "remote pairs are not there yet"),
        };
        Box::pin(async { response })
    }

    fn up(&self, peer: &SystemId, _: u128) {
        self.tell(Level::Info, format!("the link to {peer} is up"));
    }

    fn down(&self, peer: &SystemId, reason: &str) {
        self.tell(Level::Warning, format!("the link to {peer} is down: {reason}"));
    }
}

impl ForPeers {
    fn describe(&self, name: &VolumeName) -> Response {
        let found = self.array.volumes().into_iter().find(|volume| match name {
            VolumeName::Number(number) => volume.number().0 == *number,
            VolumeName::Name(name) => volume.info().name == *name,
        });
        let Some(volume) = found else {
            let named = match name {
                VolumeName::Number(number) => number.to_string(),
                VolumeName::Name(name) => format!("{name:?}"),
            };
            let text = format!("{} has no volume {named}", self.array.system());
            return Response::failed(FailureCode::NoSuchVolume, text);
        };
        let info = volume.info();
        Response::Described(Description {
            number: info.number.0,
            bytes: info.bytes(),
            block_size: info.block_size,
            track_size: self.array.track_size(),
            mirror_class: info.mirror_class,
            boot: self.boot,
            name: info.name.clone(),
        })
    }

    fn tell(&self, level: Level, text: String) {
        self.array.events().push(ArrayEvent::Told {
            kind: "link",
            level,
            text,
        });
    }
}
