//! RFC 7143 as pure machines: framing, negotiation, login, sequencing.
//!
//! Bytes and events go in, PDUs and effects come out; nothing here reads a socket, a clock or a random source.
//!
//! * [`bhs`], [`framer`], [`digest`]: what is on the wire.
//! * [`text`], [`keys`], [`negotiation`], [`limits`]: text keys and what the two sides agree on.
//! * [`login`], [`chap`], [`discovery`], [`initiator`]: the phases before full feature phase, from both sides.
//! * [`isns`]: the client of a name server (RFC 4171).
//! * [`session`], [`data_flow`], [`kept`]: sequence numbers, the plan of a data transfer, answers kept for recovery.
//! * [`task_management`], [`nop`], [`logout`], [`reject`], [`misbehaviour`]: everything else of full feature phase.

pub mod bhs;
pub mod chap;
pub mod data_flow;
pub mod digest;
pub mod discovery;
pub mod framer;
pub mod initiator;
pub mod isns;
pub mod kept;
pub mod keys;
pub mod limits;
pub mod login;
pub mod logout;
pub mod misbehaviour;
pub mod negotiation;
pub mod nop;
pub mod reject;
pub mod session;
pub mod task_management;
pub mod text;
