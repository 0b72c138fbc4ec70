//! Payments: send, receive and forward, as deterministic state machines.
#![no_std]
extern crate alloc;
