use clap::Parser as _;

use super::*;
use crate::arguments::{Arguments, Command};

fn store() -> Store {
    let Command::Floor(arguments) = Arguments::parse_from(["iscsi-bench", "floor", "--size", "1m"]).command
    else {
        panic!("not a floor")
    };
    Store::open(&arguments).unwrap()
}

/// A connection after the login, with neither digest.
fn connection() -> Connection {
    Connection {
        full_feature: true,
        ..Connection::default()
    }
}

/// What becomes of these bytes, and how many wait to be sent.
fn heard(connection: &mut Connection, bytes: &[u8]) -> Result<usize, ConnectionError> {
    connection.received.room()[..bytes.len()].copy_from_slice(bytes);
    connection.received.received(bytes.len());
    connection.answer_all(&store())?;
    Ok(connection.out.waiting())
}

fn command(cdb: &[u8], expected: u32) -> Header {
    let mut header = Header::new(opcode::SCSI_COMMAND, FINAL).with(word::EXPECTED_LENGTH, expected);
    header.0[32..32 + cdb.len()].copy_from_slice(cdb);
    header
}

fn data_out(offset: u32, length: usize) -> Header {
    let mut header = Header::new(opcode::DATA_OUT, FINAL).with(word::BUFFER_OFFSET, offset);
    header.set_data_length(length);
    header
}

const WRITE_ONE_BLOCK: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];

#[test]
fn nonsense_ends_the_connection_by_name() {
    let mut long = Header::new(opcode::NOP_OUT, FINAL);
    long.set_data_length(0x00ff_ffff);
    assert_eq!(
        heard(&mut connection(), &long.0),
        Err(ConnectionError::TooLong(0x00ff_ffff))
    );
    assert_eq!(
        heard(&mut connection(), &Header::new(0x1c, FINAL).0),
        Err(ConnectionError::Opcode(0x1c))
    );
    let mut with_digests = connection();
    (with_digests.header_digest, with_digests.data_digest) = (true, true);
    assert_eq!(
        heard(&mut with_digests, &[0; 52]),
        Err(ConnectionError::HeaderDigest)
    );
    let mut bytes = data_out(0, 4).0.to_vec();
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(*b"data\0\0\0\0");
    with_digests.received.clear();
    assert_eq!(heard(&mut with_digests, &bytes), Err(ConnectionError::DataDigest));
}

#[test]
fn data_beyond_its_write_ends_the_connection_also_where_it_would_go_straight() {
    for (offset, length, here) in [(4, 512, 512), (0, 65536, 100)] {
        let mut connection = connection();
        // The R2T waits.
        assert_eq!(heard(&mut connection, &command(&WRITE_ONE_BLOCK, 512).0), Ok(48));
        let mut bytes = data_out(offset, length).0.to_vec();
        bytes.resize(48 + here, 7);
        let beyond = ConnectionError::BeyondWrite {
            offset: offset as usize,
            length,
            of: 512,
        };
        assert_eq!(heard(&mut connection, &bytes), Err(beyond));
    }
}

#[test]
fn data_of_no_write_is_dropped() {
    let mut bytes = data_out(0, 512).0.to_vec();
    bytes.resize(48 + 512, 7);
    assert_eq!(heard(&mut connection(), &bytes), Ok(0));
}

/// A status PDU with sense has 20 bytes of data.
#[test]
fn what_lies_behind_the_end_is_refused_and_wraps_nowhere() {
    let mut beyond = [0x88; 16];
    beyond[2..10].copy_from_slice(&u64::MAX.to_be_bytes());
    for (cdb, waiting) in [
        (&[0x28, 0, 0, 0, 7, 0xff, 0, 0, 1, 0][..], 48 + 512),
        (&[0x28, 0, 0, 0, 8, 0, 0, 0, 1, 0], 48 + 20),
        (&beyond, 48 + 20),
        (&[0xee], 48 + 20),
        (&[0x12, 1, 0xb0, 0, 96, 0], 48 + 20),
        (&[0x12, 0, 0, 0, 96, 0], 48 + 36),
        (&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 48 + 8),
        (&[0], 48),
    ] {
        assert_eq!(
            heard(&mut connection(), &command(cdb, 512).0),
            Ok(waiting),
            "{cdb:02x?}"
        );
    }
}
