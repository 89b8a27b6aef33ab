//! Sense data (SPC-4 4.5): what a CHECK CONDITION says, in the fixed and in the descriptor format.

use crate::sense_codes::{self, AdditionalSense};

/// SENSE KEY (SPC-4 table 48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SenseKey {
    /// 0h.
    NoSense = 0x0,
    /// 1h.
    RecoveredError = 0x1,
    /// 2h.
    NotReady = 0x2,
    /// 3h.
    MediumError = 0x3,
    /// 4h.
    HardwareError = 0x4,
    /// 5h.
    IllegalRequest = 0x5,
    /// 6h.
    UnitAttention = 0x6,
    /// 7h.
    DataProtect = 0x7,
    /// Ah.
    CopyAborted = 0xA,
    /// Bh.
    AbortedCommand = 0xB,
    /// Eh.
    Miscompare = 0xE,
}

impl SenseKey {
    /// The key with this code, if this device server ever sends it.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x0 => Self::NoSense,
            0x1 => Self::RecoveredError,
            0x2 => Self::NotReady,
            0x3 => Self::MediumError,
            0x4 => Self::HardwareError,
            0x5 => Self::IllegalRequest,
            0x6 => Self::UnitAttention,
            0x7 => Self::DataProtect,
            0xA => Self::CopyAborted,
            0xB => Self::AbortedCommand,
            0xE => Self::Miscompare,
            _ => return None,
        })
    }
}

/// Which byte (and bit) of the CDB or the parameter list is in error (SPC-4 4.5.2.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldPointer {
    /// C/D: the byte is of the CDB (else of the parameter list).
    pub in_cdb: bool,
    /// FIELD POINTER.
    pub byte: u16,
    /// BIT POINTER: the most significant bit of the field in error.
    pub bit: Option<u8>,
}

/// Response codes 70h or 72h: chosen by D_SENSE of the Control mode page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SenseFormat {
    /// 70h, 18 bytes.
    #[default]
    Fixed,
    /// 72h.
    Descriptor,
}

/// What went wrong, free of any format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sense {
    /// SENSE KEY.
    pub key: SenseKey,
    /// ASC and ASCQ.
    pub additional: AdditionalSense,
    /// INFORMATION: an LBA, a byte offset or an index, as the code says.
    pub information: Option<u64>,
    /// The field in error.
    pub field: Option<FieldPointer>,
    /// PROGRESS INDICATION in 1/65536, in the place of the field pointer (SPC-4 4.5.2.4.4).
    pub progress: Option<u16>,
}

impl Sense {
    /// Sense data with neither information nor field pointer.
    pub const fn new(key: SenseKey, additional: AdditionalSense) -> Self {
        Self {
            key,
            additional,
            information: None,
            field: None,
            progress: None,
        }
    }

    /// The same with an INFORMATION field.
    #[must_use]
    pub const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    /// 5h/24h/00h with a pointer to a byte of the CDB.
    pub const fn invalid_cdb_field(byte: u16, bit: Option<u8>) -> Self {
        let mut sense = Self::new(SenseKey::IllegalRequest, sense_codes::INVALID_FIELD_IN_CDB);
        sense.field = Some(FieldPointer {
            in_cdb: true,
            byte,
            bit,
        });
        sense
    }

    /// 5h/26h/00h with a pointer to a byte of the parameter list.
    pub const fn invalid_parameter(byte: u16, bit: Option<u8>) -> Self {
        Self::in_parameter_list(sense_codes::INVALID_FIELD_IN_PARAMETER_LIST, byte, bit)
    }

    /// Key 5h, any code, with a pointer to a byte of the parameter list.
    pub const fn in_parameter_list(additional: AdditionalSense, byte: u16, bit: Option<u8>) -> Self {
        let mut sense = Self::new(SenseKey::IllegalRequest, additional);
        sense.field = Some(FieldPointer {
            in_cdb: false,
            byte,
            bit,
        });
        sense
    }

    /// Key 5h with this code.
    pub const fn illegal(additional: AdditionalSense) -> Self {
        Self::new(SenseKey::IllegalRequest, additional)
    }

    /// The bytes that follow the status (RFC 7143 11.4.7.2 puts the length before them).
    pub fn encode(&self, format: SenseFormat) -> Vec<u8> {
        match format {
            SenseFormat::Fixed => self.encode_fixed(),
            SenseFormat::Descriptor => self.encode_descriptor(),
        }
    }

    /// SPC-4 4.5.3. An INFORMATION value of more than 32 bits does not fit: VALID is zero then.
    fn encode_fixed(&self) -> Vec<u8> {
        let mut bytes = vec![0; 18];
        bytes[0] = 0x70;
        bytes[2] = self.key as u8;
        bytes[7] = 10;
        bytes[12] = self.additional.code;
        bytes[13] = self.additional.qualifier;
        if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        if let Some(specific) = self.key_specific() {
            bytes[15..18].copy_from_slice(&specific);
        }
        bytes
    }

    /// SPC-4 4.5.2: information (type 00h) and sense key specific (type 02h) descriptors.
    fn encode_descriptor(&self) -> Vec<u8> {
        let mut bytes = vec![
            0x72,
            self.key as u8,
            self.additional.code,
            self.additional.qualifier,
            0,
            0,
            0,
            0,
        ];
        if let Some(information) = self.information {
            bytes.extend([0x00, 0x0A, 0x80, 0x00]);
            bytes.extend(information.to_be_bytes());
        }
        if let Some(specific) = self.key_specific() {
            bytes.extend([0x02, 0x06, 0x00, 0x00]);
            bytes.extend(specific);
            bytes.push(0);
        }
        bytes[7] = (bytes.len() - 8) as u8;
        bytes
    }

    /// SENSE KEY SPECIFIC with SKSV.
    fn key_specific(&self) -> Option<[u8; 3]> {
        let progress = self.progress.map(|progress| {
            let [high, low] = progress.to_be_bytes();
            [0x80, high, low]
        });
        self.field.map(FieldPointer::encode).or(progress)
    }

    /// Reads sense data of either format; `None` when it is too short or has a key this crate does not know.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? & 0x7F {
            0x70 | 0x71 => Self::decode_fixed(bytes),
            0x72 | 0x73 => Self::decode_descriptor(bytes),
            _ => None,
        }
    }

    fn decode_fixed(bytes: &[u8]) -> Option<Self> {
        let key = SenseKey::from_code(bytes.get(2)? & 0x0F)?;
        let additional = AdditionalSense {
            code: bytes.get(12).copied().unwrap_or(0),
            qualifier: bytes.get(13).copied().unwrap_or(0),
        };
        let information = (bytes[0] & 0x80 != 0)
            .then(|| bytes.get(3..7))
            .flatten()
            .map(|b| u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])));
        let mut sense = Self::new(key, additional);
        sense.information = information;
        sense.read_key_specific(bytes.get(15..18).unwrap_or_default());
        Some(sense)
    }

    fn decode_descriptor(bytes: &[u8]) -> Option<Self> {
        let key = SenseKey::from_code(bytes.get(1)? & 0x0F)?;
        let additional = AdditionalSense {
            code: *bytes.get(2)?,
            qualifier: *bytes.get(3)?,
        };
        let mut sense = Self::new(key, additional);
        let mut rest = bytes.get(8..).unwrap_or_default();
        while let [kind, length, body @ ..] = rest {
            let length = usize::from(*length).min(body.len());
            let (descriptor, after) = body.split_at(length);
            match (*kind, descriptor) {
                (0x00, [valid, _, value @ ..]) if valid & 0x80 != 0 && value.len() == 8 => {
                    sense.information = Some(value.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
                }
                (0x02, [_, _, pointer @ ..]) if pointer.len() >= 3 => {
                    sense.read_key_specific(&pointer[..3]);
                }
                _ => {}
            }
            rest = after;
        }
        Some(sense)
    }

    /// What the bytes mean depends on the sense key: a field pointer, or progress.
    fn read_key_specific(&mut self, bytes: &[u8]) {
        match (self.key, bytes) {
            (SenseKey::IllegalRequest, _) => self.field = FieldPointer::decode(bytes),
            (SenseKey::NoSense | SenseKey::NotReady, [valid, high, low]) if valid & 0x80 != 0 => {
                self.progress = Some(u16::from_be_bytes([*high, *low]));
            }
            _ => {}
        }
    }
}

impl FieldPointer {
    /// SKSV, C/D, BPV, BIT POINTER, FIELD POINTER.
    fn encode(self) -> [u8; 3] {
        let [high, low] = self.byte.to_be_bytes();
        let first = 0x80 | u8::from(self.in_cdb) << 6 | self.bit.map_or(0, |bit| 0x08 | bit & 0x07);
        [first, high, low]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [first, high, low] = *bytes else { return None };
        (first & 0x80 != 0).then(|| Self {
            in_cdb: first & 0x40 != 0,
            byte: u16::from_be_bytes([high, low]),
            bit: (first & 0x08 != 0).then_some(first & 0x07),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format_is_the_standards() {
        let sense = Sense::invalid_cdb_field(2, Some(3));
        assert_eq!(
            sense.encode(SenseFormat::Fixed),
            [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xCB, 0, 2]
        );
    }

    #[test]
    fn information_beyond_32_bits_needs_the_descriptor_format() {
        let sense =
            Sense::new(SenseKey::MediumError, sense_codes::UNRECOVERED_READ_ERROR).with_information(1 << 40);
        assert_eq!(sense.encode(SenseFormat::Fixed)[0], 0x70);
        assert_eq!(
            sense.encode(SenseFormat::Descriptor),
            [
                0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0
            ]
        );
    }

    #[test]
    fn both_formats_read_back() {
        let mut sense = Sense::invalid_parameter(17, None).with_information(7);
        for format in [SenseFormat::Fixed, SenseFormat::Descriptor] {
            assert_eq!(Sense::decode(&sense.encode(format)), Some(sense));
        }
        sense.field = None;
        sense.information = None;
        assert_eq!(Sense::decode(&sense.encode(SenseFormat::Descriptor)), Some(sense));
        assert_eq!(Sense::decode(&[0x7F]), None);
    }
}
