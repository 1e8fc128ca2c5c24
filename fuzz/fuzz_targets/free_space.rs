//! Hostile file systems: where the free space at their end begins is within the volume, and is found in bounded time.
#![no_main]

#[path = "../foreign.rs"]
mod foreign;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    foreign::free_space(data);
});
