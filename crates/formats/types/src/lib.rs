//! Amounts, identifiers, features and the byte codec that every Fulmen crate shares.
#![no_std]
extern crate alloc;
