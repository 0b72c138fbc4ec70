//! What the daemon tells.

use serde::{Deserialize, Serialize};

/// An event with its number and time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counted up from 1 over the life of the node, without gaps.
    pub number: u64,
    /// When it happened, in milliseconds since 1970.
    pub at_millis: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened: the field `event` says which, the others belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs)] // The names say it; the meanings are those of the node's events.
pub enum EventKind {
    /// A channel's funding transaction waits for confirmation.
    ChannelPending {
        channel_id: String,
        peer: String,
        funding: String,
        capacity_sat: u64,
    },
    /// A channel can be used.
    ChannelReady { channel_id: String, peer: String },
    /// An open came to nothing.
    ChannelOpenFailed {
        channel_id: String,
        peer: String,
        reason: String,
    },
    /// A channel is being closed.
    ChannelClosing {
        channel_id: String,
        peer: String,
        /// `us` or `peer`.
        initiator: String,
        forced: bool,
        reason: String,
    },
    /// The transaction that closes a channel is confirmed.
    ChannelClosed {
        channel_id: String,
        txid: String,
        kind: String,
        height: u32,
    },
    /// The peer broadcast a revoked commitment; all of it is being claimed.
    Breach { channel_id: String, txid: String },
    /// An output of a closed channel came back to the wallet.
    Swept {
        channel_id: String,
        txid: String,
        amount_sat: u64,
        fee_sat: u64,
    },
    /// Every output of a closed channel is settled.
    ChannelResolved { channel_id: String },
    /// A payment of ours arrived.
    PaymentSucceeded {
        payment_hash: String,
        preimage: String,
        amount_msat: u64,
        fee_msat: u64,
    },
    /// A payment of ours did not arrive; nothing was spent.
    PaymentFailed {
        payment_hash: String,
        reason: String,
    },
    /// An invoice of ours was paid.
    PaymentReceived {
        payment_hash: String,
        amount_msat: u64,
    },
    /// A payment went through us.
    PaymentForwarded {
        incoming: String,
        outgoing: String,
        amount_msat: u64,
        fee_msat: u64,
    },
    /// An undecided HTLC on a closed channel was failed where it came from, to keep the channel there; what it
    /// is worth may be lost.
    HtlcGivenUp {
        incoming: String,
        outgoing: String,
        payment_hash: String,
        amount_msat: u64,
    },
    /// The signer refused what a channel needs: it rests until it is unblocked.
    SignerBlocked {
        channel_id: String,
        peer: String,
        reason: String,
    },
    /// Something that a person should look at.
    Alert { message: String },
    /// An event of a newer version.
    #[serde(other)]
    Unknown,
}
