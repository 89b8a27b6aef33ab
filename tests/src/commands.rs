//! CDBs with their data, as an initiator sends them.

use crate::stamps::SECTOR;

/// A command without its LUN and tag.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The CDB, padded with zeros.
    pub cdb: [u8; 16],
    /// Data for the target.
    pub data_out: Vec<u8>,
    /// Bytes expected from the target.
    pub data_in: u32,
}

/// Any CDB that transfers nothing, or data to the initiator.
pub fn raw(cdb: &[u8], data_in: u32) -> Command {
    Command {
        data_in,
        ..command(cdb)
    }
}

/// INQUIRY, of a VPD page or the standard data.
pub fn inquiry(page: Option<u8>, length: u8) -> Command {
    let cdb = [0x12, u8::from(page.is_some()), page.unwrap_or(0), 0, length, 0];
    raw(&cdb, u32::from(length))
}

/// REPORT LUNS, select report 0.
pub fn report_luns() -> Command {
    raw(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0], 256)
}

fn command(cdb: &[u8]) -> Command {
    let mut command = Command::default();
    command.cdb[..cdb.len()].copy_from_slice(cdb);
    command
}

/// A 16-byte CDB with LBA and number of blocks (SBC-3).
fn block(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Command {
    let mut command = command(&[opcode, flags]);
    command.cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    command.cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    command
}

/// READ(16).
pub fn read(lba: u64, blocks: u32) -> Command {
    Command {
        data_in: blocks * SECTOR as u32,
        ..block(0x88, 0, lba, blocks)
    }
}

/// WRITE(16), with or without FUA.
pub fn write(lba: u64, data: Vec<u8>, fua: bool) -> Command {
    let blocks = (data.len() / SECTOR) as u32;
    Command {
        data_out: data,
        ..block(0x8a, u8::from(fua) << 3, lba, blocks)
    }
}

/// WRITE ATOMIC(16).
pub fn write_atomic(lba: u64, data: Vec<u8>) -> Command {
    let blocks = (data.len() / SECTOR) as u32;
    Command {
        data_out: data,
        ..block(0x9c, 0, lba, blocks)
    }
}

/// POPULATE TOKEN with this list identifier, of one range.
pub fn populate_token(list_id: u8, lba: u64, blocks: u32) -> Command {
    third_party(0x10, list_id, [vec![0; 14], range(lba, blocks)].concat())
}

/// WRITE USING TOKEN with this list identifier, from the token's start to one range.
pub fn write_using_token(list_id: u8, token: &[u8], lba: u64, blocks: u32) -> Command {
    let head = [&[0; 16][..], token, &[0; 6]].concat();
    third_party(0x11, list_id, [head, range(lba, blocks)].concat())
}

/// RECEIVE ROD TOKEN INFORMATION about the operation with this list identifier: its status is in byte 5, the token of one that
/// made one is bytes 38 to 549.
pub fn receive_token_information(list_id: u8) -> Command {
    raw(&[0x84, 0x07, 0, 0, 0, list_id, 0, 0, 0, 0, 0, 0, 4, 0], 1024)
}

fn third_party(action: u8, list_id: u8, list: Vec<u8>) -> Command {
    let mut command = command(&[0x83, action]);
    command.cdb[9] = list_id;
    command.cdb[10..14].copy_from_slice(&(list.len() as u32).to_be_bytes());
    command.data_out = list;
    command
}

/// A list of one block device range descriptor, with its length.
fn range(lba: u64, blocks: u32) -> Vec<u8> {
    [&[0, 16][..], &lba.to_be_bytes(), &blocks.to_be_bytes(), &[0; 4]].concat()
}

/// WRITE SAME(16) of one block.
pub fn write_same(lba: u64, blocks: u32, pattern: Vec<u8>) -> Command {
    Command {
        data_out: pattern,
        ..block(0x93, 0, lba, blocks)
    }
}

/// UNMAP of one range.
pub fn unmap(lba: u64, blocks: u32) -> Command {
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend(lba.to_be_bytes());
    list.extend(blocks.to_be_bytes());
    list.extend([0; 4]);
    Command {
        data_out: list,
        ..command(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24])
    }
}

/// COMPARE AND WRITE: what is expected to be there, then what is to come.
pub fn compare_and_write(lba: u64, blocks: u8, expected_and_new: Vec<u8>) -> Command {
    let mut command = block(0x89, 0, lba, 0);
    command.cdb[13] = blocks;
    command.data_out = expected_and_new;
    command
}

/// SYNCHRONIZE CACHE(16) of everything.
pub fn flush() -> Command {
    block(0x91, 0, 0, 0)
}

/// TEST UNIT READY.
pub fn test_unit_ready() -> Command {
    command(&[0x00])
}

/// A parameter list names the pairs.
const LIST: u8 = 1 << 7;

/// C1h (docs/control-cdb.md): a service action on these pairs. Several members are a LIST.
pub fn pair_command(action: u8, flags: u8, members: &[(u32, u32)]) -> Command {
    let mut command = command(&[0xc1, action, flags]);
    if let [(primary, mirror)] = members {
        command.cdb[4..8].copy_from_slice(&primary.to_be_bytes());
        command.cdb[8..12].copy_from_slice(&mirror.to_be_bytes());
        return command;
    }
    command.cdb[2] |= LIST;
    let mut list = (members.len() as u16).to_be_bytes().to_vec();
    list.resize(8, 0);
    for (primary, mirror) in members {
        list.extend(primary.to_be_bytes());
        list.extend(mirror.to_be_bytes());
    }
    command.cdb[12..15].copy_from_slice(&(list.len() as u32).to_be_bytes()[1..]);
    command.data_out = list;
    command
}

/// C0h QUERY of one pair: a header of 16 bytes and a descriptor of 96, with the state code at its byte 10.
pub fn query(primary: u32, mirror: u32) -> Command {
    let mut command = command(&[0xc0, 0]);
    command.cdb[4..8].copy_from_slice(&primary.to_be_bytes());
    command.cdb[8..12].copy_from_slice(&mirror.to_be_bytes());
    command.cdb[12..15].copy_from_slice(&[0, 0, 112]);
    command.data_in = 112;
    command
}

/// PERSISTENT RESERVE OUT (SPC-4 6.16) with the basic parameter list.
pub fn reserve_out(action: u8, kind: u8, key: u64, action_key: u64, aptpl: bool) -> Command {
    let mut list = key.to_be_bytes().to_vec();
    list.extend(action_key.to_be_bytes());
    list.extend([0, 0, 0, 0, u8::from(aptpl), 0, 0, 0]);
    let mut command = command(&[0x5f, action, kind, 0, 0, 0, 0, 0, 24]);
    command.data_out = list;
    command
}

/// PERSISTENT RESERVE IN (SPC-4 6.15).
pub fn reserve_in(action: u8) -> Command {
    Command {
        data_in: 512,
        ..command(&[0x5e, action, 0, 0, 0, 0, 0, 2, 0])
    }
}
