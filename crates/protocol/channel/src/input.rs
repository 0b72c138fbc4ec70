//! What goes into a channel.

use alloc::{boxed::Box, string::String, vec::Vec};

use bitcoin::{Amount, ScriptBuf, Transaction, secp256k1::PublicKey};
use fulmen_signer::{RefusedMessage, SigningAnswer, SigningRequest};
use fulmen_tx::{ChannelKeysId, ChannelPublicKeys};
use fulmen_types::{
    BlockHeight, ChannelId, ChannelType, CltvExpiry, FeeratePerKw, HtlcId, Msat, PaymentHash,
    ShortChannelId,
};
use fulmen_wire::Message;

use crate::htlc::{HtlcResolution, ONION_LEN};

/// Our half of a new channel's keys, from the signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurKeys {
    /// Finds our secrets in the signer; drawn at random, the key of the channel's records.
    pub keys_id: ChannelKeysId,
    /// Our public keys.
    pub keys: ChannelPublicKeys,
    /// Our per-commitment points 0, 1 and 2.
    pub points: [PublicKey; 3],
}

/// What to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// Our keys.
    pub ours: OurKeys,
    /// Random; unlike any other channel id with the peer.
    pub temporary_channel_id: ChannelId,
    /// The channel's value, from our wallet.
    pub funding: Amount,
    /// What of it is given to the peer.
    pub push: Msat,
    /// Whether the world is to know the channel.
    pub announce: bool,
    /// The type wanted; `None` takes the best that both ends have: anchors, else static_remotekey.
    pub channel_type: Option<ChannelType>,
    /// The feerate of the first commitment transactions; `None` takes an estimate.
    pub feerate: Option<FeeratePerKw>,
    /// A script of our wallet: where our funds go when the channel closes.
    pub sweep_script: ScriptBuf,
    /// Whether to bind a cooperative close to `sweep_script` (`option_upfront_shutdown_script`).
    pub upfront_shutdown: UpfrontShutdown,
    /// Our alias of the channel, not related to its real short channel id.
    pub alias: ShortChannelId,
}

/// Whether a cooperative close is bound to the script named at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UpfrontShutdown {
    /// Any script may be named when closing.
    #[default]
    Free,
    /// Only the one named when opening.
    Bound,
}

/// What is ours when a peer opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptRequest {
    /// Our keys.
    pub ours: OurKeys,
    /// A script of our wallet: where our funds go when the channel closes.
    pub sweep_script: ScriptBuf,
    /// Whether to bind a cooperative close to `sweep_script`.
    pub upfront_shutdown: UpfrontShutdown,
    /// Our alias of the channel, not related to its real short channel id.
    pub alias: ShortChannelId,
}

/// An HTLC to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddHtlc {
    /// How much.
    pub amount: Msat,
    /// For which preimage.
    pub payment_hash: PaymentHash,
    /// Until when.
    pub cltv_expiry: CltvExpiry,
    /// The onion for the peer.
    pub onion_routing_packet: Box<[u8; ONION_LEN]>,
    /// Inside a blinded route: its key for the peer.
    pub path_key: Option<PublicKey>,
    /// Opaque to the channel, kept with the HTLC and given back with what becomes of it: where it came
    /// from. At most 1024 bytes.
    pub link: Vec<u8>,
}

/// One input of a channel.
#[derive(Clone, Debug)]
pub enum ChannelInput {
    /// A message of the peer that names this channel, or an `error` or `warning` for all channels.
    Message(Message),
    /// A connection with the peer is up and `init` is exchanged.
    Connected,
    /// The connection is gone: unsent messages of the channel are lost.
    Disconnected,
    /// The wallet's answer to [`crate::ChannelOutput::AskFunding`]: a signed transaction with segwit
    /// inputs that pays the script asked for. It is not to be broadcast yet.
    FundingReady(Transaction),
    /// The wallet can't fund the channel; why.
    FundingFailed(String),
    /// The funding transaction is in the best chain. Depths are counted from the context's tip at
    /// [`ChannelInput::Block`].
    FundingConfirmed {
        /// The transaction.
        transaction: Transaction,
        /// Its block's height.
        height: BlockHeight,
        /// Its place in the block.
        tx_index: u32,
    },
    /// A reorganisation took the funding transaction out of the chain.
    FundingUnconfirmed,
    /// The funding output is spent in the best chain: the channel freezes, the on-chain resolution takes
    /// over.
    FundingSpent {
        /// The transaction that spends it.
        transaction: Transaction,
        /// Its block's height.
        height: BlockHeight,
    },
    /// A reorganisation took the spend out of the chain.
    FundingUnspent,
    /// The context's tip is the best tip now: depths and deadlines are looked at.
    Block,
    /// Time has passed.
    Tick,
    /// Offer an HTLC.
    AddHtlc(AddHtlc),
    /// Decide an incoming HTLC: durable at once, said to the peer whenever the channel may speak.
    Resolve {
        /// The peer's HTLC.
        htlc_id: HtlcId,
        /// How it ends.
        resolution: HtlcResolution,
    },
    /// Change the feerate of the commitment transactions; for the opener.
    UpdateFee(FeeratePerKw),
    /// Sign what is pending: given once at the end of each step, so that many updates share a signature.
    Commit,
    /// Close together with the peer.
    Shutdown {
        /// Where our funds go; `None` takes the script named when opening.
        script: Option<ScriptBuf>,
        /// The feerate of the closing transaction; `None` takes an estimate.
        feerate: Option<FeeratePerKw>,
    },
    /// Close with our commitment transaction.
    ForceClose,
    /// The signer's answer to [`crate::ChannelOutput::AskSign`].
    Signed {
        /// What was asked.
        request: Box<SigningRequest>,
        /// The answer.
        answer: Box<SigningAnswer>,
    },
    /// The signer will not complete a message of ours; it has not left, nor has anything after it on this
    /// connection. The channel rests: see [`crate::ChannelOutput::SignerBlocked`].
    SigningRefused(Box<RefusedMessage>),
    /// Let the signer be asked again; for a channel that rests.
    Unblock,
    /// The records come from a backup that may be old: until the peer or the signer confirms the state,
    /// nothing new is broadcast. To be given after [`crate::Channel::restore`], before
    /// [`crate::Channel::re_emit`].
    DeclareRestored,
    /// The on-chain resolution is done: the channel's records are deleted.
    Forget,
}
