//! Path finding over an immutable graph snapshot.
#![no_std]
extern crate alloc;
