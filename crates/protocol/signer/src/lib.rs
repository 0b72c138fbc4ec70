//! Signing requests, policy checks and the in-memory keys manager.
#![no_std]
extern crate alloc;
