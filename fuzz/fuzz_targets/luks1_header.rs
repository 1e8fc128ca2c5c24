//! Hostile LUKS1 headers: whatever the bytes, reading, describing and unlocking end without a panic.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::luks1_header(data));
