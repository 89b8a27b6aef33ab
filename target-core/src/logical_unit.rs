//! A logical unit: a volume and the device server in front of it.

use std::sync::Arc;

use crate::{control::ArrayControl, volume::Volume};

/// A volume with its device server; shared by every target and nexus that maps it.
pub struct LogicalUnit {
    volume: Arc<dyn Volume>,
    control: Option<Arc<dyn ArrayControl>>,
}

impl LogicalUnit {
    /// The volume behind it.
    pub fn volume(&self) -> &Arc<dyn Volume> {
        &self.volume
    }

    /// Who executes C0h and C1h commands; without it they are invalid operation codes.
    pub fn control(&self) -> Option<&Arc<dyn ArrayControl>> {
        self.control.as_ref()
    }
}

impl std::fmt::Debug for LogicalUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogicalUnit({})", self.volume.info().name)
    }
}
