//! The metadata journal: what must survive, as records, as bytes, and as the image that replaying them gives.
//!
//! - [`Record`]: what the engine says happened ([`crate::effects::Effect::Journal`]).
//! - [`Header`], [`Writer`], [`parse`]: a journal file as bytes, described byte by byte in docs/journal.md.
//! - [`Image`]: volumes, pairs, bitmaps and hot regions as the records so far make them. The engine starts from one, and
//!   a fresh journal file begins with the records of one.
//!
//! The file itself is the shell's: it appends, makes durable, and replaces a file by a fresh one when it has grown.

mod codec;
mod file;
mod image;
mod lost;
mod record;
#[cfg(test)]
mod tests;

pub use codec::RecordError;
pub use file::{Entry, HEADER_BYTES, Header, Journal, JournalError, VERSION, Writer, parse};
pub use image::{Image, PairImage, ReplayError, VolumeImage};
pub use record::{Hold, MarkWord, Member, PairMeta, Record, StateChange, VolumeConfig};
