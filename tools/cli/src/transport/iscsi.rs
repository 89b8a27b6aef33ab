//! x
use super::{
    TransportError,
    in_band::{Completion, InBand, PassThrough},
};
pub(crate) struct IscsiSession;
impl IscsiSession {
    pub(crate) fn login(url: &str) -> Result<InBand<Self>, TransportError> {
        Err(TransportError::new(url, "x"))
    }
}
impl PassThrough for IscsiSession {
    fn command(&mut self, _: [u8; 16], _: &[u8], _: u32) -> Result<Completion, TransportError> {
        Err(TransportError::new("", "x"))
    }
    fn name(&self) -> &str {
        ""
    }
}
