//! Hostile native headers: whatever the bytes, reading, describing, unlocking and healing end without a panic.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::native_header(data));
