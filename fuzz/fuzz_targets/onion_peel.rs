//! The target `onion_peel`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmen_fuzz::run("onion_peel", data));
