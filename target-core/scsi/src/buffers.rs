//! READ BUFFER and WRITE BUFFER (SPC-4 6.18, 6.49): a data buffer and an echo buffer for each nexus; and the
//! diagnostic commands (SPC-4 6.23, 6.40), which have one page.

use crate::{big_endian::field, failure::Failure, plan::Answer, sense::Sense, sense::SenseKey, sense_codes};

/// Bytes of either buffer.
const CAPACITY: usize = 4096;

const DATA: u8 = 0x02;
const DESCRIPTOR: u8 = 0x03;
const ECHO: u8 = 0x0A;
const ECHO_DESCRIPTOR: u8 = 0x0B;

/// What a nexus wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Buffers {
    data: Vec<u8>,
    echo: Vec<u8>,
}

impl Buffers {
    /// READ BUFFER(10): mode, buffer id 0, offset, length.
    pub(crate) fn read(&self, cdb: &[u8]) -> Result<Answer, Failure> {
        let offset = field(cdb, 3..6) as usize;
        let allocation_length = field(cdb, 6..9) as usize;
        check_buffer_id(cdb)?;
        let data = match cdb[1] {
            DESCRIPTOR | ECHO_DESCRIPTOR => vec![0, 0, (CAPACITY >> 8) as u8, CAPACITY as u8],
            DATA if offset <= CAPACITY => {
                let mut data = self.data.clone();
                data.resize(CAPACITY, 0);
                data.split_off(offset)
            }
            DATA => return Err(Sense::invalid_cdb_field(3, Some(7)).into()),
            ECHO if self.echo.is_empty() => {
                return Err(Sense::new(SenseKey::IllegalRequest, sense_codes::COMMAND_SEQUENCE_ERROR).into());
            }
            ECHO => self.echo.clone(),
            _ => return Err(Sense::invalid_cdb_field(1, Some(4)).into()),
        };
        Ok(Answer::data(data, allocation_length))
    }

    /// WRITE BUFFER; gives the length that the CDB asks for.
    pub(crate) fn write(&mut self, cdb: &[u8], data_out: &[u8]) -> Result<u64, Failure> {
        let offset = field(cdb, 3..6) as usize;
        let length = field(cdb, 6..9) as usize;
        check_buffer_id(cdb)?;
        if !matches!(cdb[1], DATA | ECHO) {
            return Err(Sense::invalid_cdb_field(1, Some(4)).into());
        }
        if length > CAPACITY || offset > CAPACITY - length || (cdb[1] == ECHO && offset != 0) {
            let byte = if length > CAPACITY { 6 } else { 3 };
            return Err(Sense::invalid_cdb_field(byte, Some(7)).into());
        }
        let wrong_length = Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR);
        let sent = data_out.get(..length).ok_or(wrong_length)?;
        if cdb[1] == ECHO {
            self.echo = sent.to_vec();
        } else {
            self.data.resize(CAPACITY, 0);
            self.data[offset..offset + length].copy_from_slice(sent);
        }
        Ok(length as u64)
    }
}

fn check_buffer_id(cdb: &[u8]) -> Result<(), Failure> {
    if cdb[2] == 0 {
        Ok(())
    } else {
        Err(Sense::invalid_cdb_field(2, Some(7)).into())
    }
}

/// SEND DIAGNOSTIC: the default self-test, which passes, or a list that asks for page 00h. Gives the length that
/// the CDB asks for.
pub(crate) fn send_diagnostic(cdb: &[u8], data_out: &[u8]) -> Result<u64, Failure> {
    let self_test_code = cdb[1] >> 5;
    if self_test_code != 0 {
        return Err(Sense::invalid_cdb_field(1, Some(7)).into());
    }
    let length = field(cdb, 3..5) as usize;
    let wrong_length = Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR);
    let list = data_out.get(..length).ok_or(wrong_length)?;
    match list {
        [] | [0, 0, 0, 0] => Ok(length as u64),
        [0, _, _, _, ..] => Err(wrong_length.into()),
        _ => Err(Sense::invalid_parameter(0, None).into()),
    }
}

/// RECEIVE DIAGNOSTIC RESULTS: page 00h lists itself.
pub(crate) fn receive_diagnostic(cdb: &[u8]) -> Result<Answer, Failure> {
    if cdb[2] != 0 {
        return Err(Sense::invalid_cdb_field(2, Some(7)).into());
    }
    Ok(Answer::data(vec![0, 0, 0, 1, 0], field(cdb, 3..5) as usize))
}

/// READ DEFECT DATA (10) and (12): both lists are empty, in the format asked for.
pub(crate) fn read_defect_data(cdb: &[u8]) -> Answer {
    if cdb[0] == 0x37 {
        Answer::data(vec![0, cdb[2] & 0x1F, 0, 0], field(cdb, 7..9) as usize)
    } else {
        Answer::data(
            vec![0, cdb[1] & 0x1F, 0, 0, 0, 0, 0, 0],
            field(cdb, 6..10) as usize,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut buffers = Buffers::default();
        assert!(buffers.read(&[0x3C, ECHO, 0, 0, 0, 0, 0, 0, 4, 0]).is_err());
        buffers
            .write(&[0x3B, ECHO, 0, 0, 0, 0, 0, 0, 3, 0], b"abc")
            .unwrap();
        assert_eq!(
            buffers
                .read(&[0x3C, ECHO, 0, 0, 0, 0, 0, 0, 9, 0])
                .unwrap()
                .data_in,
            b"abc"
        );
        buffers
            .write(&[0x3B, DATA, 0, 0, 0x0F, 0xFE, 0, 0, 2, 0], b"yz")
            .unwrap();
        assert_eq!(
            buffers
                .read(&[0x3C, DATA, 0, 0, 0x0F, 0xFD, 0, 0, 9, 0])
                .unwrap()
                .data_in,
            b"\0yz"
        );
        assert!(
            buffers
                .write(&[0x3B, DATA, 0, 0, 0x0F, 0xFF, 0, 0, 2, 0], b"yz")
                .is_err()
        );
        assert_eq!(
            buffers
                .read(&[0x3C, DESCRIPTOR, 0, 0, 0, 0, 0, 0, 4, 0])
                .unwrap()
                .data_in,
            [0, 0, 16, 0]
        );
    }
}
