//! The target `onion_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fulmen_fuzz::run("onion_message", data));
