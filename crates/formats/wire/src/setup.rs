//! BOLT 1: setup, control and peer storage.

use alloc::vec::Vec;

use bitcoin::constants::ChainHash;
use fulmen_types::{ChannelId, Features, Printable};

use crate::{
    NetAddress,
    codec::{Rest, U16Prefixed},
    macros::message,
};

message! {
    /// The first message on a connection: what a node can do (BOLT 1).
    Init = 16, "init" {
        /// Features below bit 14, for old nodes; to be joined with `features`.
        globalfeatures: Features,
        /// What the sender offers and asks for.
        features: Features,
    }
    tlvs {
        /// The chains that the sender is interested in.
        1 networks: Option<Vec<ChainHash>> as Rest,
        /// The address under which the sender sees the receiver.
        3 remote_addr: Option<NetAddress>,
    }
}

impl Init {
    /// Both feature fields as one, as a receiver must take them (BOLT 1).
    pub fn all_features(&self) -> Features {
        self.globalfeatures.union(&self.features)
    }

    /// Whether the two ends share a chain: true if the sender names none.
    pub fn has_chain(&self, chain_hash: &ChainHash) -> bool {
        self.networks
            .as_ref()
            .is_none_or(|networks| networks.contains(chain_hash))
    }
}

message! {
    /// Something is so wrong that the channel is failed, or all channels with the peer (BOLT 1).
    Error = 17, "error" {
        /// The channel, or [`ChannelId::ALL`].
        channel_id: ChannelId,
        /// A text for people, in whatever bytes the sender chose: see [`Error::text`].
        data: Vec<u8> as U16Prefixed,
    }
    tlvs {}
}

message! {
    /// Something is wrong, without a channel being failed for it (BOLT 1).
    Warning = 1, "warning" {
        /// The channel, or [`ChannelId::ALL`].
        channel_id: ChannelId,
        /// A text for people, in whatever bytes the sender chose: see [`Warning::text`].
        data: Vec<u8> as U16Prefixed,
    }
    tlvs {}
}

impl Error {
    /// An error with a text.
    pub fn new(channel_id: ChannelId, text: &str) -> Self {
        Self {
            channel_id,
            data: text.as_bytes().to_vec(),
        }
    }

    /// The text, safe to show.
    pub fn text(&self) -> Printable<'_> {
        Printable(&self.data)
    }
}

impl Warning {
    /// A warning with a text.
    pub fn new(channel_id: ChannelId, text: &str) -> Self {
        Self {
            channel_id,
            data: text.as_bytes().to_vec(),
        }
    }

    /// The text, safe to show.
    pub fn text(&self) -> Printable<'_> {
        Printable(&self.data)
    }
}

message! {
    /// Asks for a `pong` (BOLT 1).
    Ping = 18, "ping" {
        /// How many bytes the answer must carry; 65532 and more ask for none.
        num_pong_bytes: u16,
        /// Padding.
        ignored: Vec<u8> as U16Prefixed,
    }
    tlvs {}
}

impl Ping {
    /// The answer that BOLT 1 asks for, or `None` when the ping wants none.
    pub fn pong(&self) -> Option<Pong> {
        // BOLT 1, ping: "if num_pong_bytes is less than 65532: MUST respond".
        (self.num_pong_bytes < 65532).then(|| Pong {
            ignored: alloc::vec![0; usize::from(self.num_pong_bytes)],
        })
    }
}

message! {
    /// Answers a `ping` (BOLT 1).
    Pong = 19, "pong" {
        /// Padding, as long as the ping asked for.
        ignored: Vec<u8> as U16Prefixed,
    }
    tlvs {}
}

message! {
    /// Data that the sender asks the peer to keep for it (BOLT 1, `option_provide_storage`).
    PeerStorage = 7, "peer_storage" {
        /// At most 65531 bytes, encrypted by its owner.
        blob: Vec<u8> as U16Prefixed,
    }
    tlvs {}
}

message! {
    /// Data that the sender has kept for the peer (BOLT 1, `option_provide_storage`).
    PeerStorageRetrieval = 9, "peer_storage_retrieval" {
        /// What was stored last.
        blob: Vec<u8> as U16Prefixed,
    }
    tlvs {}
}
