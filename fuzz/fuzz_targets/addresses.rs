//! The target `addresses`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmen_fuzz::run("addresses", data));
