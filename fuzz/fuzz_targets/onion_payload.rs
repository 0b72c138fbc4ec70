//! The target `onion_payload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmen_fuzz::run("onion_payload", data));
