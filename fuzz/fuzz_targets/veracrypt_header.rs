//! Hostile headers of TrueCrypt and VeraCrypt after decryption, keys that a server gets, keyfiles.
#![no_main]

#[path = "../foreign.rs"]
mod foreign;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    foreign::veracrypt_header(data);
});
