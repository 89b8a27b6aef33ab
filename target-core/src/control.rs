//! The second seam between the frontend and replication: [`ArrayControl`] executes what C0h/C1h CDBs, the admin
//! socket and the command line ask for.

use std::{future::Future, pin::Pin};

use scsi_model::control::{Refusal, Reply, Request};

/// A boxed future of an answer.
pub type ControlFuture = Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send + 'static>>;

/// Executes replication requests. `replication::Array` is the one implementation; without replication there is
/// none and C0h/C1h are invalid operation codes.
pub trait ArrayControl: Send + Sync + 'static {
    /// Executes one request. An OUT request is answered once its state change is durable; copying goes on behind.
    fn execute(&self, request: Request) -> ControlFuture;
}
