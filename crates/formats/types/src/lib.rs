//! The words that every Fulmen crate shares: amounts, heights, identifiers, features and the byte
//! codec of BOLT 1.
//!
//! Values that must not be mixed have types of their own: a [`Msat`] is no [`bitcoin::Amount`], a
//! [`BlockHeight`] is no [`CltvExpiry`], and rounding is part of a method's name. This crate holds no
//! state and knows no message; `fulmen-wire` has those.
//!
//! ```
//! use fulmen_types::{BlockHeight, CltvExpiryDelta, Msat};
//!
//! let amount = Msat::from_sat(1_000);
//! assert_eq!(amount.checked_add(Msat::new(1)).map(Msat::to_sat_floor), Some(1_000));
//! let expiry = BlockHeight::new(800_000) + CltvExpiryDelta::new(40);
//! assert_eq!(expiry.to_u32(), 800_040);
//! ```
#![no_std]
extern crate alloc;

mod amount;
mod channel_type;
pub mod codec;
mod entropy;
mod features;
mod height;
mod ids;
mod node_ref;
mod printable;
pub mod record;
mod transaction;

pub use amount::{FeeratePerKw, Feerates, Msat};
pub use channel_type::{BaseType, ChannelType, ChannelTypeError};
pub use entropy::{KeyStream, wipe};
pub use features::{Feature, FeatureContext, FeatureError, Features};
pub use height::{BlockHeight, CltvExpiry, CltvExpiryDelta, Timestamp};
pub use ids::{
    ChannelId, CommitmentNumber, HtlcId, NodeId, ParseIdError, PartialSignature, PaymentHash,
    PaymentPreimage, PaymentSecret, PublicNonce, ShortChannelId,
};
pub use node_ref::SciddirOrPubkey;
pub use printable::Printable;
pub use transaction::{read_transaction, read_witness};

/// The example of the README, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
