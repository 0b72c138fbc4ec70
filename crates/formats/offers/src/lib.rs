//! BOLT 12: offers, invoice requests, invoices, their errors and payer proofs; static invoices; names that
//! people can say and `bitcoin:` URIs (BIP 353, BIP 321).
//!
//! A parsed message is valid: its fields are as the specification wants them and its signature is good.
//! What depends on time, chain or another message has a method of its own (`check`, `check_response`).
//! Messages keep their bytes, since later ones repeat them and signatures cover them: unknown odd fields
//! are kept and copied. Signing takes two steps, so that the key can be elsewhere. How messages travel is
//! the business of `fulmen-onion`.
//!
//! ```
//! use bitcoin::{constants::ChainHash, secp256k1::{PublicKey, Secp256k1, SecretKey}};
//! use fulmen_offers::*;
//! use fulmen_onion::{BlindedPayinfo, PaymentPath};
//! use fulmen_onion::blinding::{BlindedPath, EncryptedData, blind_route};
//! use fulmen_types::{CltvExpiryDelta, Features, Msat, PaymentPreimage, Timestamp, codec::Encode};
//!
//! let secp = Secp256k1::new();
//! let now = Timestamp::from_secs(1_700_000_000);
//! let merchant_key = SecretKey::from_slice(&[7; 32])?;
//! let merchant = PublicKey::from_secret_key(&secp, &merchant_key);
//!
//! // The merchant publishes an offer.
//! let offer = Offer::new(&OfferFields {
//!     amount: Some(10_000),
//!     description: Some("coffee".into()),
//!     quantity_max: Some(5),
//!     issuer_id: Some(merchant),
//!     ..OfferFields::default()
//! })?;
//!
//! // A payer reads it and asks for an invoice, with a fresh key.
//! let offer: Offer = offer.to_string().parse()?;
//! offer.check(ChainHash::BITCOIN, now)?;
//! let payer_key = SecretKey::from_slice(&[8; 32])?;
//! let payer_id = PublicKey::from_secret_key(&secp, &payer_key);
//! let mut fields = RequestFields::new(vec![0x5a; 16], payer_id);
//! fields.quantity = Some(2);
//! let request = offer.request(&fields)?.sign_with_key(&secp, &payer_key)?;
//!
//! // The merchant answers with an invoice.
//! let request = InvoiceRequest::from_bytes(&secp, request.as_bytes())?;
//! request.check_offer(&offer)?;
//! let payment_hash = PaymentPreimage::new([1; 32]).payment_hash();
//! let data = EncryptedData { path_id: Some(vec![9; 32]), ..EncryptedData::default() };
//! let route = blind_route(&secp, &SecretKey::from_slice(&[2; 32])?, &[(merchant, data.to_bytes())])?;
//! let path = PaymentPath {
//!     path: BlindedPath { first_node_id: merchant.into(), route },
//!     payinfo: BlindedPayinfo {
//!         fee_base_msat: 0,
//!         fee_proportional_millionths: 0,
//!         cltv_expiry_delta: CltvExpiryDelta::new(18),
//!         htlc_minimum_msat: Msat::new(1),
//!         htlc_maximum_msat: Msat::new(1_000_000),
//!         features: Features::empty(),
//!     },
//! };
//! let amount = request.amount_to_invoice(None)?;
//! let fields = InvoiceFields::new(now.to_secs_floor(), payment_hash, amount, merchant, vec![path]);
//! let invoice = request.respond(&fields)?.sign_with_key(&secp, &merchant_key)?;
//!
//! // The payer checks that it is what was asked for.
//! let invoice = Invoice::from_bytes(&secp, invoice.as_bytes())?;
//! invoice.check(ChainHash::BITCOIN, now)?;
//! invoice.check_response(&request, &Agreement::default())?;
//! assert_eq!(invoice.invoice().amount, Msat::new(20_000));
//!
//! // The payment gave the preimage: with it the payer proves to have paid, and shows what for.
//! let shown = Disclosure { types: [10].into(), note: Some("to the tax office".into()) };
//! let proof = invoice.prove(PaymentPreimage::new([1; 32]), &shown)?.sign_with_key(&secp, &payer_key)?;
//! let proof: PayerProof = proof.to_string().parse()?;
//! assert!(proof.payer_id() == payer_id && proof.pays(&offer));
//! assert_eq!(proof.offer().description.as_deref(), Some("coffee"));
//! assert_eq!(proof.amount(), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
extern crate alloc;

mod error;
mod fallback;
mod fields;
mod invoice;
mod invoice_error;
mod invoice_request;
mod merkle;
mod name;
mod offer;
mod payer_proof;
mod read;
mod signing;
mod static_invoice;
mod stream;
mod text;
mod txt;
mod uri;

pub use error::{BuildError, CheckError, Field, ParseError, TextError};
pub use fallback::FallbackAddress;
pub use fields::{CurrencyCode, InvoiceFields, Mpp, OfferFields, RequestFields};
pub use invoice::{Agreement, Invoice, UnsignedInvoice};
pub use invoice_error::{ErroneousField, InvoiceError};
pub use invoice_request::{InvoiceRequest, UnsignedInvoiceRequest};
pub use merkle::{merkle_root, signature_hash};
pub use name::Bip353Name;
pub use offer::Offer;
pub use payer_proof::{Disclosure, PayerProof, UnsignedPayerProof};
pub use signing::{SignedMessage, Unsigned};
pub use static_invoice::{StaticInvoice, StaticInvoiceFields, UnsignedStaticInvoice};
pub use stream::UnknownField;
pub use txt::TxtError;
pub use uri::{PaymentInstruction, PaymentUri, ProofOfPayment, UriError};

/// The example of the README, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
