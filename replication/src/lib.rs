//! The replication engine's shell: journal file, copy workers, paired volumes.
