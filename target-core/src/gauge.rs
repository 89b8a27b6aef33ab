//! What is told of a unit in its log pages: what hosts did with it, and the space under it.

use scsi_model::{log_pages::IoStatistics, logical_block_provisioning::Space};

use crate::volume::IoFuture;

/// Who knows both.
pub trait Gauge: Send + Sync {
    /// Counters since the start.
    fn statistics(&self) -> IoStatistics;

    /// The space, if the store can tell.
    fn space(&self) -> IoFuture<Option<Space>>;
}
