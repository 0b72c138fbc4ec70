//! The target `bolt12_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmen_fuzz::run("bolt12_request", data));
