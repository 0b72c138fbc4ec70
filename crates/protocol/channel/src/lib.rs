//! BOLT 2: one channel as a deterministic state machine.
#![no_std]
extern crate alloc;
