//! The way to another system: what a link is to the array.

use std::{future::Future, pin::Pin};

use link_proto::{Request, Response};
use target_core::scsi_model::control::SystemId;

use crate::link::Links;

/// The answer to a request, or why there is none.
pub type PathFuture = Pin<Box<dyn Future<Output = Result<Response, NoPath>> + Send>>;

/// The request was not answered: the link is down, or went down before the answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoPath(pub String);

/// The links of this system.
pub trait Paths: Send + Sync + 'static {
    /// Sends a request. Those to one system go out in the order of these calls, not in that in which the futures are polled.
    fn request(&self, peer: &SystemId, request: Request) -> PathFuture;

    /// Is the system a configured peer?
    fn knows(&self, peer: &SystemId) -> bool;

    /// Is the link there?
    fn is_up(&self, peer: &SystemId) -> bool;
}

impl Paths for Links {
    fn request(&self, peer: &SystemId, request: Request) -> PathFuture {
        let Some(peer) = self.peer(peer) else {
            let reason = format!("{peer} is not a configured peer");
            return Box::pin(std::future::ready(Err(NoPath(reason))));
        };
        let answer = peer.request(request);
        Box::pin(async move { answer.await.map_err(|error| NoPath(error.to_string())) })
    }

    fn knows(&self, peer: &SystemId) -> bool {
        self.peer(peer).is_some()
    }

    fn is_up(&self, peer: &SystemId) -> bool {
        self.peer(peer).is_some_and(|peer| peer.is_up())
    }
}
