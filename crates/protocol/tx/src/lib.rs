//! BOLT 3 keys, scripts and transactions.
#![no_std]
extern crate alloc;
