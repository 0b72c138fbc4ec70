//! The whole node as one deterministic state machine.
//!
//! [`Node::handle`](crate) takes the time and one [`Input`] and gives one [`Effects`]: a batch of
//! records that must become durable, and the actions that may leave once it is. It opens no socket or
//! file, reads no clock and draws no randomness; a driver does that (see `fulmen-background-processor`).
#![no_std]
extern crate alloc;

mod command;
mod effects;
mod event;
mod input;
mod port;

pub use command::{
    ChannelSelector, CloseMode, Command, CommandError, OpenChannelCommand, PayCommand, Reply,
};
pub use effects::{Action, ActionKind, DisconnectReason, Effects, Lane, ReleaseClass, Scope};
pub use event::{CloseInitiator, Event, NumberedEvent};
pub use input::{
    Block, BlockId, Boot, CommandId, ConnEpoch, Direction, Input, PeerAddress, RequestId,
};
pub use port::{
    Answer, Ask, BroadcastAnswer, Coin, CoinPurpose, CoinRequest, Feerates, FundingRequest,
    UtxoAnswer, WalletBalance, WalletError,
};
