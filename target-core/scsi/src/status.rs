//! SCSI status codes (SAM-5 5.3.1).

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// 00h.
    Good = 0x00,
    /// 02h: sense data tells why.
    CheckCondition = 0x02,
    /// 04h: PRE-FETCH found room for everything.
    ConditionMet = 0x04,
    /// 08h: try again later.
    Busy = 0x08,
    /// 18h.
    ReservationConflict = 0x18,
    /// 28h: the queue is full.
    TaskSetFull = 0x28,
    /// 40h: aborted by another nexus while TAS is one.
    TaskAborted = 0x40,
}
