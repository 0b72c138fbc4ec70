//! The target `bolt12_offer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmen_fuzz::run("bolt12_offer", data));
