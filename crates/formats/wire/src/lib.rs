//! The messages that Lightning nodes send each other (BOLT 1, 2, 4 and 7), from bytes and to bytes.
//!
//! One struct per message with the names of the specification, and [`Message`] for any of them. What
//! the bytes alone decide is checked here: lengths, points, TLV order, even types that must be known.
//! What depends on state is not: this crate remembers nothing and answers nothing. Framing and
//! encryption are `fulmen-noise`.
//!
//! ```
//! use fulmen_wire::{Message, Ping};
//!
//! let ping = Ping { num_pong_bytes: 2, ignored: vec![0; 3] };
//! let bytes = Message::from(ping.clone()).encode();
//! assert_eq!(bytes, [0, 18, 0, 2, 0, 3, 0, 0, 0]);
//! assert_eq!(Message::decode(&bytes), Ok(Message::Ping(ping)));
//! // Unknown messages are for the caller to ignore when odd, and an error when even.
//! assert!(Message::decode(&[0x80, 0x01]).is_ok());
//! assert!(Message::decode(&[0x80, 0x00]).is_err());
//! ```
#![no_std]
extern crate alloc;

mod address;
mod close;
mod codec;
mod custom;
mod error;
mod fields;
mod gossip;
mod interactive;
mod macros;
mod message;
mod onion_message;
mod open;
mod operation;
mod queries;
mod setup;

pub use address::{Hostname, NetAddress, ParseAddressError};
pub use close::{ClosingComplete, ClosingSig, ClosingSigned, Shutdown, Stfu};
pub use custom::CustomTypes;
pub use error::MessageError;
pub use fields::{
    AttributionData, CurrentFundingLocked, FeeRange, NextFunding, NonceEntry,
    PartialSignatureWithNonce,
};
pub use gossip::{
    AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate, NodeAlias, NodeAnnouncement, Rgb,
};
pub use interactive::{
    SpliceAck, SpliceInit, SpliceLocked, TxAbort, TxAckRbf, TxAddInput, TxAddOutput, TxComplete,
    TxInitRbf, TxRemoveInput, TxRemoveOutput, TxSignatures,
};
pub use message::{MAX_MESSAGE_LEN, Message, MessageType};
pub use onion_message::OnionMessage;
pub use open::{
    ANNOUNCE_CHANNEL, AcceptChannel, AcceptChannel2, ChannelReady, FundingCreated, FundingSigned,
    OpenChannel, OpenChannel2,
};
pub use operation::{
    ChannelReestablish, CommitmentSigned, RevokeAndAck, StartBatch, UpdateAddHtlc, UpdateFailHtlc,
    UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc,
};
pub use queries::{
    GossipTimestampFilter, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange,
    ReplyShortChannelIdsEnd,
};
pub use setup::{Error, Init, PeerStorage, PeerStorageRetrieval, Ping, Pong, Warning};

#[cfg(test)]
mod tests;

/// The example of the README, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
