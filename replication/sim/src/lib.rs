//! A seeded simulator of the replication engine: disks that lose writes, kills, an oracle.
