//! `iscsi-bench crc`: how fast the CRC32C is that the load generator uses.

use std::hint::black_box;

use crate::clock::now_ns;

/// Nanoseconds spent on each length.
const TIME: u64 = 300_000_000;

/// Prints a line for each of some lengths.
pub(crate) fn run() {
    for length in [48_usize, 512, 4096, 65536, 262_144] {
        let data = vec![7; length];
        let (begun, mut count, mut sum) = (now_ns(), 0_u64, 0);
        while now_ns() - begun < TIME {
            for _ in 0..16 {
                sum ^= crc32c::crc32c(black_box(&data));
                count += 1;
            }
        }
        let took = (now_ns() - begun) as f64;
        println!(
            "crc32c {length:>7} B: {:.2} GB/s, {:.0} ns each ({sum:x})",
            (count * length as u64) as f64 / took,
            took / count as f64
        );
    }
}
