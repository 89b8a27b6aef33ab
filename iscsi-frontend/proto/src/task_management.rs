//! Task management functions (RFC 7143 11.5, 11.6).

/// What is asked (RFC 7143 11.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskManagementFunction {
    /// 1: abort the task with the referenced task tag.
    AbortTask,
    /// 2: abort all tasks of this session on the logical unit.
    AbortTaskSet,
    /// 3: clear ACA.
    ClearAca,
    /// 4: abort all tasks of all sessions on the logical unit.
    ClearTaskSet,
    /// 5: reset the logical unit.
    LogicalUnitReset,
    /// 6: reset all logical units.
    TargetWarmReset,
    /// 7: as 6, and drop all connections.
    TargetColdReset,
    /// 8: give a task another connection.
    TaskReassign,
}

impl TaskManagementFunction {
    /// By its code, `None` for codes of other protocol levels.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::AbortTask,
            2 => Self::AbortTaskSet,
            3 => Self::ClearAca,
            4 => Self::ClearTaskSet,
            5 => Self::LogicalUnitReset,
            6 => Self::TargetWarmReset,
            7 => Self::TargetColdReset,
            8 => Self::TaskReassign,
            _ => return None,
        })
    }
}

/// How it went (RFC 7143 11.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TaskManagementOutcome {
    /// Function complete.
    Complete = 0,
    /// Task does not exist.
    TaskDoesNotExist = 1,
    /// LUN does not exist.
    LunDoesNotExist = 2,
    /// Task still allegiant.
    TaskStillAllegiant = 3,
    /// Task allegiance reassignment not supported.
    ReassignmentNotSupported = 4,
    /// Task management function not supported.
    NotSupported = 5,
    /// Function authorization failed.
    AuthorizationFailed = 6,
    /// Function rejected.
    Rejected = 255,
}
