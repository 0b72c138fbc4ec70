//! BOLT 4 onions: build, peel, payloads, failures, attribution and blinded paths.
//!
//! Bytes and keys only: no state, no replay table, no decision about an HTLC. Secrets of this node stay
//! at the edge: peeling takes the result of a Diffie-Hellman exchange, which a signer makes from
//! [`payment_ecdh_point`]. Functions that multiply points take a secp256k1 context, as rust-bitcoin does.
//!
//! ```
//! use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
//! use fulmen_onion::*;
//! use fulmen_types::{CltvExpiry, Msat, PaymentPreimage, PaymentSecret, ShortChannelId};
//!
//! let secp = Secp256k1::new();
//! let node_keys = [1u8, 2, 3].map(|i| SecretKey::from_slice(&[i; 32]).unwrap());
//! let nodes = node_keys.map(|key| PublicKey::from_secret_key(&secp, &key));
//! let payment_hash = PaymentPreimage::new([7; 32]).payment_hash();
//!
//! // The sender: a path over two nodes to a third.
//! let forward = |block, msat, cltv| {
//!     HopPayload::Forward(ForwardPayload {
//!         short_channel_id: ShortChannelId::from_parts(block, 1, 0).unwrap(),
//!         amt_to_forward: Msat::new(msat),
//!         outgoing_cltv_value: CltvExpiry::new(cltv),
//!     })
//! };
//! let receive = HopPayload::Receive(ReceivePayload {
//!     amt_to_forward: Msat::new(1_000),
//!     outgoing_cltv_value: CltvExpiry::new(800_018),
//!     payment_data: Some(PaymentData {
//!         payment_secret: PaymentSecret::new([9; 32]),
//!         total_msat: Msat::new(1_000),
//!     }),
//!     payment_metadata: None,
//!     keysend_preimage: None,
//!     custom_tlvs: vec![],
//! });
//! let hops = [
//!     (nodes[0], forward(700_001, 1_010, 800_058)),
//!     (nodes[1], forward(700_002, 1_000, 800_018)),
//!     (nodes[2], receive),
//! ];
//! let session_key = SecretKey::from_slice(&[0x41; 32])?;
//! let onion = build_payment_onion(&secp, &session_key, &hops, &payment_hash)?;
//!
//! // The first hop: a signer makes the exchange, `peel_payment` does the rest.
//! let htlc = IncomingHtlc::new(&payment_hash);
//! let point = payment_ecdh_point(&secp, &onion.packet, None)?;
//! let secret_0 = SharedSecret::ecdh(&point, &node_keys[0]);
//! let Peeled::Forward { next_packet, payload } =
//!     peel_payment(&secp, &onion.packet, &secret_0, &htlc)?
//! else { panic!("the first hop forwards") };
//! assert_eq!(payload.amt_to_forward, Msat::new(1_010));
//!
//! // The second hop fails it; the failure travels back through the first.
//! let point = payment_ecdh_point(&secp, &next_packet, None)?;
//! let secret_1 = SharedSecret::ecdh(&point, &node_keys[1]);
//! let failure = FailureMessage::TemporaryChannelFailure { channel_update: vec![] };
//! let mut packet = ReturnPacket::build(&secret_1, &failure, Some(HoldTime::from_millis_floor(250)));
//! packet.wrap(&secret_0, Some(HoldTime::from_millis_floor(400)));
//!
//! // The sender keeps the session key and the hops, nothing else.
//! let secrets = sphinx::shared_secrets(&secp, &session_key, hops.iter().map(|(node, _)| node))?;
//! let read = packet.decrypt(&secrets);
//! assert!(matches!(read.source, FailureSource::Hop { hop: 1, message, .. } if message == failure));
//! assert_eq!(read.hold_times, [HoldTime::new(4), HoldTime::new(2)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
extern crate alloc;

mod attribution;
pub mod blinding;
mod failure;
mod keys;
mod message;
mod message_build;
mod payinfo;
mod payload;
mod payment;
mod return_packet;
pub mod sphinx;
mod success;
pub mod trampoline;

pub use attribution::{ATTRIBUTION_DATA_LEN, ATTRIBUTION_HOPS_MAX, AttributionData, HoldTime};
pub use failure::{BADONION, CHANNEL_UPDATE_LEN_MAX, FailureMessage, NODE, PERM, UPDATE};
pub use keys::SharedSecret;
pub use message::{
    IgnoreReason, MessageContents, MessagePayload, PeeledMessage, peel_message,
    peel_message_with_key,
};
pub use message_build::{
    BuiltMessage, Destination, MESSAGE_PACKET_LENS, MessageBuildError, MessageKeys, build_message,
};
pub use payinfo::{BlindedPayinfo, PaymentPath};
pub use payload::{
    BlindedForwardPayload, BlindedReceivePayload, CUSTOM_TLV_MIN, CustomTlv, ForwardPayload,
    HopPayload, PayloadError, PaymentData, ReceivePayload, TrampolineEntryPayload,
};
pub use payment::{
    BuiltOnion, FailureResponse, IncomingHtlc, PaymentPacket, PeelError, Peeled,
    build_payment_onion, check_payloads_fit, payment_ecdh_point, peel_payment,
    peel_payment_with_key,
};
pub use return_packet::{
    DECRYPT_ROUNDS, DecryptedFailure, FAILURE_LEN_MIN, FailureSource,
    REASON_LEN_MAX_WITH_ATTRIBUTION, ReturnPacket,
};
pub use sphinx::{BuildError, PAYMENT_PACKET_LEN, PacketError};
pub use success::{
    DecryptedSuccess, FULFILLMENT_PAYLOAD_LEN_MAX, FulfillmentData, FulfillmentPayload,
    SuccessPacket,
};

/// The example of the README, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
