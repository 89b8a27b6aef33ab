//! CRC32C digests (RFC 7143 13.1): four bytes after the header segments and after the padded data.
//!
//! Two libraries, for two kinds of processors. `crc-fast` multiplies without carry beside the CRC instruction, which is the faster way
//! with the wide registers of AVX-512 and on ARM. On an x86 without them it is not: there three streams of the CRC
//! instruction alone, as `crc32c` has them, take three quarters of the time.

/// Length of a digest.
pub const DIGEST_LENGTH: usize = 4;

/// The digest of `bytes` as it goes on the wire. Hardware does it where it can.
pub fn crc32c(bytes: &[u8]) -> [u8; DIGEST_LENGTH] {
    crc32c_of(&[bytes])
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
    let crc = if prefers_streams() {
        in_streams(parts)
    } else {
        by_folding(parts)
    };
    // The bit order of RFC 7143 13.1 puts the least significant byte first.
    crc.to_le_bytes()
}

fn prefers_streams() -> bool {
    #[cfg(target_arch = "x86_64")]
    return !std::arch::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn in_streams(parts: &[&[u8]]) -> u32 {
    parts
        .iter()
        .fold(0, |crc, part| ::crc32c::crc32c_append(crc, part))
}

fn by_folding(parts: &[&[u8]]) -> u32 {
    if let [bytes] = parts {
        return crc_fast::crc32_iscsi(bytes);
    }
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    // A 32-bit algorithm fills the low half.
    digest.finalize() as u32
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

    /// Whichever is used here, the other one is on another machine.
    #[test]
    fn both_ways_agree() {
        let bytes: Vec<u8> = (0..70_000_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for length in (0..600).chain([4095, 4096, 4097, 8191, 8192, 24_576, 65_536, 70_000]) {
            let (head, tail) = bytes[..length].split_at(length / 3);
            let crc = by_folding(&[&bytes[..length]]);
            assert_eq!(in_streams(&[&bytes[..length]]), crc, "length {length}");
            assert_eq!(in_streams(&[head, tail]), crc, "length {length}, in parts");
            assert_eq!(by_folding(&[head, tail]), crc, "length {length}, in parts");
        }
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
