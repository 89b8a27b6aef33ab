//! The Internet Storage Name Service, as a target uses it (RFC 4171): initiators ask a server of that service where targets are.
//!
//! * [`message`]: messages and the PDUs they travel in.
//! * [`attribute`]: what messages are made of.
//! * [`registration`]: what a server is to know, and the requests that say so.
//! * [`client`]: when which request is sent, and what its answer means.
//! * [`esi`]: the server asks whether a portal is still there.
//!
//! Authentication blocks (RFC 4171 5.5.1) are neither sent nor checked.

pub mod attribute;
pub mod client;
pub mod esi;
pub mod message;
pub mod registration;

#[cfg(test)]
mod tests;
