//! What comes out of a step.

use alloc::{boxed::Box, string::String, vec::Vec};

use bitcoin::{OutPoint, ScriptBuf, secp256k1::PublicKey};
use fulmen_payments::RouteReport;
use fulmen_signer::{BroadcastTx, OutMessage};
use fulmen_tx::ChannelKeysId;
use fulmen_types::{BlockHeight, ChannelId, PaymentHash, Timestamp, record::WriteBatch};

use crate::{
    command::{CommandError, Reply},
    event::NumberedEvent,
    input::{CommandId, ConnEpoch, PeerAddress, RequestId},
    port::Ask,
};

/// All that one step brings about.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The step's number, counted up from 1 within a boot.
    pub seq: u64,
    /// What the step touched; actions wait for earlier batches that share a scope.
    pub scopes: Vec<Scope>,
    /// The records to make durable, all or none.
    pub batch: WriteBatch,
    /// What may be done once that is so, in this order.
    pub actions: Vec<Action>,
    /// When the node wants a [`crate::Input::Tick`] at the latest.
    pub next_wake: Option<Timestamp>,
}

/// What a batch is about, for the order of release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The node as a whole: peers, commands, the chain's tip.
    Node,
    /// One channel.
    Channel(ChannelKeysId),
    /// One payment or invoice.
    Payment(PaymentHash),
}

/// When an action may leave (rule 3 of the design).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReleaseClass {
    /// At once: it says nothing that must be durable first. Watches, reads, rebroadcasts, justice,
    /// claims on confirmed outputs.
    Now,
    /// When durable on the primary store: broadcast of our commitment.
    Primary,
    /// When durable on every mandatory replica too: everything that a peer or user learns.
    All,
}

/// A stream of messages that must leave in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// To whom.
    pub peer: PublicKey,
    /// On which connection, or not at all.
    pub epoch: ConnEpoch,
    /// About which channel; `None` for the connection itself and gossip.
    pub channel: Option<ChannelId>,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub struct Action {
    /// What must be durable where.
    pub class: ReleaseClass,
    /// The step whose batch (and those before it that share a scope) must be durable.
    pub after: u64,
    /// What to do.
    pub kind: ActionKind,
}

/// Why the node ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The user asked for it.
    Requested,
    /// The peer broke the protocol; the text says how.
    ProtocolViolation(String),
    /// A newer connection with the same peer replaces this one.
    Replaced,
    /// The peer needs what we don't have, or has not what we need.
    Incompatible(String),
    /// The peer did not answer in time.
    Timeout,
    /// A channel begins anew with the peer.
    ChannelReset,
}

/// The kinds of things to do.
#[derive(Clone, Debug)]
pub enum ActionKind {
    /// Send a message in its lane. Late-bound signatures are made now, by the signer.
    Send {
        /// The stream whose order counts.
        lane: Lane,
        /// The message, or what to sign for it.
        message: OutMessage,
    },
    /// A channel is over: what waits in its lane and has not left is not said any more, but for
    /// `channel_reestablish`, which tells a peer that lost its state not to broadcast it. At once, whatever is
    /// durable, and with what the signer is working on; what comes after it is said.
    Withdraw {
        /// The stream.
        lane: Lane,
    },
    /// End a connection once what was sent before is out.
    Disconnect {
        /// With whom.
        peer: PublicKey,
        /// Which one.
        epoch: ConnEpoch,
        /// Why, for the log.
        reason: DisconnectReason,
    },
    /// Connect to a peer: now and once because a user wants it, or, when `keep` is set, again and again
    /// because there is a channel with it.
    Connect {
        /// To whom.
        peer: PublicKey,
        /// Where it may be found, best first.
        addresses: Vec<PeerAddress>,
        /// Whether to reconnect until told otherwise.
        keep: bool,
    },
    /// Stop reconnecting to a peer.
    StopConnecting {
        /// To whom.
        peer: PublicKey,
    },
    /// Remember that a peer broke a rule of gossip. The connection goes on as far as the node is concerned.
    Misbehaved {
        /// Who did.
        peer: PublicKey,
        /// What, for the log.
        why: &'static str,
    },
    /// Sign what is not signed yet and give the transactions to the network, as one package when
    /// there are several (parents first). The answer comes back as
    /// [`crate::Answer::Broadcast`].
    Broadcast {
        /// The request that the answer names.
        id: RequestId,
        /// The transactions.
        package: Vec<BroadcastTx>,
    },
    /// Deliver every spend of this output from the block `from` on.
    WatchOutpoint {
        /// The output.
        outpoint: OutPoint,
        /// Its script, for sources that filter by script.
        script_pubkey: ScriptBuf,
        /// The first block to look at.
        from: BlockHeight,
    },
    /// Deliver every transaction that pays this script from the block `from` on.
    WatchScript {
        /// The script.
        script_pubkey: ScriptBuf,
        /// The first block to look at.
        from: BlockHeight,
    },
    /// Ask a port; the answer comes back as [`crate::Input::Answer`].
    Ask {
        /// The request that the answer names.
        id: RequestId,
        /// The question.
        ask: Ask,
    },
    /// Tell the router how an HTLC of ours ended. There is no answer, and it is not told again after a
    /// crash: losing it costs knowledge only.
    Learn(Box<RouteReport>),
    /// Answer a command.
    Reply {
        /// The command.
        id: CommandId,
        /// What came of it.
        reply: Result<Reply, CommandError>,
    },
    /// Tell the user; durable, in order, numbered without gaps.
    Event(NumberedEvent),
    /// A line for the log. Peers' texts in it are printable.
    Note {
        /// How much it matters.
        level: NoteLevel,
        /// The line.
        text: String,
    },
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteLevel {
    /// For those who look for the cause of something.
    Debug,
    /// What a node does on an ordinary day.
    Info,
    /// What is not as it should be.
    Warn,
    /// What a person should look at.
    Error,
}
