//! Payments: send, receive and forward, as deterministic state machines.
//!
//! [`read_onion`], [`check_forward`] and [`fail_upstream`] are pure decisions about HTLCs that others
//! send through us; [`Invoices`] collects those that are for us; [`Outgoing`] sends ours. None of
//! them knows channels: the node carries out what they say, in the batch that they wrote to. Onion
//! secrets of incoming HTLCs come from the signer, entropy for our own onions comes in at start.
//!
//! ```
//! use fulmen_payments::{Invoice, InvoiceStatus, Invoices};
//! use fulmen_types::{
//!     CltvExpiryDelta, Msat, PaymentPreimage, PaymentSecret, Timestamp, record::WriteBatch,
//! };
//!
//! let mut invoices = Invoices::new();
//! let mut batch = WriteBatch::new();
//! let payment_hash = invoices.create(
//!     Invoice {
//!         preimage: PaymentPreimage::new([1; 32]),
//!         payment_secret: PaymentSecret::new([2; 32]),
//!         amount: Some(Msat::from_sat(1_000)),
//!         created_at: Timestamp::from_secs(0),
//!         expires_at: Timestamp::from_secs(3_600),
//!         min_final_cltv_expiry_delta: CltvExpiryDelta::new(24),
//!         description: "coffee".into(),
//!         bolt11: String::new(),
//!         status: InvoiceStatus::Open,
//!     },
//!     &mut batch,
//! )?;
//! // The record is in the batch: once that is durable, a restart knows the invoice.
//! let records: Vec<_> = batch.iter().map(|(k, v)| (k.key.clone(), v.unwrap().to_vec())).collect();
//! let restored = Invoices::restore(records.iter().map(|(k, v)| (&k[..], &v[..]))).unwrap();
//! assert_eq!(restored.get(&payment_hash), invoices.get(&payment_hash));
//! # Ok::<(), fulmen_payments::InvoiceError>(())
//! ```
#![no_std]
extern crate alloc;

mod by_time;
mod entry;
mod failure;
mod forward;
mod link;
mod payment;
mod receive;
mod record;
mod send;

pub use by_time::{archive, newest_first_key, payment_hash_of_key, unarchive};
pub use forward::{
    Asked, ForwardPolicy, MAX_HTLC_CLTV, MIN_CLTV_EXPIRY_DELTA, OLD_POLICY_MILLIS, OfferedHtlc,
    OutgoingChannel, OutgoingFailure, PolicyHistory, check_forward, fail, fail_upstream,
    fulfil_upstream, read_onion, refuse_unreadable, temporary_channel_failure,
};
pub use link::{HtlcLink, IncomingRef, Resolution};
pub use payment::{
    Attempt, DEFAULT_MAX_ATTEMPTS, DEFAULT_MAX_PARTS, DEFAULT_RETRY_MILLIS, FINAL_CLTV_OFFSET,
    FailureReason, NewHtlc, PayError, PayRequest, Payment, PaymentOutput, PaymentStatus, Refusal,
    RouteQuestion, RouteReport,
};
pub use receive::{
    DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA, Invoice, InvoiceError, InvoiceStatus, Invoices,
    MIN_FINAL_CLTV_EXPIRY_DELTA, MPP_TIMEOUT_MILLIS, Paid, Received, ReceivedHtlc,
};
pub use send::Outgoing;
