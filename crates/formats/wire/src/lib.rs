//! Lightning messages of BOLT 1, 2 and 7: encode and decode, byte for byte.
#![no_std]
extern crate alloc;
