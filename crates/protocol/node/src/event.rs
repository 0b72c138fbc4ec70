//! What the node tells its user: durable, numbered without gaps, until acknowledged.

use alloc::{string::String, vec::Vec};

use bitcoin::{Amount, OutPoint, Txid, secp256k1::PublicKey};
use fulmen_types::{
    BlockHeight, ChannelId, Msat, PaymentHash, PaymentPreimage, Timestamp,
    codec::{Decode, DecodeError, Encode, Reader, decode_text, encode_text},
};

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
    /// A forwarded HTLC on a closed channel is undecided, and was failed where it came from, because the channel
    /// there would have to be closed for it, which costs more. Should the peer still claim it with its
    /// preimage, its amount is lost.
    HtlcGivenUp {
        /// The channel that is open and stays so.
        incoming: ChannelId,
        /// The closed channel.
        outgoing: ChannelId,
        /// The payment.
        payment_hash: PaymentHash,
        /// What may be lost.
        amount: Msat,
    },
    /// The signer refused what a channel needs: it rests until it is unblocked. It can still be closed by
    /// force.
    SignerBlocked {
        /// The channel.
        channel_id: ChannelId,
        /// With whom.
        peer: PublicKey,
        /// What the signer said.
        reason: String,
    },
    /// Something that a person should look at.
    Alert {
        /// What, and what to do.
        message: String,
    },
}

impl Encode for CloseInitiator {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Us => 0,
            Self::Peer => 1,
        });
    }
}

impl Decode for CloseInitiator {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(r)? {
            0 => Ok(Self::Us),
            1 => Ok(Self::Peer),
            _ => Err(DecodeError::InvalidValue("close initiator")),
        }
    }
}

/// A kind byte that never changes, then the fields in order.
impl Encode for Event {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::ChannelPending {
                channel_id,
                peer,
                funding,
                capacity,
            } => {
                out.push(1);
                channel_id.encode(out);
                peer.encode(out);
                funding.encode(out);
                capacity.encode(out);
            }
            Self::ChannelReady { channel_id, peer } => {
                out.push(2);
                channel_id.encode(out);
                peer.encode(out);
            }
            Self::ChannelOpenFailed {
                channel_id,
                peer,
                reason,
            } => {
                out.push(3);
                channel_id.encode(out);
                peer.encode(out);
                encode_text(reason, out);
            }
            Self::ChannelClosing {
                channel_id,
                peer,
                initiator,
                forced,
                reason,
            } => {
                out.push(4);
                channel_id.encode(out);
                peer.encode(out);
                initiator.encode(out);
                forced.encode(out);
                encode_text(reason, out);
            }
            Self::ChannelClosed {
                channel_id,
                txid,
                kind,
                height,
            } => {
                out.push(5);
                channel_id.encode(out);
                txid.encode(out);
                encode_text(kind, out);
                height.encode(out);
            }
            Self::Breach { channel_id, txid } => {
                out.push(6);
                channel_id.encode(out);
                txid.encode(out);
            }
            Self::Swept {
                channel_id,
                txid,
                amount,
                fee,
            } => {
                out.push(7);
                channel_id.encode(out);
                txid.encode(out);
                amount.encode(out);
                fee.encode(out);
            }
            Self::ChannelResolved { channel_id } => {
                out.push(8);
                channel_id.encode(out);
            }
            Self::PaymentSucceeded {
                payment_hash,
                preimage,
                amount,
                fee,
            } => {
                out.push(9);
                payment_hash.encode(out);
                preimage.encode(out);
                amount.encode(out);
                fee.encode(out);
            }
            Self::PaymentFailed {
                payment_hash,
                reason,
            } => {
                out.push(10);
                payment_hash.encode(out);
                encode_text(reason, out);
            }
            Self::PaymentReceived {
                payment_hash,
                amount,
            } => {
                out.push(11);
                payment_hash.encode(out);
                amount.encode(out);
            }
            Self::PaymentForwarded {
                incoming,
                outgoing,
                amount,
                fee,
            } => {
                out.push(12);
                incoming.encode(out);
                outgoing.encode(out);
                amount.encode(out);
                fee.encode(out);
            }
            Self::Alert { message } => {
                out.push(13);
                encode_text(message, out);
            }
            Self::SignerBlocked {
                channel_id,
                peer,
                reason,
            } => {
                out.push(14);
                channel_id.encode(out);
                peer.encode(out);
                encode_text(reason, out);
            }
            Self::HtlcGivenUp {
                incoming,
                outgoing,
                payment_hash,
                amount,
            } => {
                out.push(15);
                incoming.encode(out);
                outgoing.encode(out);
                payment_hash.encode(out);
                amount.encode(out);
            }
        }
    }
}

impl Decode for Event {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(r)? {
            1 => Self::ChannelPending {
                channel_id: Decode::decode(r)?,
                peer: Decode::decode(r)?,
                funding: Decode::decode(r)?,
                capacity: Decode::decode(r)?,
            },
            2 => Self::ChannelReady {
                channel_id: Decode::decode(r)?,
                peer: Decode::decode(r)?,
            },
            3 => Self::ChannelOpenFailed {
                channel_id: Decode::decode(r)?,
                peer: Decode::decode(r)?,
                reason: decode_text(r)?,
            },
            4 => Self::ChannelClosing {
                channel_id: Decode::decode(r)?,
                peer: Decode::decode(r)?,
                initiator: Decode::decode(r)?,
                forced: Decode::decode(r)?,
                reason: decode_text(r)?,
            },
            5 => Self::ChannelClosed {
                channel_id: Decode::decode(r)?,
                txid: Decode::decode(r)?,
                kind: decode_text(r)?,
                height: Decode::decode(r)?,
            },
            6 => Self::Breach {
                channel_id: Decode::decode(r)?,
                txid: Decode::decode(r)?,
            },
            7 => Self::Swept {
                channel_id: Decode::decode(r)?,
                txid: Decode::decode(r)?,
                amount: Decode::decode(r)?,
                fee: Decode::decode(r)?,
            },
            8 => Self::ChannelResolved {
                channel_id: Decode::decode(r)?,
            },
            9 => Self::PaymentSucceeded {
                payment_hash: Decode::decode(r)?,
                preimage: Decode::decode(r)?,
                amount: Decode::decode(r)?,
                fee: Decode::decode(r)?,
            },
            10 => Self::PaymentFailed {
                payment_hash: Decode::decode(r)?,
                reason: decode_text(r)?,
            },
            11 => Self::PaymentReceived {
                payment_hash: Decode::decode(r)?,
                amount: Decode::decode(r)?,
            },
            12 => Self::PaymentForwarded {
                incoming: Decode::decode(r)?,
                outgoing: Decode::decode(r)?,
                amount: Decode::decode(r)?,
                fee: Decode::decode(r)?,
            },
            13 => Self::Alert {
                message: decode_text(r)?,
            },
            14 => Self::SignerBlocked {
                channel_id: Decode::decode(r)?,
                peer: Decode::decode(r)?,
                reason: decode_text(r)?,
            },
            15 => Self::HtlcGivenUp {
                incoming: Decode::decode(r)?,
                outgoing: Decode::decode(r)?,
                payment_hash: Decode::decode(r)?,
                amount: Decode::decode(r)?,
            },
            _ => return Err(DecodeError::InvalidValue("event of a newer version")),
        })
    }
}

/// A version byte, then the number, the time and the event.
impl Encode for NumberedEvent {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
        self.number.encode(out);
        self.at.encode(out);
        self.event.encode(out);
    }
}

impl Decode for NumberedEvent {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u8::decode(r)? != 1 {
            return Err(DecodeError::InvalidValue("event record of a newer version"));
        }
        Ok(Self {
            number: Decode::decode(r)?,
            at: Decode::decode(r)?,
            event: Decode::decode(r)?,
        })
    }
}
