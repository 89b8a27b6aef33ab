//! Logout (RFC 7143 11.14, 11.15).

/// What is to be closed (RFC 7143 11.14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogoutReason {
    /// 0: the session.
    CloseSession,
    /// 1: the connection named by the CID.
    CloseConnection,
    /// 2: the connection named by the CID, its tasks to be reassigned.
    RemoveForRecovery,
}

impl LogoutReason {
    /// By its code.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::CloseSession),
            1 => Some(Self::CloseConnection),
            2 => Some(Self::RemoveForRecovery),
            _ => None,
        }
    }
}

/// The answer (RFC 7143 11.15.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LogoutOutcome {
    /// Connection or session closed.
    Closed = 0,
    /// CID not found.
    CidNotFound = 1,
    /// Connection recovery is not supported.
    RecoveryNotSupported = 2,
    /// Cleanup failed.
    CleanupFailed = 3,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_codes_are_there() {
        assert_eq!(LogoutReason::from_code(1), Some(LogoutReason::CloseConnection));
        assert_eq!(LogoutReason::from_code(3), None);
    }
}
