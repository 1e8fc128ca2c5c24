//! Hostile ext2, ext3 and ext4: what they hold, their journals too, is read in bounded time.
#![no_main]

#[path = "../foreign.rs"]
mod foreign;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    foreign::ext(data);
});
