//! Pairs, track locks, bitmaps, journal records and recovery as one pure machine: inputs in, effects out, time as an
//! argument. How it works: docs/engine.md. What it promises: docs/pairs.md.

pub mod command;
pub mod effects;
pub mod events;
pub mod ids;
pub mod bitmap;
pub mod journal;
pub mod pair_bits;
pub mod state;
pub mod track;
pub mod track_lock;
pub mod transition_table;
