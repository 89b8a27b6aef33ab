//! Bounds on everything a peer can make us hold or wait for.
