//! The whole node as one deterministic state machine.
//!
//! [`Node::handle`](crate) takes the time and one [`Input`] and gives one [`Effects`]: a batch of
//! records that must become durable, and the actions that may leave once it is. It opens no socket or
//! file, reads no clock and draws no randomness; a driver does that (see `fulmen-background-processor`).
#![no_std]
extern crate alloc;

mod chain;
mod channels;
mod command;
mod commands;
mod config;
mod effects;
mod event;
mod events;
mod give_up;
mod gossip_glue;
mod htlcs;
mod input;
mod node;
mod onchain;
mod opening;
mod peers;
mod port;
mod query;
mod replies;
mod requests;
mod restore;
mod silence;
mod step;
mod work;

pub use chain::ChainError;
pub use command::{
    ChannelSelector, CloseMode, Command, CommandError, OpenChannelCommand, PayCommand, Reply,
};
pub use config::NodeConfig;
pub use effects::{
    Action, ActionKind, DisconnectReason, Effects, Lane, NoteLevel, ReleaseClass, Scope,
};
pub use event::{CloseInitiator, Event, NumberedEvent};
pub use fulmen_payments::RouteReport;
pub use input::{
    Block, BlockId, Boot, CommandId, ConnEpoch, Direction, Input, PeerAddress, RequestId,
};
pub use node::Node;
pub use port::{
    Answer, Ask, BroadcastAnswer, CoinPurpose, CoinRequest, FundingRequest, RouteQuery,
    WalletBalance, WalletError,
};
pub use query::{BalanceInfo, ChannelInfo, ChannelState, NodeInfo, PeerInfo};
pub use restore::{Records, RestoreError};

/// Whether a channel's state is known to be the newest.
pub use fulmen_channel::Freshness;
/// A confirmed output of the wallet.
pub use fulmen_enforce::WalletCoin as Coin;
/// A message about the network with the verdict on its signatures.
pub use fulmen_gossip::CheckedGossip;
/// What the chain says of a channel's output.
pub use fulmen_gossip::UtxoAnswer;
/// Estimates of feerates.
pub use fulmen_types::Feerates;
