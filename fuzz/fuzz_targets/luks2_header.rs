//! Hostile LUKS2 headers: whatever the bytes, reading, describing, unlocking and healing end without a panic.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::luks2_header(data));
