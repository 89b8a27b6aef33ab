//! Pooled data buffers: one per command in flight, never zeroed twice, handed back when idle.
