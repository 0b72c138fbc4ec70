//! BOLT 2: one channel as a deterministic state machine.
#![no_std]
extern crate alloc;

mod config;
mod error;
mod htlc;
mod input;
mod output;

pub use config::{ChannelConfig, ChannelContext, Feerates};
pub use error::{ChannelError, ChannelFault, OpenError, Refusal, Remedy, RestoreError, Rule};
pub use htlc::{HtlcFailure, HtlcResolution, ONION_LEN, UpdateState};
pub use input::{AcceptRequest, AddHtlc, ChannelInput, OpenRequest, OurKeys, UpfrontShutdown};
pub use output::{
    ChannelOutput, CloseReason, Closing, EnforcementData, IncomingHtlc,
};
