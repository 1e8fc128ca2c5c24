//! Whole containers of every format, changed: what opens lies within its container, and opens again after it was made fit for writing.
#![no_main]

#[path = "../foreign.rs"]
mod foreign;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    foreign::unlock(data);
});
