//! In band: requests as C0h and C1h CDBs, through whatever passes SCSI commands through.

use scsi_model::control::{Reply, Request};

use super::{Answer, Transport, TransportError};

/// How a SCSI command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion {
    /// Status code (SAM-5 5.3.1).
    pub(crate) status: u8,
    /// Sense data; empty when there is none.
    pub(crate) sense: Vec<u8>,
    /// What came, at most what was asked for.
    pub(crate) data_in: Vec<u8>,
}

/// Passes SCSI commands through to one logical unit.
pub(crate) trait PassThrough {
    /// One command. It has data out or data in, or neither.
    fn command(&mut self, cdb: [u8; 16], data_out: &[u8], data_in: u32)
    -> Result<Completion, TransportError>;

    /// For messages.
    fn name(&self) -> &str;

    /// See [`Transport::kernel`].
    fn kernel(&self) -> bool {
        false
    }
}

/// Requests over a pass-through.
pub(crate) struct InBand<P> {
    way: P,
}

impl<P: PassThrough> InBand<P> {
    pub(crate) fn new(way: P) -> Self {
        Self { way }
    }
}

impl<P: PassThrough> Transport for InBand<P> {
    fn execute(&mut self, _request: &Request) -> Answer<Reply> {
        Err(TransportError::new(self.way.name(), "x"))
    }
    fn kernel(&self) -> bool {
        self.way.kernel()
    }
}
