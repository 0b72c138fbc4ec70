//! What goes into the node.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;

use bitcoin::{BlockHash, Transaction, secp256k1::PublicKey};
use fulmen_gossip::{CheckedGossip, UnsignedGraph};
use fulmen_signer::RefusedMessage;
use fulmen_types::{BlockHeight, Feerates};
use fulmen_wire::Message;

use crate::{
    command::Command,
    effects::Lane,
    port::{Answer, WalletBalance},
};

/// What a run of the node starts from, besides its records.
#[derive(Clone)]
pub struct Boot {
    /// Fresh random bytes, new at every start and never stored: request ids, channel key ids, onion
    /// session keys and payment secrets are derived from them.
    pub entropy: [u8; 32],
}

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Boot(..)")
    }
}

/// One connection with a peer, counted up by the driver and never reused within a run. What belongs to
/// an older epoch is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnEpoch(pub u64);

/// An open question of the node: answers that name another boot are dropped (an id never outlives a
/// run).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// Drawn from the boot entropy.
    pub boot: u64,
    /// Counted up within the boot.
    pub sequence: u64,
}

/// A command's id, chosen by who gives it: the same id twice does the work once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub [u8; 16]);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer did.
    Inbound,
    /// We did.
    Outbound,
}

/// Where a peer listens, as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerAddress(pub String);

/// A block's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockId {
    /// Its height.
    pub height: BlockHeight,
    /// Its hash.
    pub hash: BlockHash,
}

/// One block, whole or filtered: at least every transaction that spends a watched outpoint or pays a
/// watched script, in the block's order.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its place.
    pub id: BlockId,
    /// The block before it.
    pub previous: BlockHash,
    /// The time of its header, in seconds since the Unix epoch.
    pub time: u32,
    /// Transactions with their index in the block.
    pub transactions: Vec<(u32, Transaction)>,
}

/// One input of the node: everything that it ever learns.
#[derive(Clone, Debug)]
pub enum Input {
    /// The encrypted connection with a peer stands.
    PeerConnected {
        /// The peer's key, proven by the handshake.
        peer: PublicKey,
        /// This connection's epoch.
        epoch: ConnEpoch,
        /// Who opened it.
        direction: Direction,
        /// Where the peer can be reached again, if we dialled it.
        address: Option<PeerAddress>,
    },
    /// A message of a peer.
    PeerMessage {
        /// Who sent it.
        peer: PublicKey,
        /// On which connection.
        epoch: ConnEpoch,
        /// The message.
        message: Message,
    },
    /// A message of a peer about the network, whose signatures were checked on the way. The node checks
    /// those of plain messages itself.
    CheckedGossip {
        /// Who sent it.
        peer: PublicKey,
        /// On which connection.
        epoch: ConnEpoch,
        /// The message and the verdict.
        checked: Box<CheckedGossip>,
    },
    /// A connection that was asked for could not be made.
    ConnectFailed {
        /// With whom.
        peer: PublicKey,
        /// Why, for people.
        reason: String,
    },
    /// So much waits to be sent on a connection that it should get nothing that can wait; or it has left.
    PeerBusy {
        /// With whom.
        peer: PublicKey,
        /// On which connection.
        epoch: ConnEpoch,
        /// Whether it is so.
        is_busy: bool,
    },
    /// A connection has ended.
    PeerDisconnected {
        /// With whom.
        peer: PublicKey,
        /// Which one.
        epoch: ConnEpoch,
    },
    /// The next block of the best chain: atomic, with all that it changes.
    BlockConnected(Arc<Block>),
    /// The tip left the best chain; the one before it is the tip again.
    BlockDisconnected(BlockId),
    /// Transactions of blocks already connected that match a watch set since.
    LateMatches {
        /// The block that they are in.
        block: BlockId,
        /// The transactions with their index in the block.
        transactions: Vec<(u32, Transaction)>,
    },
    /// The source has delivered everything up to this best tip: deadlines may run.
    BestTip(BlockId),
    /// A snapshot of the network that nobody signed (rapid gossip sync).
    NetworkSnapshot(Arc<UnsignedGraph>),
    /// New estimates of feerates.
    Feerates(Feerates),
    /// What the on-chain wallet holds now.
    WalletBalance(WalletBalance),
    /// A user's command.
    Command {
        /// Its id.
        id: CommandId,
        /// What to do.
        command: Command,
    },
    /// The signer will not complete a message. It has not left, nor has anything after it in its lane.
    SigningRefused {
        /// Where it should have left.
        lane: Lane,
        /// The message, and why.
        refused: Box<RefusedMessage>,
    },
    /// The answer to a request of ours.
    Answer {
        /// The request's id.
        id: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// Time has passed: nothing but the `now` of the step.
    Tick,
}
