//! Hostile UDF: what it holds is read in bounded time.
#![no_main]

#[path = "../foreign.rs"]
mod foreign;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    foreign::udf(data);
});
