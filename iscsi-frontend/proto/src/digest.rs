//! CRC32C digests (RFC 7143 13.1): four bytes after the header segments and after the padded data.

/// Length of a digest.
pub const DIGEST_LENGTH: usize = 4;

/// The digest of `bytes` as it goes on the wire. Hardware does it where it can.
pub fn crc32c(bytes: &[u8]) -> [u8; DIGEST_LENGTH] {
    // The bit order of RFC 7143 13.1 puts the least significant byte first.
    crc_fast::crc32_iscsi(bytes).to_le_bytes()
}

/// The digest of `data` and the zeros that pad it to words.
pub fn crc32c_padded(data: &[u8]) -> [u8; DIGEST_LENGTH] {
    match padding(data.len()) {
        0 => crc32c(data),
        padding => crc32c_of(&[data, &[0; 3][..padding]]),
    }
}

/// The digest of these parts, one behind the other.
pub fn crc32c_of(parts: &[&[u8]]) -> [u8; DIGEST_LENGTH] {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    // A 32-bit algorithm fills the low half.
    (digest.finalize() as u32).to_le_bytes()
}

/// How many zeros make `length` a multiple of four.
pub fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7143 Appendix A.
    #[test]
    fn examples_of_the_rfc() {
        assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), [0x4e, 0x79, 0xdd, 0x46]);
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&descending), [0x5c, 0xdb, 0x3f, 0x11]);
    }

    #[test]
    fn padding_is_part_of_the_digest() {
        for length in 0..9 {
            let data = vec![0x5a; length];
            let mut padded = data.clone();
            padded.resize(length + padding(length), 0);
            assert_eq!(padded.len() % 4, 0);
            assert_eq!(crc32c_padded(&data), crc32c(&padded), "length {length}");
        }
    }
}
