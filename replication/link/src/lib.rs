//! The link between two systems, as pure machines: bytes or inputs in, frames or events out, time as an argument.
//! The bytes are described in docs/link.md.
//!
//! | part | modules |
//! |---|---|
//! | bytes | [`header`], [`frame`], [`packing`], `fields`, `decode`, `encode` |
//! | what is said | [`message`], [`request`], [`response`] |
//! | one connection | [`session`] |
//! | which connection counts, and when to try again | [`contest`], [`reconnect`] |

pub mod contest;
mod decode;
mod encode;
mod fields;
pub mod frame;
pub mod header;
pub mod message;
pub mod packing;
pub mod reconnect;
pub mod request;
pub mod response;
pub mod session;

pub use frame::{Encoded, Frame, FrameError, Sealed};
pub use message::{Farewell, Hello, Message, Refusal, RefusalCause};
pub use packing::{Compression, Packer, Unpacker};
pub use request::{Action, PairOrder, Request, VolumeName};
pub use response::{Description, FailureCode, PairReport, Response, Run};
pub use scsi_model::control::{CopyMode, SystemId};
pub use session::{Ended, Event, Session, SessionConfig};
