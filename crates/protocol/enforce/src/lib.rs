//! BOLT 5: on-chain resolution, claims, fee bumping and justice.
#![no_std]
extern crate alloc;
