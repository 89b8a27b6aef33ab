//! Task management functions (RFC 7143 11.5, 11.6, and those of RFC 7144).

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
    /// 9: is the task with the referenced task tag there? (RFC 7144.)
    QueryTask,
    /// 10: is any task of this session on the logical unit? (RFC 7144.)
    QueryTaskSet,
    /// 11: I_T nexus loss on every logical unit; the session goes on (RFC 7144).
    ItNexusReset,
    /// 12: is a unit attention pending on the logical unit? (RFC 7144.)
    QueryAsynchronousEvent,
}

/// The iSCSIProtocolLevel from which on there are the functions of RFC 7144.
const LEVEL_OF_RFC_7144: u8 = 2;

impl TaskManagementFunction {
    /// By its code, `None` for codes that the negotiated iSCSIProtocolLevel does not have.
    pub fn from_code(code: u8, protocol_level: u8) -> Option<Self> {
        Some(match code {
            1 => Self::AbortTask,
            2 => Self::AbortTaskSet,
            3 => Self::ClearAca,
            4 => Self::ClearTaskSet,
            5 => Self::LogicalUnitReset,
            6 => Self::TargetWarmReset,
            7 => Self::TargetColdReset,
            8 => Self::TaskReassign,
            _ if protocol_level < LEVEL_OF_RFC_7144 => return None,
            9 => Self::QueryTask,
            10 => Self::QueryTaskSet,
            11 => Self::ItNexusReset,
            12 => Self::QueryAsynchronousEvent,
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
    /// Function succeeded: what was asked about is there (RFC 7144).
    Succeeded = 7,
    /// Function rejected.
    Rejected = 255,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_rfc_7144_need_their_level() {
        for code in 9..=12 {
            assert_eq!(TaskManagementFunction::from_code(code, 1), None);
            assert!(TaskManagementFunction::from_code(code, 2).is_some());
        }
        assert!((1..=8).all(|code| TaskManagementFunction::from_code(code, 0).is_some()));
        assert!([0, 13, 0x7f].map(|code| TaskManagementFunction::from_code(code, 31)) == [None; 3]);
    }
}
