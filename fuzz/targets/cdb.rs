#![no_main]
//! Any text as a system id.
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = scsi_model::control::SystemId::new(String::from_utf8_lossy(data));
});
