//! BOLT 8 handshake and encrypted framing without IO.
#![no_std]
extern crate alloc;
