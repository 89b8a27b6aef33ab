//! Pairs, track locks, bitmaps, journal records and recovery as one pure machine: inputs in, effects out, time as an
//! argument. How it works: docs/engine.md. What it promises: docs/pairs.md.
//!
//! | part | modules |
//! |---|---|
//! | the interface | [`engine`], [`effects`], [`command`], [`events`], [`ids`], [`limits`] |
//! | what is kept | [`state`], [`transition_table`], [`bitmap`], [`pair_bits`], [`track`], [`journal`], `pair`, `family` |
//! | the life of an I/O | [`passage`], [`track_lock`], `host_op`, `plan`, `obstacles`, `heat`, `repair` |
//! | copies | `copier`, `crossing`, `settle` |
//! | remote pairs | [`remote`] |
//! | changes of state | `commands`, `validation`, `verbs`, `change`, `gates`, `faults`, `resume`, `recovery` |

pub mod bitmap;
pub mod check;
pub mod command;
pub mod effects;
pub mod engine;
pub mod events;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod mutation;
pub mod pair_bits;
pub mod passage;
pub mod recovery;
pub mod remote;
pub mod state;
pub mod track;
pub mod track_lock;
pub mod transition_table;

mod change;
mod commands;
mod copier;
mod crossing;
mod family;
mod faults;
mod gates;
mod heat;
mod host_op;
mod job;
mod obstacles;
mod pace;
pub mod pacer;
mod pair;
mod plan;
mod repair;
mod resume;
mod settle;
mod validation;
mod verbs;
mod view;

pub use engine::Engine;
pub use limits::{EngineConfig, Limits};
pub use mutation::Mutation;
