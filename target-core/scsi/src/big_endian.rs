//! Big-endian fields of CDBs and parameter lists.

use std::ops::Range;

/// The unsigned field in `range` (at most 8 bytes); bytes that are not there count as none, so a field wholly
/// beyond the end is zero. Lengths are checked by the callers, this only never panics.
pub(crate) fn field(bytes: &[u8], range: Range<usize>) -> u64 {
    bytes
        .iter()
        .skip(range.start)
        .take(range.end - range.start)
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Appends `text` as ASCII, cut or padded with spaces to `width`.
pub(crate) fn push_padded(data: &mut Vec<u8>, text: &str, width: usize) {
    let start = data.len();
    data.extend(text.bytes().take(width));
    data.resize(start + width, b' ');
}
