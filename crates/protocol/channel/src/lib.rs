//! BOLT 2: one channel as a deterministic state machine.
#![no_std]
extern crate alloc;

mod channel;
mod closing;
mod commitment;
mod config;
mod error;
mod force_close;
mod funded;
mod funding;
mod htlc;
mod input;
mod limits;
mod opening;
mod output;
mod records;
mod reestablish;
mod shutdown;
mod state;
mod terms;
mod update;

pub use channel::{Channel, ChannelStatus, HtlcView};
pub use config::{ChannelConfig, ChannelContext};
pub use error::{ChannelError, ChannelFault, OpenError, Refusal, Remedy, RestoreError, Rule};
pub use htlc::{HtlcFailure, HtlcResolution, ONION_LEN, UpdateState};
pub use input::{AcceptRequest, AddHtlc, ChannelInput, OpenRequest, OurKeys, UpfrontShutdown};
pub use output::{ChannelOutput, CloseReason, Closing, EnforcementData, IncomingHtlc};
pub use records::{channel_key, htlc_key, remote_commitment_key};
pub use state::Limits;
