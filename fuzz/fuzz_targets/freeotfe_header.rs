//! Hostile headers of FreeOTFE after decryption, and keys that a server gets.
#![no_main]

#[path = "../foreign.rs"]
mod foreign;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    foreign::freeotfe_header(data);
});
