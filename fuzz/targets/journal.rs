#![no_main]
//! Any bytes as a journal file: read or refused, never a panic; what is read can be replayed or is refused.
//!
//! Checksums would stop the fuzzer at the door, so the target puts right ones where docs/journal.md says they are.
use libfuzzer_sys::fuzz_target;
use replication_engine::journal::{Image, parse};

/// Header of 64 bytes, then records: length, checksum, number, synced, type, payload.
fn seal(mut file: Vec<u8>) -> Vec<u8> {
    if file.len() < 64 {
        return file;
    }
    file[..8].copy_from_slice(b"HFJOURNL");
    file[8..12].copy_from_slice(&1u32.to_le_bytes());
    file[12..16].copy_from_slice(&65536u32.to_le_bytes());
    let sum = crc32c::crc32c(&file[..60]);
    file[60..64].copy_from_slice(&sum.to_le_bytes());
    let epoch: [u8; 4] = file[16..20].try_into().expect("four bytes");
    let (mut at, mut number) = (64, 1u64);
    while file.len() >= at + 32 {
        let room = file.len() - at - 32;
        let length = usize::from(file[at]).min(room);
        let padded = (length + 7) & !7;
        if at + 32 + padded > file.len() {
            break;
        }
        file[at..at + 4].copy_from_slice(&(length as u32).to_le_bytes());
        file[at + 8..at + 16].copy_from_slice(&number.to_le_bytes());
        file[at + 25..at + 28].fill(0);
        file[at + 28..at + 32].copy_from_slice(&epoch);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&file[at..at + 4]), &file[at + 8..at + 32 + padded]);
        file[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
        at += 32 + padded;
        number += 1;
    }
    file
}

fuzz_target!(|data: &[u8]| {
    let _ = parse(data);
    if let Ok(journal) = parse(&seal(data.to_vec())) {
        let _ = Image::replay(65536, &journal.entries);
    }
});
