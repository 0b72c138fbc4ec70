//! BOLT 2: one channel with one peer, from `open_channel` to its end, as a deterministic state machine.
//!
//! A [`Channel`] takes one [`ChannelInput`] at a time and gives back [`ChannelOutput`]s, in order, and the
//! records that must be durable before any of them reaches the outside. It knows its peer's messages, its
//! HTLCs and its two commitments. It knows no other channel, no route, no payment, no clock, no chain but
//! what it is told, and no secret: what is to be signed is named in its outputs.
//!
//! - An HTLC's life is one table of states ([`UpdateState`]); what the commitments say is derived from the
//!   states and stored nowhere else.
//! - An illegal message of the peer makes the transition that BOLT 2 asks for ([`Rule`], [`Remedy`]); a
//!   refused command ([`Refusal`]) changes nothing.
//! - [`Channel::restore`] makes from its records the channel whose records they are, and
//!   [`Channel::re_emit`] says again what the world must hold.
//! - The node gives [`ChannelInput::Commit`] once at the end of each step, so that many updates share one
//!   `commitment_signed`.
//!
//! Not here: quiescence, splices, channels funded by both ends and `option_simple_close`; their messages are
//! answered as not negotiated. Claims on chain are `fulmen-enforce`.
//!
//! ```
//! use bitcoin::{Amount, Network, ScriptBuf, WPubkeyHash, constants::ChainHash, hashes::Hash};
//! use fulmen_channel::{
//!     Channel, ChannelConfig, ChannelContext, ChannelOutput, OpenRequest, OurKeys, UpfrontShutdown,
//! };
//! use fulmen_signer::{KeysManager, OutMessage, Signer, SigningAnswer, SigningRequest};
//! use fulmen_tx::{ChannelKeysId, Secp};
//! use fulmen_types::*;
//!
//! let signer = KeysManager::new([7; 32], Network::Regtest);
//! let keys_id = ChannelKeysId::new([1; 32]);
//! let SigningAnswer::ChannelPublicKeys(keys) =
//!     signer.answer(&SigningRequest::ChannelPublicKeys { keys_id })
//! else {
//!     panic!("the signer answers in kind");
//! };
//! let points = [0, 1, 2].map(|number| {
//!     let number = CommitmentNumber::new(number).expect("48 bits");
//!     match signer.answer(&SigningRequest::PerCommitmentPoint { keys_id, number }) {
//!         SigningAnswer::Point(point) => point,
//!         _ => panic!("the signer answers in kind"),
//!     }
//! });
//!
//! let features = Features::empty().with_optional(Feature::Anchors);
//! let ctx = ChannelContext {
//!     secp: &Secp::new(),
//!     now: Timestamp::from_secs(1_700_000_000),
//!     tip: BlockHeight::new(100),
//!     config: &ChannelConfig::new(ChainHash::REGTEST),
//!     feerates: &Feerates::default(),
//!     peer_features: &features,
//!     our_features: &features,
//!     our_node_id: signer.node_id(),
//!     peer_node_id: signer.node_id(),
//! };
//! let (channel, outputs) = Channel::open(
//!     &ctx,
//!     OpenRequest {
//!         ours: OurKeys { keys_id, keys: *keys, points },
//!         temporary_channel_id: ChannelId::new([2; 32]),
//!         funding: Amount::from_sat(1_000_000),
//!         push: Msat::ZERO,
//!         announce: true,
//!         channel_type: None,
//!         feerate: None,
//!         sweep_script: ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([3; 20])),
//!         upfront_shutdown: UpfrontShutdown::Free,
//!         alias: ShortChannelId::from_u64(4),
//!     },
//! )?;
//! assert_eq!(channel.channel_type(), Some(&ChannelType::anchors()));
//! assert!(matches!(&outputs[..], [ChannelOutput::Send(OutMessage::Ready(_))]));
//! # Ok::<(), fulmen_channel::OpenError>(())
//! ```
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
mod signer_block;
mod state;
mod terms;
mod update;

pub use channel::{Channel, ChannelStatus, Freshness, HtlcView};
pub use config::{ChannelConfig, ChannelContext};
pub use error::{ChannelError, ChannelFault, OpenError, Refusal, Remedy, RestoreError, Rule};
pub use htlc::{HtlcFailure, HtlcResolution, ONION_LEN, UpdateState};
pub use input::{AcceptRequest, AddHtlc, ChannelInput, OpenRequest, OurKeys, UpfrontShutdown};
pub use output::{ChannelOutput, CloseReason, Closing, EnforcementData, IncomingHtlc};
pub use records::{channel_key, htlc_key, remote_commitment_key};
pub use state::Limits;
pub use update::MAX_REASON_LEN;
