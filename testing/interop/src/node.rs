//! What a scenario asks of a node, whichever implementation it is.

use std::fmt;
use std::net::SocketAddr;

use anyhow::Result;
use bitcoin::ScriptBuf;
use bitcoin::secp256k1::PublicKey;

/// The channel types under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelKind {
    /// `option_static_remotekey`.
    StaticRemoteKey,
    /// `option_anchors`, zero-fee HTLC transactions.
    Anchors,
}

impl ChannelKind {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::StaticRemoteKey, Self::Anchors];

    /// The name used on the command line and in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::StaticRemoteKey => "static_remotekey",
            Self::Anchors => "anchors",
        }
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A channel to be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenChannel {
    /// With whom.
    pub(crate) peer: PublicKey,
    /// The capacity.
    pub(crate) capacity_sat: u64,
    /// What the peer gets of it at once.
    pub(crate) push_msat: u64,
    /// The type to ask for.
    pub(crate) kind: ChannelKind,
    /// Whether it is announced to the network.
    pub(crate) public: bool,
}

/// A channel as a node sees it.
#[derive(Clone, Debug)]
pub(crate) struct ChannelView {
    /// The BOLT 2 channel id in hex.
    pub(crate) id: String,
    /// With whom.
    pub(crate) peer: PublicKey,
    /// The short channel id as a number, once it is confirmed.
    pub(crate) short_channel_id: Option<u64>,
    /// Whether payments can use it now.
    pub(crate) usable: bool,
    /// The type that was agreed on.
    pub(crate) kind: Option<ChannelKind>,
    /// What the node can send at most, about.
    pub(crate) spendable_msat: u64,
    /// HTLCs in flight.
    pub(crate) htlcs: usize,
    /// The capacity.
    pub(crate) capacity_sat: u64,
}

/// How far an outgoing payment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PaymentStatus {
    /// On its way.
    Pending,
    /// Arrived, with the proof and the fee.
    Succeeded {
        /// The preimage in hex.
        preimage: String,
        /// What it cost beyond the amount.
        fee_msat: u64,
    },
    /// Given up, with the node's own words.
    Failed(String),
}

/// How a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Together.
    Cooperative,
    /// With our commitment transaction.
    Force,
}

/// A node of any implementation. Payment hashes are in hex.
pub(crate) trait TestNode: Send + Sync {
    /// A name for messages.
    #[allow(dead_code)]
    fn name(&self) -> &str;
    /// Its key.
    fn node_id(&self) -> PublicKey;
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// A script of its on-chain wallet.
    fn deposit_script(&self) -> Result<ScriptBuf>;
    /// The last block that it has looked at.
    fn height(&self) -> Result<u32>;
    /// Confirmed coins in its wallet.
    fn onchain_sat(&self) -> Result<u64>;
    /// What is still to come from closed channels.
    fn sweeping_sat(&self) -> Result<u64>;
    /// Connects to a peer and waits until the connection is made.
    fn connect(&self, peer: PublicKey, address: SocketAddr) -> Result<()>;
    /// Whether a peer is connected.
    fn is_connected(&self, peer: PublicKey) -> Result<bool>;
    /// Cuts the connection with a peer.
    fn disconnect(&self, peer: PublicKey) -> Result<()>;
    /// Opens a channel; returns once the funding transaction has been broadcast.
    fn open_channel(&self, open: OpenChannel) -> Result<()>;
    /// Its channels that are not closed or being closed on chain.
    fn channels(&self) -> Result<Vec<ChannelView>>;
    /// An invoice.
    fn invoice(&self, amount_msat: u64, description: &str) -> Result<String>;
    /// Begins to pay an invoice; returns the payment hash.
    fn pay(&self, bolt11: &str) -> Result<String>;
    /// How far a payment is.
    fn payment(&self, payment_hash: &str) -> Result<PaymentStatus>;
    /// What was received for a hash of its own.
    fn received_msat(&self, payment_hash: &str) -> Result<Option<u64>>;
    /// Closes a channel.
    fn close(&self, channel: &ChannelView, how: Close) -> Result<()>;
    /// How many nodes and channels its graph has.
    fn graph_size(&self) -> Result<(usize, usize)>;
}
