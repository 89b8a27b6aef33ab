//! READ CAPACITY (10) and (16) (SBC-3 5.15, 5.16).

use crate::{big_endian::field, plan::Answer, unit::UnitIdentity};

/// Eight bytes: the last LBA, or `FFFFFFFFh` when it does not fit, and the block size.
pub(crate) fn read_capacity_10(identity: &UnitIdentity) -> Answer {
    let last = u32::try_from(identity.blocks - 1).unwrap_or(u32::MAX);
    let mut data = last.to_be_bytes().to_vec();
    data.extend(identity.block_size.to_be_bytes());
    Answer::data(data, 8)
}

/// 32 bytes: with the physical block exponent, and LBPME and LBPRZ of a thin unit.
pub(crate) fn read_capacity_16(cdb: &[u8], identity: &UnitIdentity) -> Answer {
    let mut data = (identity.blocks - 1).to_be_bytes().to_vec();
    data.extend(identity.block_size.to_be_bytes());
    let exponent = (identity.physical_block_size / identity.block_size).trailing_zeros() as u8;
    data.extend([0, exponent, if identity.thin { 0xC0 } else { 0 }, 0]);
    data.resize(32, 0);
    Answer::data(data, field(cdb, 10..14) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_commands::tests::identity;

    #[test]
    fn both_forms_agree_until_32_bits_are_too_few() {
        let mut identity = identity();
        assert_eq!(read_capacity_10(&identity).data_in, [0, 0, 7, 0xFF, 0, 0, 2, 0]);
        identity.blocks = 1 << 33;
        identity.physical_block_size = 4096;
        assert_eq!(read_capacity_10(&identity).data_in[..4], [0xFF; 4]);
        let mut cdb = [0; 16];
        cdb[13] = 16;
        assert_eq!(
            read_capacity_16(&cdb, &identity).data_in,
            [0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 2, 0, 0, 3, 0xC0, 0]
        );
    }
}
