//! What a user can ask of the node, and what comes back.

use alloc::{string::String, vec::Vec};
use core::fmt;

use bitcoin::{Amount, ScriptBuf, secp256k1::PublicKey};
use fulmen_types::{ChannelId, FeeratePerKw, Msat, PaymentHash};

use crate::input::PeerAddress;

/// A user's command. Questions that change nothing are methods of the node instead.
#[derive(Clone, Debug)]
pub enum Command {
    /// Connect to a peer. Answered when the peer's `init` has arrived, or the attempt has failed.
    Connect {
        /// Its key.
        peer: PublicKey,
        /// Where it listens.
        address: PeerAddress,
    },
    /// End the connection with a peer. Refused while channels with it are open, unless `force`.
    Disconnect {
        /// Its key.
        peer: PublicKey,
        /// Also with open channels.
        force: bool,
    },
    /// Open a channel. Answered when the funding transaction is on its way, or the open has failed.
    OpenChannel(OpenChannelCommand),
    /// Close a channel. Answered when the close has begun.
    CloseChannel {
        /// Which one.
        channel: ChannelSelector,
        /// Together with the peer, or alone.
        mode: CloseMode,
    },
    /// Let the signer be asked again for a channel that rests because it refused something. The connection
    /// with the peer is made anew.
    UnblockChannel(ChannelSelector),
    /// Make an invoice. Answered with its text.
    CreateInvoice {
        /// What to ask for; `None` leaves it to the payer.
        amount: Option<Msat>,
        /// What it is for.
        description: String,
        /// How long it can be paid, in seconds.
        expiry_secs: u32,
    },
    /// Pay an invoice. Answered when the payment is durable and on its way; its end is an event and in the
    /// list of payments. Paying the same payment hash again gives the payment that there is.
    Pay(PayCommand),
    /// Forget events up to this number: they have been dealt with.
    AcknowledgeEvents {
        /// The last one dealt with.
        up_to: u64,
    },
}

/// What channel to open.
#[derive(Clone, Debug)]
pub struct OpenChannelCommand {
    /// With whom; must be connected.
    pub peer: PublicKey,
    /// The channel's capacity, all of it ours.
    pub amount: Amount,
    /// Given to the peer at once.
    pub push: Msat,
    /// Whether to announce the channel to the network.
    pub announce: bool,
    /// The funding transaction's feerate; the estimate when `None`.
    pub feerate: Option<FeeratePerKw>,
    /// The channel type to ask for; the best that both sides know when `None`.
    pub channel_type: Option<fulmen_types::ChannelType>,
}

/// Which channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelSelector {
    /// By its id.
    Id(ChannelId),
}

/// How to close.
#[derive(Clone, Debug)]
pub enum CloseMode {
    /// Together with the peer, once no HTLC is left.
    Cooperative {
        /// Where our balance goes; a script of the wallet when `None`.
        script_pubkey: Option<ScriptBuf>,
        /// The closing transaction's feerate; the estimate when `None`.
        feerate: Option<FeeratePerKw>,
    },
    /// Alone and at once, by broadcasting our commitment transaction.
    Force,
}

/// What to pay.
#[derive(Clone, Debug)]
pub struct PayCommand {
    /// The BOLT 11 invoice.
    pub invoice: String,
    /// The amount, for invoices that leave it open.
    pub amount: Option<Msat>,
    /// The most to spend on fees; a default from the configuration when `None`.
    pub max_fee: Option<Msat>,
    /// How long to keep trying, in seconds; a default from the configuration when `None`.
    pub timeout_secs: Option<u32>,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// The funding transaction of the new channel is on its way.
    ChannelOpening {
        /// The channel's id.
        channel_id: ChannelId,
        /// The funding output.
        funding: bitcoin::OutPoint,
    },
    /// The invoice.
    Invoice {
        /// Its text.
        invoice: String,
        /// Its payment hash.
        payment_hash: PaymentHash,
    },
    /// The payment is on its way, or was before.
    Payment {
        /// Its hash.
        payment_hash: PaymentHash,
        /// Its encoded record where the payment has ended already (see `fulmen-payments`).
        ended: Option<Vec<u8>>,
    },
}

/// Why a command was refused or failed. Nothing has changed where it was refused. The text says what to
/// do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The peer is not connected.
    PeerNotConnected(PublicKey),
    /// There is no such channel.
    UnknownChannel(ChannelId),
    /// The command does not make sense as given.
    Invalid(String),
    /// The state of things does not allow it now.
    Refused(String),
    /// Not enough money; the text says how much is missing where.
    InsufficientFunds(String),
    /// The peer said no, in its own words made printable.
    PeerRefused(String),
    /// It was begun and did not work out.
    Failed(String),
    /// The node is in enforce-only mode or shutting down.
    Unavailable(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerNotConnected(peer) => {
                write!(
                    f,
                    "peer {peer} is not connected; use `connect {peer}@host:port` first"
                )
            }
            Self::UnknownChannel(id) => {
                write!(
                    f,
                    "there is no channel {id}; `listchannels` shows those that are"
                )
            }

            Self::PeerRefused(why)
            | Self::Invalid(why)
            | Self::Refused(why)
            | Self::InsufficientFunds(why)
            | Self::Failed(why)
            | Self::Unavailable(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for CommandError {}
