//! docs/scsi.md: what this device server implements, told from the tables that implement it.

use std::fmt::Write as _;

use crate::{
    block_commands::{
        MAX_ATOMIC_BYTES, MAX_COMPARE_AND_WRITE_BLOCKS, MAX_TRANSFER_BYTES, MAX_WRITE_SAME_BYTES,
    },
    copy_operations, log_pages, mode_pages,
    opcode_table::{self, Handler, Needs, Opcode, ReservationRule},
    reservations::MAX_REGISTRATIONS,
    rod_tokens, third_party_copy, unmap, vpd,
};

const HEAD: &str = "# SCSI

Generated from the tables of `target-core/scsi`; a test there fails when the two differ, and rewrites this page when run with
`HOLDFAST_WRITE_DOCS=1`. The standards are SAM-5, SPC-4 and SBC-3. How `iscsi-test-cu` judges it: `./test conformance`, which
prints a table of what it executed, skipped and failed on each kind of unit.

## Commands

*CDB* is the CDB USAGE DATA that REPORT SUPPORTED OPERATION CODES gives: the operation code, then a mask of the bits that are
looked at (the service action stands where its bits are, of 7Fh in bytes 8 and 9); a bit outside the mask is refused with 5h/24h/00h and a field pointer.
*Reservation*: whom a reservation of another nexus keeps out. *reads*: with exclusive access types; *writes*: with every type;
*RESERVE*: only by RESERVE(6) and (10); *never*: nobody; *own*: as the standard says for that command. *Medium*: what the command
needs. *Timeouts* are the nominal and the recommended one in seconds.

| command | CDB | reservation | medium | timeouts |
| --- | --- | --- | --- | --- |
";

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for entry in opcode_table::table() {
        line(
            &mut page,
            &[
                &format!("{}{}", entry.name, note(entry)),
                &format!("`{}`", usage(entry)),
                reservation(entry),
                medium(entry),
                &format!("{}, {}", entry.timeouts.0, entry.timeouts.1),
            ],
        );
    }
    page.push_str(
        "\n¹ of thin units only. ² where replication is configured and the initiator's rule has `control = true`; \
         see [control-cdb.md](control-cdb.md).\n",
    );
    let hex = |code: &u8| format!("{code:02X}h");
    let vpd = vpd::PAGES.iter().map(|code| (hex(code), vpd_name(*code)));
    pages(&mut page, "Vital product data pages", vpd);
    let modes = mode_pages::PAGES.iter().map(|code| match code {
        (page, 0) => (hex(page), mode_name(*code)),
        (page, subpage) => (format!("{page:02X}h-{subpage:02X}h"), mode_name(*code)),
    });
    pages(&mut page, "Mode pages", modes);
    page.push_str(MODES);
    let logs = log_pages::PAGES.iter().map(|code| (hex(code), log_name(*code)));
    pages(&mut page, "Log pages", logs);
    page.push_str(LOGS);
    limits(&mut page);
    page.push_str(ABSENT);
    page
}

fn note(entry: &Opcode) -> &'static str {
    match entry.handler {
        Handler::Unmap => " ¹",
        Handler::ReplicationIn | Handler::ReplicationOut => " ²",
        _ => "",
    }
}

fn usage(entry: &Opcode) -> String {
    let bytes: Vec<String> = entry.usage.iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(" ")
}

const fn reservation(entry: &Opcode) -> &'static str {
    match entry.reservation {
        ReservationRule::Never => "never",
        ReservationRule::Reserve => "RESERVE",
        ReservationRule::Reads => "reads",
        ReservationRule::Writes => "writes",
        ReservationRule::Own => "own",
    }
}

const fn medium(entry: &Opcode) -> &'static str {
    match entry.needs {
        Needs::Nothing => "",
        Needs::Medium => "ready",
        Needs::WritableMedium => "writable",
    }
}

fn pages<'a>(page: &mut String, title: &str, rows: impl Iterator<Item = (String, &'a str)>) {
    write!(page, "\n## {title}\n\n| page | |\n| --- | --- |\n").expect("a String takes all");
    for (code, name) in rows {
        line(page, &[&code, name]);
    }
}

fn vpd_name(code: u8) -> &'static str {
    match code {
        0x00 => "Supported VPD Pages",
        0x80 => "Unit Serial Number",
        0x83 => {
            "Device Identification: NAA 6, T10, EUI-64 and UUID of the unit, relative port, target port group and SCSI name of the port, SCSI name of the target"
        }
        0x86 => "Extended INQUIRY Data: simple, ordered and head of queue tasks",
        0x87 => "Mode Page Policy: shared",
        0x88 => "SCSI Ports: all ports of the target",
        0x8F => "Third-party Copy: EXTENDED COPY (LID1 and LID4), ROD tokens of block devices",
        0xB0 => "Block Limits: the limits below",
        0xB1 => "Block Device Characteristics: does not rotate, WABEREQ 01b",
        0xB2 => "Logical Block Provisioning: LBPU, LBPWS, LBPWS10, LBPRZ, ANC_SUP; thin",
        _ => "",
    }
}

fn mode_name(code: (u8, u8)) -> &'static str {
    match code {
        (0x01, 0) => "Read-Write Error Recovery",
        (0x02, 0) => "Disconnect-Reconnect: no limits",
        (0x07, 0) => "Verify Error Recovery",
        (0x08, 0) => "Caching: WCE",
        (0x0A, 0) => "Control: D_SENSE, SWP; GLTSD, unrestricted reordering",
        (0x0A, 1) => "Control Extension",
        (0x1A, 0) => "Power Condition",
        (0x1C, 0) => "Informational Exceptions Control: DEXCPT",
        (0x1C, 2) => {
            "Logical Block Provisioning: a threshold on what is available, one on what is used; of thin units only"
        }
        _ => "",
    }
}

fn log_name(code: u8) -> &'static str {
    match code {
        0x00 => "Supported Log Pages, with and without subpages",
        0x0C => "Logical Block Provisioning: available and used, in MiB; of thin units on a file only",
        0x0D => "Temperature: there is none",
        0x0E => "Start-Stop Cycle Counter: STOPs since the daemon started",
        0x10 => "Self-Test Results: no self-test but the default one, which keeps no result",
        0x15 => "Background Scan: minutes since the daemon started; nothing is scanned",
        0x19 => "General Statistics and Performance: commands and blocks; times are not measured",
        0x2F => "Informational Exceptions: none",
        _ => "",
    }
}

const MODES: &str = "
MODE SELECT changes WCE, D\\_SENSE, SWP, and ENABLED and THRESHOLD COUNT of the thresholds, saved with SP; the other initiators hear
6h/2Ah/01h. Any other bit must be as it is. All four values of PC are answered, the block descriptor short or (LLBAA) long.

A threshold counts MiB (THRESHOLD EXPONENT in B2h). Every ten seconds the daemon looks at the space of units with an enabled one: when
no more than the first is available in the file system (or left of the unit's quota), or at least the second is used by the unit, every initiator hears
6h/38h/07h, once, and again when it is reached anew or after another MODE SELECT. Both are disabled until a MODE SELECT enables them. A
full file system or an exhausted quota is 7h/27h/07h.
";

const LOGS: &str = "
LOG SELECT takes no parameters: with PCR, or PC 01b or 11b, it sets the counters of 0Eh and 19h to zero, of the page it names or (00h)
of both; the other initiators hear 6h/2Ah/02h.
";

fn limits(page: &mut String) {
    page.push_str("\n## Limits\n\n| | |\n| --- | --- |\n");
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let rows = [
        (
            "blocks moved by a command (MAXIMUM TRANSFER LENGTH)",
            mib(MAX_TRANSFER_BYTES.into()),
        ),
        (
            "WRITE SAME (WSNZ 0: no count is the rest of the unit)",
            mib(MAX_WRITE_SAME_BYTES),
        ),
        (
            "WRITE ATOMIC (no boundary, alignment or granularity)",
            mib(MAX_ATOMIC_BYTES.into()),
        ),
        (
            "COMPARE AND WRITE",
            format!("{MAX_COMPARE_AND_WRITE_BLOCKS} blocks"),
        ),
        (
            "UNMAP",
            format!(
                "{} descriptors, {} blocks",
                unmap::MAX_UNMAP_DESCRIPTORS,
                unmap::MAX_UNMAP_BLOCKS
            ),
        ),
        (
            "EXTENDED COPY",
            format!(
                "{} targets, {} segments",
                third_party_copy::MAX_TARGETS,
                third_party_copy::MAX_SEGMENTS
            ),
        ),
        (
            "copy statuses kept for a nexus",
            third_party_copy::MAX_COPIES.to_string(),
        ),
        (
            "the same with four-byte list identifiers",
            copy_operations::MAX_OPERATIONS.to_string(),
        ),
        (
            "POPULATE TOKEN, WRITE USING TOKEN",
            format!(
                "{} ranges, {}; best {}",
                rod_tokens::MAX_RANGES,
                mib(rod_tokens::MAX_TOKEN_BYTES),
                mib(rod_tokens::OPTIMAL_TOKEN_BYTES)
            ),
        ),
        (
            "inactivity timeout of a token",
            format!(
                "{} s, at most {} s",
                rod_tokens::DEFAULT_INACTIVITY,
                rod_tokens::MAX_INACTIVITY
            ),
        ),
        ("persistent registrations", MAX_REGISTRATIONS.to_string()),
    ];
    for (what, most) in rows {
        line(page, &[what, &most]);
    }
}

const ABSENT: &str = "
## Lost reservations

When the state file of a unit is there and damaged, the daemon does not guess: nobody may know who had reserved it. The daemon serves the other units, and this one
answers everything with 7h/44h/01h but INQUIRY, REPORT LUNS, REQUEST SENSE, LOG SENSE, READ and WRITE BUFFER, REPORT TARGET PORT GROUPS and START, until an initiator
sends PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION, which makes it the holder of a new reservation. Mode pages are then the defaults, and that a SANITIZE was cut short is forgotten; the damaged file is
kept beside its place (`units/<volume number>.damaged`). Without an initiator that can do that: stop the daemon and restore the file, or move it away.

## SANITIZE

OVERWRITE and BLOCK ERASE wait for the commands begun before, then go over the whole unit. Meanwhile the unit answers INQUIRY,
REPORT LUNS, REQUEST SENSE (with the progress), LOG SENSE, MODE SENSE, PERSISTENT RESERVE IN and the reports; everything else is
2h/04h/1Bh, also with the progress. Resets and the end of the session do not stop it. That it has begun is stored before: a daemon
that was stopped in the middle starts with the unit in the failed state (3h/31h/03h), which another SANITIZE ends, or EXIT FAILURE MODE
if AUSE was set. Every pass of an OVERWRITE is flushed. What lies under the file or device (snapshots, copy on write, flash wear) is
beyond its reach, and mirrors of the volume are volumes of their own, not sanitized with it. ABORT TASK and resets wait for a SANITIZE
without IMMED: use IMMED. What is wrong with the parameter list of an OVERWRITE is 5h/24h/00h, as initiators expect.

FORMAT UNIT makes the whole unit zeros (a thin one holes), in the same way and under the same rules: 2h/04h/04h while it runs,
3h/31h/00h after it was cut short, until another FORMAT UNIT or a SANITIZE. It takes no defect list, initialization pattern or protection
information, and changes neither the block size nor the capacity.

## WRITE ATOMIC

The data goes to a redo record in the state directory first (`units/<volume number>.redo`), stably, then to the volume, stably, then the
record is made void, stably: three flushes, whatever FUA says. A daemon that starts with a valid record writes it again before it
serves the unit. No other command is carried out on the unit meanwhile, so that readers see all of it or nothing. When an error keeps
the data from being written the old content is put back. When a record cannot be made void the unit takes no writes until the next start
(4h/44h/00h). A volume in memory needs no record. EXTENDED COPY and replication move what hosts wrote, in pieces of their own.

## Generations of bitmaps

ORWRITE(32) clears bits and changes the generation code in one, with nothing else done on the unit meanwhile; ORWRITE(16) is as if it expected the code zero. All five policies
of SBC-4 are taken. The codes are kept in memory: a start of the daemon and a target reset set them to zero, a logical unit reset does not. They are the unit's, not its medium's: a mirror has its own.

## Offloaded copies

A ROD token is a *point in time copy* (default, type 00800000h): it stands for what its ranges held when POPULATE TOKEN made it, whatever
is written there later. Making one copies nothing: what a later write overwrites is set aside first, 64 KiB at a time, in a file
without a name in the state directory, of at most 1 GiB. When that is full the oldest token with something in it is revoked (5h/23h/06h);
a token is also revoked when what it stands for cannot be read or set aside. A host's write never fails for a token's sake; it takes
longer where it is the first to a granule. RESTORE (also one that is stopped half way), CONFIG and a resize of the volume, SANITIZE and FORMAT UNIT
revoke all tokens of the unit. WRITE USING TOKEN writes what the token stands for, or fails. Whoever has a token may write
with it to any unit that it may write to, through any target of the daemon. Tokens are kept in memory: they are unknown (04h) after a restart, and
end when they are not used for their inactivity timeout. The well-known token of zeros (type FFFF0001h) always works.

IMMED is refused: EXTENDED COPY and the two commands of tokens end when they are done. Meanwhile other commands of that initiator may
ask for their status, or abort them. REPORT ALL ROD TOKENS lists the management tokens of what was made on the unit, by whomever, and still stands for something: they say what there is,
and cannot be used as tokens.

## Asymmetric access

All ports of a target are in port group 1, and by itself a unit is always active/optimized there: no port leads to it better than another. SET
TARGET PORT GROUPS sets active/non-optimized, standby (everything that touches the medium is 2h/04h/0Bh), unavailable (2h/04h/0Ch for all but INQUIRY, REPORT
LUNS, REQUEST SENSE, READ and WRITE BUFFER and the commands of port groups) or active/optimized again, of the unit it is sent to, for all initiators; the others hear 6h/2Ah/06h. A
reservation keeps others from it. REPORT TARGET PORT GROUPS tells that the state was set. Nothing keeps it: a daemon starts with active/optimized. Any other
state (block dependent, offline, transitioning), and any other group, is 5h/26h/00h with a field pointer.

A unit that does not answer hosts (an established mirror, here or at the far site) is 2h/04h/03h, not a state of its port. It is another unit than its primary, with an identity of its own,
and Linux without multipathd never looks again at a unit whose port was unavailable: after SPLIT it would stay unusable, while 6h/28h/00h is heard by all.

A unit that is *shared* with another system ([remote.md](remote.md#one-unit-through-both-systems)) is the same unit there, through a port group with another number. Its state is active/optimized on the system that leads the pair and standby on the other, and changes with
the pair (TPGS 01b, status code 2h): all initiators hear 6h/2Ah/06h. SET TARGET PORT GROUPS is 5h/20h/00h. Each system reports its own group.
Through a target whose initiators are sent to the system that leads (`redirect`), the group is transitioning (T_SUP) instead of in standby: what touches the medium is BUSY, and REQUEST SENSE gives 2h/04h/0Ah.

## Not there

- SANITIZE, CRYPTOGRAPHIC ERASE: nothing is encrypted.
- Protection information: RDPROTECT, WRPROTECT and VRPROTECT must be zero; the tags and the mask in 32-byte commands are then ignored.
- WRITE STREAM and WRITE SCATTERED: there are no streams, and no redo record holds a list of ranges.
- SET TIMESTAMP: the clock is the system's.
- REPORT REFERRALS: no unit is referred elsewhere.
- Mode page 0Ah-05h (I/O advice hints): there are no groups and no streams for hints to be about.
";

fn line(page: &mut String, cells: &[&str]) {
    for cell in cells {
        write!(page, "| {cell} ").expect("a String takes all");
    }
    page.push_str("|\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_these_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/scsi.md");
        if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == markdown(),
            "docs/scsi.md is out of date: HOLDFAST_WRITE_DOCS=1 rewrites it"
        );
    }

    #[test]
    fn every_page_has_its_name() {
        assert!(vpd::PAGES.iter().all(|code| !vpd_name(*code).is_empty()));
        assert!(mode_pages::PAGES.iter().all(|code| !mode_name(*code).is_empty()));
        assert!(log_pages::PAGES.iter().all(|code| !log_name(*code).is_empty()));
    }
}
