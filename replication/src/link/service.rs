//! What a system does for its peers.

use link_proto::{Request, Response, SystemId};
use std::pin::Pin;

/// An answer in the making. It is polled by a task of its own, or, for ordered requests, after the ones before it.
pub type Serving = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Carries out what peers ask.
pub trait LinkService: Send + Sync + 'static {
    /// Called in the order in which the requests arrived; must not wait. The answers of [`Request::ordered`] ones are
    /// awaited one after another, in that order, and the next is not polled before the one before it has ended; others
    /// are awaited at the same time, as many as this system said it takes. An answer is awaited to its end also when
    /// the connection is lost meanwhile, and the peer is not connected anew before that: work that takes long is to be
    /// handed to a task, and asked after.
    fn serve(&self, peer: &SystemId, request: Request) -> Serving;

    /// Carries out a write that has nothing in its way, and answers it. `None`: nothing was done; [`LinkService::serve`] is called. Called only
    /// when every ordered request before an ordered one is answered.
    fn write_at_once(&self, _peer: &SystemId, _request: &Request) -> Option<Response> {
        None
    }

    /// The peer is connected: called before any of its requests. Requests to it can be made from now on.
    fn up(&self, peer: &SystemId, boot: u128);

    /// The connection is over: called after every answer of it has ended and every request to the peer has failed.
    fn down(&self, peer: &SystemId, reason: &str);
}
