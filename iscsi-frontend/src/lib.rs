//! The iSCSI target: sockets and sessions around iscsi-proto.
//!
//! [`Frontend::bind`] opens the portals, [`Frontend::run`] serves them until it is told to stop. One task per session
//! reads what its sockets have, handles every whole PDU of it and sends all answers with one vectored write to each.

mod arrival;
mod asynchronous;
mod at_once;
mod command;
mod config;
mod data_out;
mod dispatch;
mod ending;
mod frontend;
mod homes;
mod isns;
mod joining;
mod link;
mod listener;
mod login;
mod logins;
mod logout;
mod looking;
mod reassignment;
mod response_fence;
mod session;
mod sessions;
mod snack;
mod socket;
mod statistics;
mod straight;
mod task_management;
mod tasks;
mod text;
mod waiting;

pub use config::{
    ConfigError, FrontendConfig, InitiatorRule, IsnsConfig, Moved, Portal, TargetAccess, Tuning,
};
pub use frontend::{Frontend, Guide};
pub use homes::Homes;
pub use listener::BindError;
pub use sessions::SessionInfo;

pub use iscsi_proto::{
    chap::{Algorithm, Credentials, Secret},
    login::AuthPolicy,
    negotiation::{DigestKind, Offer},
    nop::KeepaliveTimes,
};
