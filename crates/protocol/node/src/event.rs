//! What the node tells its user: durable, numbered without gaps, until acknowledged.

use alloc::string::String;

use bitcoin::{Amount, OutPoint, Txid, secp256k1::PublicKey};
use fulmen_types::{BlockHeight, ChannelId, Msat, PaymentHash, PaymentPreimage, Timestamp};

/// An event with its number and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedEvent {
    /// Counted up from 1 over the life of the node.
    pub number: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// Who began a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseInitiator {
    /// We did.
    Us,
    /// The peer did.
    Peer,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A channel's funding transaction waits for confirmation.
    ChannelPending {
        /// The channel.
        channel_id: ChannelId,
        /// With whom.
        peer: PublicKey,
        /// The funding output.
        funding: OutPoint,
        /// Its value.
        capacity: Amount,
    },
    /// A channel can be used.
    ChannelReady {
        /// The channel.
        channel_id: ChannelId,
        /// With whom.
        peer: PublicKey,
    },
    /// An open came to nothing.
    ChannelOpenFailed {
        /// The channel's id, temporary where it was never funded.
        channel_id: ChannelId,
        /// With whom.
        peer: PublicKey,
        /// Why.
        reason: String,
    },
    /// A channel is being closed.
    ChannelClosing {
        /// The channel.
        channel_id: ChannelId,
        /// With whom.
        peer: PublicKey,
        /// Who began it.
        initiator: CloseInitiator,
        /// Whether by a commitment transaction instead of together.
        forced: bool,
        /// Why: who, which rule, which HTLC, which deadline.
        reason: String,
    },
    /// The transaction that closes a channel is confirmed.
    ChannelClosed {
        /// The channel.
        channel_id: ChannelId,
        /// The closing transaction.
        txid: Txid,
        /// What it is: `mutual`, `ours`, `theirs`, `revoked`, ...
        kind: String,
        /// Its block.
        height: BlockHeight,
    },
    /// The peer broadcast a revoked commitment; all of it is being claimed.
    Breach {
        /// The channel.
        channel_id: ChannelId,
        /// The revoked commitment transaction.
        txid: Txid,
    },
    /// An output of a closed channel came back to the wallet.
    Swept {
        /// The channel.
        channel_id: ChannelId,
        /// The transaction that did it.
        txid: Txid,
        /// What arrived.
        amount: Amount,
        /// What it cost.
        fee: Amount,
    },
    /// Every output of a closed channel is settled.
    ChannelResolved {
        /// The channel.
        channel_id: ChannelId,
    },
    /// A payment of ours arrived.
    PaymentSucceeded {
        /// Its hash.
        payment_hash: PaymentHash,
        /// The proof.
        preimage: PaymentPreimage,
        /// What the payee got.
        amount: Msat,
        /// What the way cost.
        fee: Msat,
    },
    /// A payment of ours did not arrive; nothing was spent.
    PaymentFailed {
        /// Its hash.
        payment_hash: PaymentHash,
        /// Why.
        reason: String,
    },
    /// An invoice of ours was paid.
    PaymentReceived {
        /// Its hash.
        payment_hash: PaymentHash,
        /// What arrived.
        amount: Msat,
    },
    /// A payment went through us.
    PaymentForwarded {
        /// Where it came from.
        incoming: ChannelId,
        /// Where it went to.
        outgoing: ChannelId,
        /// What was sent on.
        amount: Msat,
        /// What we earned.
        fee: Msat,
    },
    /// Something that a person should look at.
    Alert {
        /// What, and what to do.
        message: String,
    },
}
