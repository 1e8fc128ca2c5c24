//! Hostile header files: whatever the bytes, reading, attaching, restoring and scanning end without a panic.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::header_file(data));
