//! What comes out of a channel, in order.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid, secp256k1::PublicKey};
use fulmen_signer::{OutMessage, SigningRequest};
use fulmen_tx::{
    ChannelParameters, CommitmentSecrets, CounterpartyCommitment, HolderCommitment, Side,
};
use fulmen_types::{
    BlockHeight, ChannelId, CltvExpiry, FeeratePerKw, HtlcId, Msat, PaymentHash, PaymentPreimage,
    ShortChannelId,
};
use fulmen_wire::ChannelAnnouncement;

use crate::{
    error::{ChannelFault, Rule},
    htlc::{HtlcFailure, ONION_LEN},
};

/// One effect of a step. What is said to the outside is released only after the step's records are
/// durable.
#[derive(Clone, Debug)]
pub enum ChannelOutput {
    /// A message to the peer, in this order.
    Send(OutMessage),
    /// Close the connection with the peer and connect again: the channel begins anew with it.
    ResetConnection,
    /// Close the connection with the peer, after the messages before it have left.
    CloseConnection,
    /// Ask the wallet for a signed transaction that pays this; the answer is
    /// [`crate::ChannelInput::FundingReady`] or [`crate::ChannelInput::FundingFailed`].
    AskFunding {
        /// The script to pay.
        script_pubkey: ScriptBuf,
        /// How much.
        value: Amount,
    },
    /// Ask the signer for what has to come back as an input: [`crate::ChannelInput::Signed`].
    AskSign(Box<SigningRequest>),
    /// The channel has its lasting id from now on, and records.
    Funded {
        /// The id until now.
        temporary_channel_id: ChannelId,
        /// The id from now on.
        channel_id: ChannelId,
    },
    /// Watch this output from this height on: its creation and its spend. Repeated by
    /// [`crate::Channel::re_emit`].
    WatchFunding {
        /// The output.
        outpoint: OutPoint,
        /// Its script.
        script_pubkey: ScriptBuf,
        /// Nothing before this block matters.
        from: BlockHeight,
    },
    /// Broadcast the funding transaction; repeated at [`crate::ChannelInput::Block`] until confirmed.
    BroadcastFunding(Transaction),
    /// Broadcast the mutual close; repeated at [`crate::ChannelInput::Block`] until a spend confirms.
    BroadcastClosing(Transaction),
    /// We close with our commitment transaction: the on-chain resolution takes over now. Repeated by
    /// [`crate::Channel::re_emit`].
    ForceClosing(Box<Closing>),
    /// The HTLC of [`crate::ChannelInput::AddHtlc`] has this id.
    HtlcAdded {
        /// Its id among those that we offer.
        id: HtlcId,
    },
    /// An HTLC of the peer is irrevocably committed: decide now. Repeated by [`crate::Channel::re_emit`]
    /// until decided.
    IncomingHtlc(IncomingHtlc),
    /// An HTLC of the peer is irrevocably removed.
    IncomingRemoved {
        /// Its id among those that the peer offers.
        id: HtlcId,
        /// Whether we have its amount now.
        fulfilled: bool,
    },
    /// The peer gave the preimage of an HTLC of ours: use it upstream in this very step. Repeated by
    /// [`crate::Channel::re_emit`] until the HTLC is irrevocably removed.
    OutgoingFulfilled {
        /// The HTLC.
        id: HtlcId,
        /// The proof.
        preimage: PaymentPreimage,
        /// What came with [`crate::AddHtlc`].
        link: Vec<u8>,
    },
    /// An HTLC of ours that was fulfilled is irrevocably removed.
    OutgoingSettled {
        /// The HTLC.
        id: HtlcId,
        /// What came with [`crate::AddHtlc`].
        link: Vec<u8>,
    },
    /// An HTLC of ours is irrevocably failed: it may be failed upstream.
    OutgoingFailed {
        /// The HTLC.
        id: HtlcId,
        /// What came with [`crate::AddHtlc`].
        link: Vec<u8>,
        /// Why.
        reason: HtlcFailure,
    },
    /// Both ends called the channel ready: it can be used.
    Ready {
        /// The name that the peer gave it for our route hints.
        peer_alias: Option<ShortChannelId>,
    },
    /// The funding transaction is confirmed: the channel's place in the chain; or a reorganisation took it out, and
    /// it has none.
    Located(Option<ShortChannelId>),
    /// Both halves of the announcement are there and verified.
    Announced(Box<ChannelAnnouncement>),
    /// Whether HTLCs can be added now: connected, ready, not closing. Only when it changes.
    Usable(bool),
    /// The peer broke a rule, and what follows in this list is what BOLT 2 asks for; for logs and events.
    Fault(ChannelFault),
    /// The peer sent `error` or `warning`; a text for people, safe to show.
    PeerSays(alloc::string::String),
    /// A shutdown has begun.
    ShuttingDown {
        /// Who began it.
        initiator: Side,
    },
    /// The signer refused what the channel needs, in its words: the channel says and signs nothing until
    /// [`crate::ChannelInput::Unblock`]. It can still be closed by force.
    SignerBlocked(alloc::string::String),
    /// We would close by our commitment, for this reason, but the state was restored from a backup and
    /// may be old: nothing is broadcast.
    BroadcastWithheld(CloseReason),
    /// The peer or the signer has proved that our state is old: nothing is broadcast; the peer is asked to close.
    Stale,
    /// The channel is over without a trace on chain: it was never funded, or the fundee forgot it. Its
    /// records are deleted, leases may go.
    Abandoned(alloc::string::String),
    /// The funding output is spent: the channel is frozen; see [`crate::Channel::enforcement`].
    Frozen {
        /// By this transaction.
        txid: Txid,
    },
}

/// An HTLC of the peer to be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingHtlc {
    /// Its id among those that the peer offers.
    pub id: HtlcId,
    /// How much.
    pub amount: Msat,
    /// For which preimage.
    pub payment_hash: PaymentHash,
    /// Until when.
    pub cltv_expiry: CltvExpiry,
    /// The onion for us.
    pub onion_routing_packet: Box<[u8; ONION_LEN]>,
    /// Inside a blinded route: its key for us.
    pub path_key: Option<PublicKey>,
    /// BOLT 2: above the limit of dust exposure. To be failed, its preimage not to be revealed.
    pub dust_exposed: bool,
}

/// Why a channel is closed with our commitment: who, which rule, which HTLC, which deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The owner of the node asked for it.
    Requested,
    /// The peer broke a rule.
    PeerFault(Rule),
    /// The peer sent `error`; its words, safe to show, cut at 256 bytes.
    PeerError(alloc::string::String),
    /// An HTLC that we offered is past its deadline.
    OfferedHtlcExpired {
        /// The HTLC.
        id: HtlcId,
        /// Its expiry.
        cltv_expiry: CltvExpiry,
        /// The height at which we had to act.
        deadline: BlockHeight,
    },
    /// The peer does not let us settle an HTLC that we have the preimage of.
    FulfilledHtlcExpiring {
        /// The HTLC.
        id: HtlcId,
        /// Its expiry.
        cltv_expiry: CltvExpiry,
        /// The height at which we had to act.
        deadline: BlockHeight,
    },
    /// A cooperative close got no answer in time.
    ClosingTimeout,
}

/// A close by our commitment transaction, durable before it is broadcast.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Why.
    pub reason: CloseReason,
    /// The tip when it was decided.
    pub height: BlockHeight,
    /// All that the on-chain resolution needs; its holder commitment is the one to broadcast.
    pub enforcement: EnforcementData,
}

/// What enforcing the channel on chain takes.
#[derive(Clone, Debug)]
pub struct EnforcementData {
    /// The channel's parameters.
    pub params: ChannelParameters,
    /// Our newest commitment, with the peer's signatures; `None` when it must never be broadcast.
    pub holder: Option<HolderCommitment>,
    /// The peer's unrevoked commitments: the current one, then the next one if it is signed.
    pub counterparty: Vec<CounterpartyCommitment>,
    /// The secrets that the peer has revealed.
    pub secrets: CommitmentSecrets,
    /// The preimages known of any HTLC in either direction.
    pub preimages: Vec<PaymentPreimage>,
    /// Where our funds go.
    pub sweep_script: ScriptBuf,
    /// The scripts of both `shutdown` messages, as far as exchanged.
    pub shutdown_scripts: Vec<ScriptBuf>,
    /// The links of all HTLCs that we offered and that are not settled.
    pub links: Vec<(HtlcId, Vec<u8>)>,
    /// What pays for our commitment: its feerate.
    pub feerate: FeeratePerKw,
}

impl core::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Requested => f.write_str("we asked for it"),
            Self::PeerFault(rule) => write!(f, "the peer broke a rule: {rule}"),
            Self::PeerError(text) => write!(f, "the peer sent an error: {text}"),
            Self::OfferedHtlcExpired {
                id,
                cltv_expiry,
                deadline,
            } => write!(
                f,
                "our HTLC {id} expired at block {cltv_expiry} and the peer did not remove it by {deadline}"
            ),
            Self::FulfilledHtlcExpiring {
                id,
                cltv_expiry,
                deadline,
            } => write!(
                f,
                "the peer's HTLC {id} expires at block {cltv_expiry}, its preimage is known, and the \
                 peer did not let us settle it by {deadline}"
            ),
            Self::ClosingTimeout => f.write_str("a cooperative close was not agreed on in time"),
        }
    }
}
