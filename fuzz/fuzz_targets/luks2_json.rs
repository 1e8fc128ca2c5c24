//! Hostile JSON areas of LUKS2 headers: whatever the text, parsing ends without a panic.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::luks2_json(data));
