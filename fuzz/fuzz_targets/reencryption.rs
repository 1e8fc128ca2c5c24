//! Hostile records, journals and sections of a re-encryption: opening, healing and reading end without a panic.
#![no_main]

#[path = "../reencryption.rs"]
mod reencryption;

libfuzzer_sys::fuzz_target!(|data: &[u8]| reencryption::reencryption(data));
