//! BOLT 11 invoices: parse, build, sign, recover.
#![no_std]
extern crate alloc;
