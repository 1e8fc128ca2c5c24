//! Random commands, failures and crashes: no key, no header and no flushed sector is ever lost.
#![no_main]

#[path = "../crash_model.rs"]
mod crash_model;

libfuzzer_sys::fuzz_target!(|data: &[u8]| crash_model::crash_model(data));
