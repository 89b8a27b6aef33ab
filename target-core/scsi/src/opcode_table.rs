//! The one table of what this device server implements. Dispatch, the check of reserved bits, the reservation rules
//! and REPORT SUPPORTED OPERATION CODES all come from it.

/// One command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opcode {
    /// The standard's name.
    pub name: &'static str,
    /// CDB USAGE DATA (SPC-4 6.29.3): the operation code, then a bit mask for each byte, with the value of the
    /// service action in place of its mask. Its length is the CDB's.
    pub usage: &'static [u8],
    /// SERVICE ACTION, if this operation code has them: the low five bits of byte 1, or bytes 8 and 9 of 7Fh.
    pub service_action: Option<u16>,
    /// Whom a reservation of another nexus keeps out.
    pub reservation: ReservationRule,
    /// What the unit must be for it.
    pub needs: Needs,
    /// Seconds: NOMINAL and RECOMMENDED COMMAND TIMEOUT.
    pub timeouts: (u32, u32),
    /// Who handles it.
    pub handler: Handler,
}

impl Opcode {
    /// OPERATION CODE.
    pub const fn code(&self) -> u8 {
        self.usage[0]
    }

    /// The first bit of `cdb` that must be zero and is not, as byte and bit. `cdb` is at least as long as the usage.
    pub fn reserved_bit(&self, cdb: &[u8]) -> Option<(u16, u8)> {
        for (index, (byte, usage)) in cdb.iter().zip(self.usage).enumerate().skip(1) {
            let of_service_action = match (self.service_action, self.code(), index) {
                (Some(_), VARIABLE_LENGTH, 8 | 9) => 0xFF,
                (Some(_), VARIABLE_LENGTH, _) | (None, ..) => 0,
                (Some(_), _, 1) => 0x1F,
                (Some(_), ..) => 0,
            };
            let wrong = byte & !(usage | of_service_action);
            if wrong != 0 {
                return Some((index as u16, 7 - wrong.leading_zeros() as u8));
            }
        }
        None
    }
}

/// Whom a reservation keeps out (SPC-4 table 50 and 51, SBC-3 table 13, and SPC-2 table 9 for RESERVE(6)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationRule {
    /// Nobody, not even a RESERVE(6).
    Never,
    /// Only a RESERVE(6) of another nexus.
    Reserve,
    /// Exclusive access keeps it out: the command reads.
    Reads,
    /// Every type keeps it out: the command writes or changes the unit.
    Writes,
    /// The command's own code decides.
    Own,
}

/// What the unit must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anything: the command works without a medium. INQUIRY, REPORT LUNS and REQUEST SENSE, which unit attentions
    /// let pass, are among these.
    Nothing,
    /// A volume that answers hosts, loaded.
    Medium,
    /// The same, and not write protected.
    WritableMedium,
}

/// Which code handles a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the command of its name")]
pub enum Handler {
    TestUnitReady,
    RequestSense,
    FormatUnit,
    Read,
    Write,
    WriteAtomic,
    Inquiry,
    ModeSelect,
    Reserve,
    Release,
    ModeSense,
    StartStopUnit,
    ReceiveDiagnostic,
    SendDiagnostic,
    PreventAllow,
    ReadCapacity10,
    ReadCapacity16,
    WriteAndVerify,
    Verify,
    Prefetch,
    SynchronizeCache,
    ReadDefectData,
    WriteBuffer,
    ReadBuffer,
    WriteSame,
    Unmap,
    Sanitize,
    SanitizeExit,
    LogSelect,
    LogSense,
    PersistentReserveIn,
    PersistentReserveOut,
    ExtendedCopy,
    CopyAbort,
    PopulateToken,
    WriteUsingToken,
    ReceiveCopyStatus,
    ReceiveCopyFailure,
    ReceiveOperationStatus,
    ReceiveTokenInformation,
    ReportTokens,
    ReceiveCopyParameters,
    CompareAndWrite,
    OrWrite,
    GetLbaStatus,
    ReportLuns,
    ReportTargetPortGroups,
    SetTargetPortGroups,
    ReportOpcodes,
    ReportTaskManagement,
    ReportTimestamp,
    ReplicationIn,
    ReplicationOut,
}

/// What an operation code (and service action) stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// This command.
    Found(&'static Opcode),
    /// The operation code exists, the service action does not.
    NoSuchServiceAction,
    /// Nothing.
    Unknown,
}

/// Finds the command of a CDB.
pub fn lookup(cdb: &[u8]) -> Lookup {
    match *cdb {
        [VARIABLE_LENGTH, _, _, _, _, _, _, _, high, low, ..] => {
            find(VARIABLE_LENGTH, u16::from_be_bytes([high, low]))
        }
        [] | [VARIABLE_LENGTH, ..] => Lookup::Unknown,
        [code, ref rest @ ..] => find(code, rest.first().map_or(0, |byte| u16::from(byte & 0x1F))),
    }
}

/// Finds a command by operation code and service action (ignored where there is none).
pub fn find(code: u8, action: u16) -> Lookup {
    let mut lookup = Lookup::Unknown;
    let first = usize::from(FIRST[usize::from(code)]);
    for entry in TABLE[first..].iter().take_while(|entry| entry.code() == code) {
        if entry.service_action.is_none_or(|wanted| wanted == action) {
            return Lookup::Found(entry);
        }
        lookup = Lookup::NoSuchServiceAction;
    }
    lookup
}

/// Where the rows of each operation code start; the table's length for those that have none.
const FIRST: [u8; 256] = {
    let mut first = [TABLE.len() as u8; 256];
    let mut row = TABLE.len();
    while row > 0 {
        row -= 1;
        first[TABLE[row].code() as usize] = row as u8;
    }
    first
};

/// How many operation codes there are.
pub const CODES: usize = {
    let (mut codes, mut row) = (0, 0);
    while row < TABLE.len() {
        codes += starts_a_code(row) as usize;
        row += 1;
    }
    codes
};

/// The place of each operation code among those there are, ascending; [`CODES`] for all others.
const ORDINALS: [u8; 256] = {
    let mut ordinals = [CODES as u8; 256];
    let (mut next, mut row) = (0, 0);
    while row < TABLE.len() {
        if starts_a_code(row) {
            ordinals[TABLE[row].code() as usize] = next;
            next += 1;
        }
        row += 1;
    }
    ordinals
};

const fn starts_a_code(row: usize) -> bool {
    row == 0 || TABLE[row - 1].code() != TABLE[row].code()
}

/// The place of an operation code among those there are, below [`CODES`]; that for any other.
pub fn ordinal(code: u8) -> usize {
    usize::from(ORDINALS[usize::from(code)])
}

/// What each of the [`CODES`] operation codes stands for, in their order.
pub fn code_names() -> impl Iterator<Item = &'static str> {
    let first = (0..TABLE.len()).filter(|row| starts_a_code(*row));
    first.map(|row| match TABLE[row].code() {
        0x48 => "SANITIZE",
        0x5E => "PERSISTENT RESERVE IN",
        0x5F => "PERSISTENT RESERVE OUT",
        VARIABLE_LENGTH => "VARIABLE LENGTH",
        0x83 => "THIRD-PARTY COPY OUT",
        0x84 => "THIRD-PARTY COPY IN",
        0x9E => "SERVICE ACTION IN(16)",
        0xA3 => "MAINTENANCE IN",
        0xA4 => "MAINTENANCE OUT",
        0xC0 => "REPLICATION IN",
        0xC1 => "REPLICATION OUT",
        _ => TABLE[row].name,
    })
}

/// The table, ascending.
pub fn table() -> &'static [Opcode] {
    TABLE
}

/// A command without service actions.
const fn command(
    name: &'static str,
    usage: &'static [u8],
    reservation: ReservationRule,
    needs: Needs,
    handler: Handler,
) -> Opcode {
    Opcode {
        name,
        usage,
        service_action: None,
        reservation,
        needs,
        timeouts: (1, 30),
        handler,
    }
}

impl Opcode {
    /// The service action is in the usage's byte 1, or of 7Fh in bytes 8 and 9.
    const fn with_service_action(mut self) -> Self {
        self.service_action = Some(if self.usage[0] == VARIABLE_LENGTH {
            u16::from_be_bytes([self.usage[8], self.usage[9]])
        } else {
            (self.usage[1] & 0x1F) as u16
        });
        self
    }

    /// A command that goes over the whole unit.
    const fn lasting(mut self) -> Self {
        self.timeouts = (600, 36_000);
        self
    }

    /// A command that may take long.
    const fn long(mut self) -> Self {
        self.timeouts = (10, 120);
        self
    }
}

use Handler as H;
use Needs::{Medium, Nothing, WritableMedium};
use ReservationRule::{Never, Own, Reads, Reserve, Writes};

const F: u8 = 0xFF;
/// OPERATION CODE of commands of 32 bytes (SPC-4 4.2.3).
pub(crate) const VARIABLE_LENGTH: u8 = 0x7F;
/// ADDITIONAL CDB LENGTH of a CDB of 32 bytes.
pub(crate) const ADDITIONAL_LENGTH: u8 = 0x18;

#[rustfmt::skip]
const TABLE: &[Opcode] = &[
    command("TEST UNIT READY", &[0x00, 0, 0, 0, 0, 0], Reserve, Medium, H::TestUnitReady),
    command("REQUEST SENSE", &[0x03, 0x01, 0, 0, F, 0], Never, Nothing, H::RequestSense),
    command("FORMAT UNIT", &[0x04, 0x3F, 0, 0, 0, 0], Writes, WritableMedium, H::FormatUnit).lasting(),
    command("READ(6)", &[0x08, 0x1F, F, F, F, 0], Reads, Medium, H::Read),
    command("WRITE(6)", &[0x0A, 0x1F, F, F, F, 0], Writes, WritableMedium, H::Write),
    command("INQUIRY", &[0x12, 0x01, F, F, F, 0], Never, Nothing, H::Inquiry),
    command("MODE SELECT(6)", &[0x15, 0x11, 0, 0, F, 0], Writes, Nothing, H::ModeSelect),
    command("RESERVE(6)", &[0x16, 0, 0, 0, 0, 0], Own, Nothing, H::Reserve),
    command("RELEASE(6)", &[0x17, 0, 0, 0, 0, 0], Own, Nothing, H::Release),
    command("MODE SENSE(6)", &[0x1A, 0x08, F, F, F, 0], Reads, Nothing, H::ModeSense),
    command("START STOP UNIT", &[0x1B, 0x01, 0, 0x0F, 0xF7, 0], Own, Nothing, H::StartStopUnit),
    command("RECEIVE DIAGNOSTIC RESULTS", &[0x1C, 0x01, F, F, F, 0], Reads, Nothing, H::ReceiveDiagnostic),
    command("SEND DIAGNOSTIC", &[0x1D, 0xF7, 0, F, F, 0], Writes, Nothing, H::SendDiagnostic),
    command("PREVENT ALLOW MEDIUM REMOVAL", &[0x1E, 0, 0, 0, 0x01, 0], Own, Nothing, H::PreventAllow),
    command("READ CAPACITY(10)", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], Never, Medium, H::ReadCapacity10),
    command("READ(10)", &[0x28, 0x18, F, F, F, F, 0, F, F, 0], Reads, Medium, H::Read),
    command("WRITE(10)", &[0x2A, 0x18, F, F, F, F, 0, F, F, 0], Writes, WritableMedium, H::Write),
    command("WRITE AND VERIFY(10)", &[0x2E, 0x16, F, F, F, F, 0, F, F, 0], Writes, WritableMedium, H::WriteAndVerify).long(),
    command("VERIFY(10)", &[0x2F, 0x16, F, F, F, F, 0, F, F, 0], Reads, Medium, H::Verify).long(),
    command("PRE-FETCH(10)", &[0x34, 0x02, F, F, F, F, 0x1F, F, F, 0], Reads, Medium, H::Prefetch),
    command("SYNCHRONIZE CACHE(10)", &[0x35, 0x06, F, F, F, F, 0, F, F, 0], Writes, Medium, H::SynchronizeCache).long(),
    command("READ DEFECT DATA(10)", &[0x37, 0, 0x1F, 0, 0, 0, 0, F, F, 0], Reads, Medium, H::ReadDefectData),
    command("WRITE BUFFER", &[0x3B, 0x1F, F, F, F, F, F, F, F, 0], Writes, Nothing, H::WriteBuffer),
    command("READ BUFFER(10)", &[0x3C, 0x1F, F, F, F, F, F, F, F, 0], Reads, Nothing, H::ReadBuffer),
    command("WRITE SAME(10)", &[0x41, 0x18, F, F, F, F, 0, F, F, 0], Writes, WritableMedium, H::WriteSame).long(),
    command("UNMAP", &[0x42, 0x01, 0, 0, 0, 0, 0, F, F, 0], Writes, WritableMedium, H::Unmap).long(),
    command("SANITIZE, OVERWRITE", &[0x48, 0xA1, 0, 0, 0, 0, 0, F, F, 0], Writes, WritableMedium, H::Sanitize).with_service_action().lasting(),
    command("SANITIZE, BLOCK ERASE", &[0x48, 0xA2, 0, 0, 0, 0, 0, 0, 0, 0], Writes, WritableMedium, H::Sanitize).with_service_action().lasting(),
    command("SANITIZE, EXIT FAILURE MODE", &[0x48, 0x9F, 0, 0, 0, 0, 0, 0, 0, 0], Writes, Nothing, H::SanitizeExit).with_service_action(),
    command("LOG SELECT", &[0x4C, 0x02, F, F, 0, 0, 0, F, F, 0], Writes, Nothing, H::LogSelect),
    command("LOG SENSE", &[0x4D, 0, F, F, 0, F, F, F, F, 0], Never, Nothing, H::LogSense),
    command("MODE SELECT(10)", &[0x55, 0x11, 0, 0, 0, 0, 0, F, F, 0], Writes, Nothing, H::ModeSelect),
    command("RESERVE(10)", &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0], Own, Nothing, H::Reserve),
    command("RELEASE(10)", &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0], Own, Nothing, H::Release),
    command("MODE SENSE(10)", &[0x5A, 0x18, F, F, 0, 0, 0, F, F, 0], Reads, Nothing, H::ModeSense),
    command("PERSISTENT RESERVE IN, READ KEYS", &[0x5E, 0x00, 0, 0, 0, 0, 0, F, F, 0], Reserve, Nothing, H::PersistentReserveIn).with_service_action(),
    command("PERSISTENT RESERVE IN, READ RESERVATION", &[0x5E, 0x01, 0, 0, 0, 0, 0, F, F, 0], Reserve, Nothing, H::PersistentReserveIn).with_service_action(),
    command("PERSISTENT RESERVE IN, REPORT CAPABILITIES", &[0x5E, 0x02, 0, 0, 0, 0, 0, F, F, 0], Reserve, Nothing, H::PersistentReserveIn).with_service_action(),
    command("PERSISTENT RESERVE IN, READ FULL STATUS", &[0x5E, 0x03, 0, 0, 0, 0, 0, F, F, 0], Reserve, Nothing, H::PersistentReserveIn).with_service_action(),
    command("PERSISTENT RESERVE OUT, REGISTER", &[0x5F, 0x00, F, 0, 0, F, F, F, F, 0], Reserve, Nothing, H::PersistentReserveOut).with_service_action(),
    command("PERSISTENT RESERVE OUT, RESERVE", &[0x5F, 0x01, F, 0, 0, F, F, F, F, 0], Reserve, Nothing, H::PersistentReserveOut).with_service_action(),
    command("PERSISTENT RESERVE OUT, RELEASE", &[0x5F, 0x02, F, 0, 0, F, F, F, F, 0], Reserve, Nothing, H::PersistentReserveOut).with_service_action(),
    command("PERSISTENT RESERVE OUT, CLEAR", &[0x5F, 0x03, F, 0, 0, F, F, F, F, 0], Reserve, Nothing, H::PersistentReserveOut).with_service_action(),
    command("PERSISTENT RESERVE OUT, PREEMPT", &[0x5F, 0x04, F, 0, 0, F, F, F, F, 0], Reserve, Nothing, H::PersistentReserveOut).with_service_action(),
    command("PERSISTENT RESERVE OUT, PREEMPT AND ABORT", &[0x5F, 0x05, F, 0, 0, F, F, F, F, 0], Reserve, Nothing, H::PersistentReserveOut).with_service_action(),
    command("PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY", &[0x5F, 0x06, F, 0, 0, F, F, F, F, 0], Reserve, Nothing, H::PersistentReserveOut).with_service_action(),
    command("PERSISTENT RESERVE OUT, REGISTER AND MOVE", &[0x5F, 0x07, F, 0, 0, F, F, F, F, 0], Reserve, Nothing, H::PersistentReserveOut).with_service_action(),
    command("PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION", &[0x5F, 0x08, F, 0, 0, F, F, F, F, 0], Reserve, Nothing, H::PersistentReserveOut).with_service_action(),
    command("READ(32)", &[0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x09, 0x18, 0, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F], Reads, Medium, H::Read).with_service_action(),
    command("VERIFY(32)", &[0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0A, 0x16, 0, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F], Reads, Medium, H::Verify).with_service_action().long(),
    command("WRITE(32)", &[0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0B, 0x18, 0, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F], Writes, WritableMedium, H::Write).with_service_action(),
    command("WRITE AND VERIFY(32)", &[0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0C, 0x16, 0, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F], Writes, WritableMedium, H::WriteAndVerify).with_service_action().long(),
    command("WRITE SAME(32)", &[0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0D, 0x19, 0, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F], Writes, WritableMedium, H::WriteSame).with_service_action().long(),
    command("ORWRITE(32)", &[0x7F, 0, 0x07, 0x0F, 0, 0, 0, 0x18, 0, 0x0E, 0x18, 0, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F], Writes, WritableMedium, H::OrWrite).with_service_action(),
    command("WRITE ATOMIC(32)", &[0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0F, 0x18, 0, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F, F], Writes, WritableMedium, H::WriteAtomic).with_service_action(),
    command("GET LBA STATUS(32)", &[0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x12, 0xFF, 0, F, F, F, F, F, F, F, F, F, F, F, F, 0, 0, 0, 0, F, F, F, F], Reads, Medium, H::GetLbaStatus).with_service_action(),
    command("EXTENDED COPY(LID1)", &[0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0], Writes, Medium, H::ExtendedCopy).with_service_action().long(),
    command("EXTENDED COPY(LID4)", &[0x83, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0], Writes, Medium, H::ExtendedCopy).with_service_action().long(),
    command("POPULATE TOKEN", &[0x83, 0x10, 0, 0, 0, 0, F, F, F, F, F, F, F, F, 0, 0], Reads, Medium, H::PopulateToken).with_service_action(),
    command("WRITE USING TOKEN", &[0x83, 0x11, 0, 0, 0, 0, F, F, F, F, F, F, F, F, 0, 0], Writes, WritableMedium, H::WriteUsingToken).with_service_action().long(),
    command("COPY OPERATION ABORT", &[0x83, 0x1C, F, F, F, F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Reserve, Nothing, H::CopyAbort).with_service_action(),
    command("RECEIVE COPY STATUS(LID1)", &[0x84, 0x00, F, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0], Reads, Nothing, H::ReceiveCopyStatus).with_service_action(),
    command("RECEIVE COPY OPERATING PARAMETERS", &[0x84, 0x03, F, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0], Reads, Nothing, H::ReceiveCopyParameters).with_service_action(),
    command("RECEIVE COPY FAILURE DETAILS(LID1)", &[0x84, 0x04, F, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0], Reads, Nothing, H::ReceiveCopyFailure).with_service_action(),
    command("RECEIVE COPY STATUS(LID4)", &[0x84, 0x05, F, F, F, F, 0, 0, 0, 0, F, F, F, F, 0, 0], Reads, Nothing, H::ReceiveOperationStatus).with_service_action(),
    command("RECEIVE ROD TOKEN INFORMATION", &[0x84, 0x07, F, F, F, F, 0, 0, 0, 0, F, F, F, F, 0, 0], Reads, Nothing, H::ReceiveTokenInformation).with_service_action(),
    command("REPORT ALL ROD TOKENS", &[0x84, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0], Reads, Nothing, H::ReportTokens).with_service_action(),
    command("READ(16)", &[0x88, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, 0, 0], Reads, Medium, H::Read),
    command("COMPARE AND WRITE", &[0x89, 0x18, F, F, F, F, F, F, F, F, 0, 0, 0, F, 0, 0], Writes, WritableMedium, H::CompareAndWrite),
    command("WRITE(16)", &[0x8A, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, 0, 0], Writes, WritableMedium, H::Write),
    command("ORWRITE(16)", &[0x8B, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, 0, 0], Writes, WritableMedium, H::OrWrite),
    command("WRITE AND VERIFY(16)", &[0x8E, 0x16, F, F, F, F, F, F, F, F, F, F, F, F, 0, 0], Writes, WritableMedium, H::WriteAndVerify).long(),
    command("VERIFY(16)", &[0x8F, 0x16, F, F, F, F, F, F, F, F, F, F, F, F, 0, 0], Reads, Medium, H::Verify).long(),
    command("PRE-FETCH(16)", &[0x90, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, 0x1F, 0], Reads, Medium, H::Prefetch),
    command("SYNCHRONIZE CACHE(16)", &[0x91, 0x06, F, F, F, F, F, F, F, F, F, F, F, F, 0, 0], Writes, Medium, H::SynchronizeCache).long(),
    command("WRITE SAME(16)", &[0x93, 0x19, F, F, F, F, F, F, F, F, F, F, F, F, 0, 0], Writes, WritableMedium, H::WriteSame).long(),
    command("WRITE ATOMIC(16)", &[0x9C, 0x18, F, F, F, F, F, F, F, F, 0, 0, F, F, 0, 0], Writes, WritableMedium, H::WriteAtomic),
    command("READ CAPACITY(16)", &[0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0], Never, Medium, H::ReadCapacity16).with_service_action(),
    command("GET LBA STATUS(16)", &[0x9E, 0x12, F, F, F, F, F, F, F, F, F, F, F, F, F, 0], Reads, Medium, H::GetLbaStatus).with_service_action(),
    command("REPORT LUNS", &[0xA0, 0, F, 0, 0, 0, F, F, F, F, 0, 0], Never, Nothing, H::ReportLuns),
    command("REPORT TARGET PORT GROUPS", &[0xA3, 0xEA, 0, 0, 0, 0, F, F, F, F, 0, 0], Never, Nothing, H::ReportTargetPortGroups).with_service_action(),
    command("REPORT SUPPORTED OPERATION CODES", &[0xA3, 0x0C, 0x87, F, F, F, F, F, F, F, 0, 0], Reads, Nothing, H::ReportOpcodes).with_service_action(),
    command("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", &[0xA3, 0x0D, 0x80, 0, 0, 0, F, F, F, F, 0, 0], Reads, Nothing, H::ReportTaskManagement).with_service_action(),
    command("REPORT TIMESTAMP", &[0xA3, 0x0F, 0, 0, 0, 0, F, F, F, F, 0, 0], Never, Nothing, H::ReportTimestamp).with_service_action(),
    command("SET TARGET PORT GROUPS", &[0xA4, 0x0A, 0, 0, 0, 0, F, F, F, F, 0, 0], Writes, Nothing, H::SetTargetPortGroups).with_service_action(),
    command("READ(12)", &[0xA8, 0x18, F, F, F, F, F, F, F, F, 0, 0], Reads, Medium, H::Read),
    command("WRITE(12)", &[0xAA, 0x18, F, F, F, F, F, F, F, F, 0, 0], Writes, WritableMedium, H::Write),
    command("WRITE AND VERIFY(12)", &[0xAE, 0x16, F, F, F, F, F, F, F, F, 0, 0], Writes, WritableMedium, H::WriteAndVerify).long(),
    command("VERIFY(12)", &[0xAF, 0x16, F, F, F, F, F, F, F, F, 0, 0], Reads, Medium, H::Verify).long(),
    command("READ DEFECT DATA(12)", &[0xB7, 0x1F, F, F, F, F, F, F, F, F, 0, 0], Reads, Medium, H::ReadDefectData),
    replication_in(&[0xC0, 0x00, 0, 0, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION IN, QUERY"),
    replication_in(&[0xC0, 0x01, F, 0, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION IN, VERIFY"),
    replication_in(&[0xC0, 0x02, 0, 0, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION IN, SETUP"),
    replication_in(&[0xC0, 0x03, 0, 0, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION IN, REPORT CAPABILITIES"),
    replication_in(&[0xC0, 0x04, 0x83, 0, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION IN, READ PENDING MAP"),
    replication_in(&[0xC0, 0x05, 0, 0, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION IN, COPY MANAGEMENT TABLE"),
    replication_in(&[0xC0, 0x06, 0x7F, 0x0F, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION IN, PREVIEW"),
    replication_out(&[0xC1, 0x00, 0xD1, 0x10, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION OUT, ESTABLISH"),
    replication_out(&[0xC1, 0x01, 0xFA, 0, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION OUT, SPLIT"),
    replication_out(&[0xC1, 0x02, 0xC5, 0x10, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION OUT, RESTORE"),
    replication_out(&[0xC1, 0x03, 0xC0, 0x0F, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION OUT, CONFIG"),
    replication_out(&[0xC1, 0x04, 0xE0, 0, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION OUT, CANCEL"),
    replication_out(&[0xC1, 0x05, 0xE0, 0, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION OUT, SWAP"),
    replication_out(&[0xC1, 0x06, 0xC0, 0, F, F, F, F, F, F, F, F, F, F, F, 0], "REPLICATION OUT, SUSPEND"),
];

/// C0h looks at the array, not at this unit: no reservation keeps it out.
const fn replication_in(usage: &'static [u8], name: &'static str) -> Opcode {
    command(name, usage, Never, Nothing, H::ReplicationIn).with_service_action()
}

/// C1h acts on the array; that a volume is reserved is the executor's business (2Ch/86h).
const fn replication_out(usage: &'static [u8], name: &'static str) -> Opcode {
    command(name, usage, Never, Nothing, H::ReplicationOut)
        .with_service_action()
        .long()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ascends_without_duplicates() {
        let keys: Vec<_> = TABLE
            .iter()
            .map(|entry| (entry.code(), entry.service_action))
            .collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn operation_codes_are_numbered_and_named() {
        let names: Vec<_> = code_names().collect();
        assert_eq!(names.len(), CODES);
        assert_eq!(names[ordinal(0x28)], "READ(10)");
        assert_eq!(names[ordinal(0x5F)], "PERSISTENT RESERVE OUT");
        assert_eq!(
            (ordinal(0x00), ordinal(0xC1), ordinal(0xDB)),
            (0, CODES - 1, CODES)
        );
        for entry in TABLE {
            let name = names[ordinal(entry.code())];
            assert!(entry.service_action.is_none() || !name.contains(','), "{name}");
        }
    }

    #[test]
    fn a_cdb_is_as_long_as_its_group_says() {
        for entry in TABLE {
            let length = match entry.code() >> 5 {
                0 => 6,
                1 | 2 => 10,
                3 => 32,
                4 | 6 => 16,
                5 => 12,
                other => panic!("{}: group {other}", entry.name),
            };
            assert_eq!(entry.usage.len(), length, "{}", entry.name);
        }
    }

    #[test]
    fn the_most_significant_reserved_bit_is_the_one_pointed_at() {
        let Lookup::Found(read) = find(0x28, 0) else {
            panic!("READ(10) is there")
        };
        let mut cdb = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(read.reserved_bit(&cdb), None);
        cdb[1] = 0x61;
        assert_eq!(read.reserved_bit(&cdb), Some((1, 6)));
    }

    #[test]
    fn service_actions_are_told_from_operation_codes() {
        assert_eq!(find(0x5E, 9), Lookup::NoSuchServiceAction);
        assert_eq!(find(0xDB, 0), Lookup::Unknown);
        let mut variable = [0; 32];
        (variable[0], variable[1], variable[7], variable[9]) = (0x7F, 0x1F, 0x18, 0x0B);
        let Lookup::Found(write) = lookup(&variable) else {
            panic!("WRITE(32) is there")
        };
        assert_eq!(
            (write.name, write.reserved_bit(&variable)),
            ("WRITE(32)", Some((1, 4)))
        );
        variable[8] = 1;
        assert_eq!(lookup(&variable), Lookup::NoSuchServiceAction);
        assert!(matches!(find(0xC1, 2), Lookup::Found(entry) if entry.handler == Handler::ReplicationOut));
    }
}
