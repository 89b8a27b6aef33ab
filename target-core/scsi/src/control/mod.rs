//! The replication command set carried in band (docs/control-cdb.md): what was asked ([`request`]), what is
//! answered ([`reply`]), and how both look on the wire ([`cdb`], [`wire`], and `refusal_sense` for refusals).
//!
//! There is one [`Request`] value behind the CDBs, the admin socket and the command line, and one executor of it
//! (`replication::control`). This module knows the bytes; it does not know what a pair is.

pub mod cdb;
mod refusal_sense;
pub mod reply;
pub mod request;
pub mod wire;

pub use cdb::{DecodedCdb, EncodedCdb, decode_cdb, encode_cdb};
pub use refusal_sense::{refusal_of, sense_of};
pub use wire::{DecodedReply, EncodedReply, ReplyError, decode_reply, encode_reply};

pub use reply::{
    Capabilities, CopyTableEntry, PairDescriptor, PendingExtent, Preview, Reason, Refusal, RefusalKind,
    Reply, VerifySummary, VolumeDescriptor,
};
pub use request::{
    Condition, CopyMode, Flags, OnLinkLoss, OutVerb, PairSelector, PendingSide, Request, SystemId,
    VolumeNumber, VolumePair,
};
