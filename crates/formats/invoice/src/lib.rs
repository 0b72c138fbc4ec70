//! BOLT 11 invoices: parse, build, sign, recover.
//!
//! A parsed [`Invoice`] is verified: its payee signed it and nothing in it forbids paying it, except time
//! and network, which the caller knows. An invoice is made from [`InvoiceDetails`]; a signer that holds
//! the node's key signs 32 bytes in between. BOLT 12 is another crate's.
//!
//! ```
//! use bitcoin::{Network, secp256k1::{PublicKey, Secp256k1, SecretKey}};
//! use fulmen_invoice::{Currency, Description, Invoice, InvoiceDetails};
//! use fulmen_types::{Feature, Msat, PaymentPreimage, PaymentSecret, Timestamp};
//!
//! let secp = Secp256k1::new();
//! let node_key = SecretKey::from_slice(&[7; 32])?;
//! let now = Timestamp::from_secs(1_700_000_000);
//!
//! let mut details = InvoiceDetails::new(
//!     Currency::Regtest,
//!     now,
//!     PaymentPreimage::new([1; 32]).payment_hash(),
//!     PaymentSecret::new([2; 32]),
//!     Description::Text("coffee".into()),
//! );
//! details.amount = Some(Msat::from_sat(2_500));
//! details.expiry_secs = Some(600);
//! details.features = details.features.with_optional(Feature::BasicMpp);
//! let unsigned = details.into_unsigned()?;
//! // Elsewhere, in the signer: a recoverable signature of `unsigned.signable_hash()`.
//! let invoice = unsigned.sign_with_key(&secp, &node_key)?;
//!
//! let parsed = Invoice::parse(&secp, &invoice.to_string())?;
//! assert_eq!(parsed, invoice);
//! assert_eq!(parsed.payee(), PublicKey::from_secret_key(&secp, &node_key));
//! assert_eq!(parsed.details().amount, Some(Msat::from_sat(2_500)));
//! assert!(parsed.details().currency.is_for(Network::Regtest));
//! assert!(!parsed.details().is_expired(now));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
extern crate alloc;

mod amount;
mod blinded;
mod details;
mod error;
mod hint;
mod invoice;
mod quintets;
mod summary;

pub use amount::Currency;
pub use details::{Description, InvoiceDetails, RawField};
pub use error::{BuildError, Field, ParseError};
pub use hint::{Fallback, RouteHint, RouteHintHop};
pub use invoice::{Invoice, UnsignedInvoice};
pub use summary::Summary;

/// The example of the README, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
