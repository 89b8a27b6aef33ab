//! End-to-end tests: they need a running daemon and real initiators.
