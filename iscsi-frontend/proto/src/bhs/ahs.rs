//! Additional header segments (RFC 7143 11.2.2): the extended CDB and the bidirectional read length.

/// What the additional header segments of a PDU say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdditionalHeaders<'a> {
    /// CDB bytes from 16 on.
    pub extended_cdb: Option<&'a [u8]>,
    /// Expected bidirectional read data length in bytes.
    pub read_length: Option<u32>,
}

/// What is wrong with the additional header segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AhsError {
    /// A segment runs past TotalAHSLength.
    #[error("additional header segment of {length} bytes in {left} bytes")]
    Truncated {
        /// What it says.
        length: usize,
        /// What there is.
        left: usize,
    },
    /// A type that this version does not know.
    #[error("unknown additional header segment type {0}")]
    UnknownType(u8),
    /// The same type twice.
    #[error("additional header segment type {0} twice")]
    Duplicate(u8),
    /// A length that the type cannot have.
    #[error("additional header segment type {kind} with AHSLength {length}")]
    WrongLength {
        /// The type.
        kind: u8,
        /// AHSLength.
        length: usize,
    },
}

const EXTENDED_CDB: u8 = 1;
const READ_LENGTH: u8 = 2;

impl<'a> AdditionalHeaders<'a> {
    /// Parses all segments of a PDU; `bytes` is TotalAHSLength words long.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, AhsError> {
        let mut headers = Self::default();
        while !bytes.is_empty() {
            let [high, low, kind, ..] = *bytes else {
                return Err(AhsError::Truncated {
                    length: 3,
                    left: bytes.len(),
                });
            };
            // AHSLength counts from byte 3 on: a reserved byte and the content, without padding.
            let length = usize::from(u16::from_be_bytes([high, low]));
            let padded = (3 + length).next_multiple_of(4);
            if padded > bytes.len() {
                return Err(AhsError::Truncated {
                    length: padded,
                    left: bytes.len(),
                });
            }
            let content = bytes.get(4..3 + length);
            match (kind, content) {
                (EXTENDED_CDB, Some(content)) => {
                    if headers.extended_cdb.replace(content).is_some() {
                        return Err(AhsError::Duplicate(kind));
                    }
                }
                (READ_LENGTH, Some(&[a, b, c, d])) => {
                    if headers
                        .read_length
                        .replace(u32::from_be_bytes([a, b, c, d]))
                        .is_some()
                    {
                        return Err(AhsError::Duplicate(kind));
                    }
                }
                (EXTENDED_CDB | READ_LENGTH, _) => return Err(AhsError::WrongLength { kind, length }),
                _ => return Err(AhsError::UnknownType(kind)),
            }
            bytes = &bytes[padded..];
        }
        Ok(headers)
    }

    /// The segments as bytes, padded: the inverse of [`AdditionalHeaders::parse`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut segment = |kind: u8, content: &[u8]| {
            let length = u16::try_from(content.len() + 1).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&[kind, 0]);
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        };
        if let Some(cdb) = self.extended_cdb {
            segment(EXTENDED_CDB, cdb);
        }
        if let Some(length) = self.read_length {
            segment(READ_LENGTH, &length.to_be_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_by_name() {
        assert_eq!(
            AdditionalHeaders::parse(&[0, 9, 1, 0]),
            Err(AhsError::Truncated { length: 12, left: 4 })
        );
        assert_eq!(
            AdditionalHeaders::parse(&[0, 1, 3, 0]),
            Err(AhsError::UnknownType(3))
        );
        assert_eq!(
            AdditionalHeaders::parse(&[0, 4, 2, 0, 0, 0, 0, 0]),
            Err(AhsError::WrongLength { kind: 2, length: 4 })
        );
        assert_eq!(
            AdditionalHeaders::parse(&[0, 0, 1, 0]),
            Err(AhsError::WrongLength { kind: 1, length: 0 })
        );
        let twice = [0, 5, 1, 0, 1, 2, 3, 4].repeat(2);
        assert_eq!(AdditionalHeaders::parse(&twice), Err(AhsError::Duplicate(1)));
    }

    #[test]
    fn thirty_two_byte_cdb_has_ahs_length_17() {
        let tail = [7; 16];
        let bytes = AdditionalHeaders {
            extended_cdb: Some(&tail),
            read_length: None,
        }
        .to_bytes();
        assert_eq!(&bytes[..4], &[0, 17, 1, 0]);
        assert_eq!(bytes.len(), 20);
    }

    proptest! {
        #[test]
        fn round_trip(cdb in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64)), length: Option<u32>) {
            let headers = AdditionalHeaders { extended_cdb: cdb.as_deref(), read_length: length };
            let bytes = headers.to_bytes();
            prop_assert_eq!(AdditionalHeaders::parse(&bytes), Ok(headers));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = AdditionalHeaders::parse(&bytes);
        }
    }
}
