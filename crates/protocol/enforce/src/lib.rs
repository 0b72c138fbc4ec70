//! BOLT 5: the on-chain end of one channel, as a pure state machine.
//!
//! A [`Resolution`] is made from a channel's data ([`Evidence`]) when we force-close or when the funding
//! output is spent. It is fed blocks and answers, and gives back what to watch, broadcast, ask and tell. It
//! knows no channel, peer or clock, and signs nothing: transactions leave it unsigned and are completed by a
//! signer at the edge. So a watchtower is the same code with less evidence.
//!
//! What is known of the chain is kept as facts, by height; everything else about outputs is derived from
//! them anew in each step. A reorganisation takes facts away, and with them every conclusion but three:
//! preimages stay known, what was told upstream stays told, and fees paid for an input never fall.
//!
//! The steps of a user:
//!
//! 1. [`Resolution::new`] when the channel hands over; then [`Resolution::handle_block`] for each block
//!    (whole or filtered, in the block's order) and [`EnforceInput::BestTip`] when the source has caught up.
//! 2. Every [`EnforceOutput`] of a step is released after its write batch is durable, as
//!    [`BroadcastClass`] says.
//! 3. After a restart [`Resolution::restore`], then [`Resolution::re_emit`].
//!
//! It does not see the mempool: it acts on blocks, and on answers to its own broadcasts.
//!
//! Before there is anything to resolve, the crate says how many confirmed coins the wallet must keep for it:
//!
//! ```
//! use fulmen_enforce::required_reserve;
//! use fulmen_types::FeeratePerKw;
//!
//! let (wallet_sat, channels) = (100_000, 2);
//! let reserve = required_reserve(channels + 1, FeeratePerKw::new(1_000));
//! assert!(reserve.to_sat() < wallet_sat, "room for one more channel with anchors");
//! ```
#![no_std]
extern crate alloc;

mod balance;
mod build;
mod claim;
mod classify;
mod drive;
mod evidence;
mod facts;
mod give_up;
mod input;
mod kinds;
mod outcomes;
mod output;
mod plan;
mod reserve;
mod resolution;
mod schedule;
mod state;
mod view;

pub use classify::{SpendKind, classify};
pub use evidence::Evidence;
pub use input::{BroadcastId, BroadcastVerdict, ClaimId, EnforceContext, EnforceInput, WalletCoin};
pub use output::{BroadcastClass, EnforceEvent, EnforceOutput, PendingSweep, SweepKind};
pub use reserve::{RESERVED_HTLCS_PER_CHANNEL, required_reserve};
pub use resolution::Resolution;
pub use state::Start;
