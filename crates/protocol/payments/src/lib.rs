//! Payments: send, receive and forward, as deterministic state machines.
//!
//! [`read_onion`], [`check_forward`] and [`fail_upstream`] are pure decisions about HTLCs that others
//! send through us; [`Invoices`] collects those that are for us; [`Outgoing`] sends ours. None of
//! them knows channels: the node carries out what they say, in the batch that they wrote to. Onion
//! secrets of incoming HTLCs come from the signer, entropy for our own onions comes in at start.
#![no_std]
extern crate alloc;

mod entropy;
mod failure;
mod forward;
mod link;
mod receive;
mod record;
mod send;

pub use entropy::KeyStream;
pub use forward::{
    Asked, ForwardPolicy, MAX_HTLC_CLTV, MIN_CLTV_EXPIRY_DELTA, OLD_POLICY_MILLIS, OfferedHtlc,
    OutgoingChannel, OutgoingFailure, PolicyHistory, check_forward, fail, fail_upstream,
    fulfil_upstream, read_onion, refuse_unreadable, temporary_channel_failure,
};
pub use link::{HtlcLink, IncomingRef, Resolution};
pub use receive::{
    DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA, Invoice, InvoiceError, InvoiceStatus, Invoices,
    MIN_FINAL_CLTV_EXPIRY_DELTA, MPP_TIMEOUT_MILLIS, Paid, Received, ReceivedHtlc,
};
pub use send::{
    Attempt, DEFAULT_MAX_ATTEMPTS, DEFAULT_RETRY_MILLIS, FINAL_CLTV_OFFSET, FailureReason, NewHtlc,
    Outgoing, PayError, PayRequest, Payment, PaymentOutput, PaymentStatus, Refusal, RouteQuestion,
};
