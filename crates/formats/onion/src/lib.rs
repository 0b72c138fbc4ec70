//! BOLT 4 onions: build, peel, payloads and failures.
#![no_std]
extern crate alloc;
