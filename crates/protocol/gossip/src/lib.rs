//! BOLT 7: the network graph and its synchronisation.
#![no_std]
extern crate alloc;
