//! Pairs, track locks, bitmaps, journal records and recovery as a pure machine.
