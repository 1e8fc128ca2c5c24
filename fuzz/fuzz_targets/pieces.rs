//! Hostile blocks and piece maps of folders of pieces.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::pieces(data));
