//! The whole node: one input enum, one value of effects per step.
#![no_std]
extern crate alloc;
