//! Logical unit numbers in their eight-byte form (SAM-5 4.7).

/// Reads a single-level LUN: peripheral device addressing (bus 0) or flat space addressing. `None` is a LUN that
/// no unit here can have.
pub fn parse(lun: [u8; 8]) -> Option<u16> {
    let [first, second, rest @ ..] = lun;
    if rest != [0; 6] {
        return None;
    }
    match first >> 6 {
        0b00 if first == 0 => Some(u16::from(second)),
        0b01 => Some(u16::from_be_bytes([first & 0x3F, second])),
        _ => None,
    }
}

/// The form REPORT LUNS gives: peripheral below 256, flat above. `lun` is below 16384.
pub fn encode(lun: u16) -> [u8; 8] {
    let [high, low] = lun.to_be_bytes();
    let first = if high == 0 { 0 } else { 0x40 | high & 0x3F };
    [first, low, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addressing_methods_read_back() {
        for lun in [0, 1, 255, 256, 16_383] {
            assert_eq!(parse(encode(lun)), Some(lun));
        }
        assert_eq!(parse([0x40, 5, 0, 0, 0, 0, 0, 0]), Some(5));
    }

    #[test]
    fn other_buses_levels_and_methods_are_nobody() {
        assert_eq!(parse([1, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(parse([0, 1, 0, 1, 0, 0, 0, 0]), None);
        assert_eq!(parse([0xC1, 1, 0, 0, 0, 0, 0, 0]), None);
    }
}
