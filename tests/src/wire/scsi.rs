//! SCSI commands over a [`Wire`]: sent field by field, data asked for by R2T delivered, data received put together.

use super::{FINAL, Pdu, Wire};
use crate::commands::Command;

/// R bit of a SCSI Command.
pub const READ: u8 = 0x40;
/// W bit of a SCSI Command.
pub const WRITE: u8 = 0x20;

/// A SCSI command's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// SAM status.
    pub status: u8,
    /// Sense key, ASC, ASCQ; zeros without sense data.
    pub sense: (u8, u8, u8),
    /// INFORMATION of the sense data, if it is valid.
    pub information: Option<u64>,
    /// Data-In.
    pub data: Vec<u8>,
    /// Byte 1 of the PDU with the status: O and U bits.
    pub flags: u8,
    /// Residual count.
    pub residual: u32,
}

impl Ended {
    /// GOOD.
    pub fn is_good(&self) -> bool {
        self.status == 0
    }
}

/// `key/ASC/ASCQ` of an end with sense data.
pub type Sense = (u8, u8, u8);

impl Wire {
    /// A SCSI Command PDU with the next `CmdSN`, which it takes.
    pub fn command_pdu(&mut self, lun: u16, tag: u32, flags: u8, expected: u32, cdb: &[u8]) -> Pdu {
        let pdu = Pdu::new(0x01, flags)
            .put(8, &lun.to_be_bytes())
            .word(16, tag)
            .word(20, expected)
            .word(24, self.cmd_sn)
            .word(28, self.exp_stat_sn)
            .put(32, cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        pdu
    }

    /// Sends a command and sees it through to its end. Data out goes as the R2Ts ask.
    pub fn scsi(&mut self, lun: u16, command: &Command) -> Ended {
        let tag = self.cmd_sn;
        let (flags, expected) = if command.data_out.is_empty() {
            let read = if command.data_in > 0 { READ } else { 0 };
            (FINAL | read, command.data_in)
        } else {
            let length = u32::try_from(command.data_out.len()).expect("a test's data is short");
            (FINAL | WRITE, length)
        };
        let pdu = self.command_pdu(lun, tag, flags, expected, &command.cdb);
        self.send(&pdu);
        self.finish(tag, &command.data_out)
    }

    /// Sees a command that was sent through to its end.
    pub fn finish(&mut self, tag: u32, data_out: &[u8]) -> Ended {
        let mut data = Vec::new();
        loop {
            let pdu = self.answer();
            assert_eq!(pdu.get(16), tag, "an answer to another task: {pdu:?}");
            match pdu.bhs.0[0] {
                0x25 => {
                    let offset = pdu.get(40) as usize;
                    assert_eq!(offset, data.len(), "DataPDUInOrder");
                    data.extend_from_slice(&pdu.data);
                    if pdu.bhs.0[1] & 1 != 0 {
                        self.exp_stat_sn = pdu.get(24).wrapping_add(1);
                        return ended(&pdu, data);
                    }
                }
                0x31 => self.send_what_is_asked_for(&pdu, data_out),
                0x21 => {
                    self.exp_stat_sn = pdu.get(24).wrapping_add(1);
                    return ended(&pdu, data);
                }
                other => panic!("opcode {other:02x}h answers a command"),
            }
        }
    }

    /// Data-Out for one R2T, in PDUs of 8 KiB.
    pub fn send_what_is_asked_for(&mut self, r2t: &Pdu, data_out: &[u8]) {
        let (start, length) = (r2t.get(40) as usize, r2t.get(44) as usize);
        let pieces = data_out[start..start + length].chunks(8192).enumerate();
        for (number, piece) in pieces {
            let last = (number + 1) * 8192 >= length;
            let pdu = self
                .data_out(
                    r2t.get(16),
                    r2t.get(20),
                    number as u32,
                    start + number * 8192,
                    piece,
                )
                .put(1, &[if last { FINAL } else { 0 }])
                .put(8, &r2t.bhs.0[8..16]);
            self.send(&pdu);
        }
    }

    /// A Data-Out PDU with F=1.
    pub fn data_out(&self, tag: u32, transfer_tag: u32, data_sn: u32, offset: usize, data: &[u8]) -> Pdu {
        Pdu::new(0x05, FINAL)
            .word(16, tag)
            .word(20, transfer_tag)
            .word(28, self.exp_stat_sn)
            .word(36, data_sn)
            .word(40, offset as u32)
            .with_data(data)
    }

    /// A SNACK of this type for a run of numbers.
    pub fn snack(&self, kind: u8, tag: u32, transfer_tag: u32, begin: u32, run: u32) -> Pdu {
        Pdu::new(0x10, FINAL | kind)
            .word(16, tag)
            .word(20, transfer_tag)
            .word(28, self.exp_stat_sn)
            .word(40, begin)
            .word(44, run)
    }

    /// TASK REASSIGN of the task with this tag, whose next DataSN is given; gives the response code.
    pub fn reassign(&mut self, tag: u32, exp_data_sn: u32) -> u8 {
        let pdu = Pdu::new(0x02 | super::IMMEDIATE, FINAL | 8)
            .word(16, 0x7a5c)
            .word(20, tag)
            .word(24, self.cmd_sn)
            .word(28, self.exp_stat_sn)
            .word(36, exp_data_sn);
        self.send(&pdu);
        let answer = self.answer();
        assert_eq!((answer.bhs.0[0], answer.get(16)), (0x22, 0x7a5c), "{answer:?}");
        self.exp_stat_sn = answer.get(24).wrapping_add(1);
        answer.bhs.0[2]
    }

    /// TEST UNIT READY until no unit attention is left; gives the senses on the way.
    pub fn attentions(&mut self, lun: u16) -> Vec<Sense> {
        let mut heard = Vec::new();
        for _ in 0..16 {
            let ended = self.scsi(lun, &Command::default());
            if ended.sense.0 != 6 {
                return heard;
            }
            heard.push(ended.sense);
        }
        panic!("unit attentions without end: {heard:?}");
    }

    /// A task management function; gives the response code.
    pub fn manage(&mut self, function: u8, lun: u16, referenced: u32, ref_cmd_sn: u32) -> u8 {
        self.managed(function, lun, referenced, ref_cmd_sn).bhs.0[2]
    }

    /// As [`Self::manage`]; gives the whole response.
    pub fn managed(&mut self, function: u8, lun: u16, referenced: u32, ref_cmd_sn: u32) -> Pdu {
        let pdu = Pdu::new(0x02 | super::IMMEDIATE, FINAL | function)
            .put(8, &lun.to_be_bytes())
            .word(16, 0x7a5c)
            .word(20, referenced)
            .word(24, self.cmd_sn)
            .word(28, self.exp_stat_sn)
            .word(32, ref_cmd_sn);
        self.send(&pdu);
        let answer = self.answer();
        assert_eq!((answer.bhs.0[0], answer.get(16)), (0x22, 0x7a5c), "{answer:?}");
        self.exp_stat_sn = answer.get(24).wrapping_add(1);
        answer
    }
}

fn ended(pdu: &Pdu, data: Vec<u8>) -> Ended {
    let is_response = pdu.bhs.0[0] == 0x21;
    let sense = if is_response && pdu.data.len() > 2 {
        &pdu.data[2..]
    } else {
        &[]
    };
    let at = |place: usize| sense.get(place).copied().unwrap_or(0);
    let (key, information) = match at(0) & 0x7f {
        0x72 | 0x73 => ((at(1) & 15, at(2), at(3)), None),
        _ => {
            let word = [at(3), at(4), at(5), at(6)];
            let valid = at(0) & 0x80 != 0;
            (
                (at(2) & 15, at(12), at(13)),
                valid.then(|| u64::from(u32::from_be_bytes(word))),
            )
        }
    };
    Ended {
        status: pdu.bhs.0[3],
        sense: key,
        information,
        data,
        flags: pdu.bhs.0[1],
        residual: pdu.get(44),
    }
}
