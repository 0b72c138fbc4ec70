//! BOLT 7: queries, which bring a node's view of the network up to date.

use alloc::vec::Vec;

use bitcoin::constants::ChainHash;
use fulmen_types::ShortChannelId;

use crate::{
    codec::{Big, Encoded, Rest},
    macros::message,
};

message! {
    /// Asks for the announcements of channels (BOLT 7).
    QueryShortChannelIds = 261, "query_short_channel_ids" {
        /// The chain.
        chain_hash: ChainHash,
        /// The channels.
        encoded_short_ids: Vec<ShortChannelId> as Encoded,
    }
    tlvs {
        /// For each channel, what is wanted of it: the constants of this type.
        1 query_flags: Option<Vec<u64>> as Encoded,
    }
}

impl QueryShortChannelIds {
    /// Bit 0 of a query flag: `channel_announcement`.
    pub const WANT_ANNOUNCEMENT: u64 = 1;
    /// Bit 1 of a query flag: `channel_update` of node 1.
    pub const WANT_UPDATE_1: u64 = 2;
    /// Bit 2 of a query flag: `channel_update` of node 2.
    pub const WANT_UPDATE_2: u64 = 4;
    /// Bit 3 of a query flag: `node_announcement` of node 1.
    pub const WANT_NODE_1: u64 = 8;
    /// Bit 4 of a query flag: `node_announcement` of node 2.
    pub const WANT_NODE_2: u64 = 16;

    /// Each channel with its flags, all bits when none were sent. `None` when the numbers of flags and
    /// channels differ: the receiver may warn and close (BOLT 7).
    pub fn queries(&self) -> Option<impl Iterator<Item = (ShortChannelId, u64)> + '_> {
        if let Some(flags) = &self.query_flags
            && flags.len() != self.encoded_short_ids.len()
        {
            return None;
        }
        let flags = self.query_flags.as_deref().unwrap_or_default();
        Some(
            self.encoded_short_ids
                .iter()
                .enumerate()
                .map(|(i, id)| (*id, flags.get(i).copied().unwrap_or(0x1f))),
        )
    }
}

message! {
    /// All that was asked for has been sent (BOLT 7).
    ReplyShortChannelIdsEnd = 262, "reply_short_channel_ids_end" {
        /// The chain.
        chain_hash: ChainHash,
        /// Whether the sender keeps up-to-date information of this chain.
        full_information: bool,
    }
    tlvs {}
}

message! {
    /// Asks which channels were opened in a range of blocks (BOLT 7).
    QueryChannelRange = 263, "query_channel_range" {
        /// The chain.
        chain_hash: ChainHash,
        /// The first block.
        first_blocknum: u32,
        /// How many blocks.
        number_of_blocks: u32,
    }
    tlvs {
        /// What the answer should say of the updates: the constants of this type.
        1 query_option: Option<u64> as Big,
    }
}

impl QueryChannelRange {
    /// Bit 0 of `query_option`: the updates' timestamps.
    pub const WANT_TIMESTAMPS: u64 = 1;
    /// Bit 1 of `query_option`: the updates' checksums.
    pub const WANT_CHECKSUMS: u64 = 2;

    /// The block after the range; saturates.
    pub const fn end_blocknum(&self) -> u32 {
        self.first_blocknum.saturating_add(self.number_of_blocks)
    }
}

message! {
    /// Channels in a part of the range that was asked for (BOLT 7).
    ReplyChannelRange = 264, "reply_channel_range" {
        /// The chain.
        chain_hash: ChainHash,
        /// The first block of this part.
        first_blocknum: u32,
        /// How many blocks this part has.
        number_of_blocks: u32,
        /// Whether the sender keeps up-to-date information of this chain.
        sync_complete: bool,
        /// The channels, in rising order.
        encoded_short_ids: Vec<ShortChannelId> as Encoded,
    }
    tlvs {
        /// For each channel, the timestamps of the updates of node 1 and node 2; 0 for none.
        1 timestamps_tlv: Option<Vec<(u32, u32)>> as Encoded,
        /// For each channel, the checksums of the updates of node 1 and node 2; 0 for none.
        3 checksums_tlv: Option<Vec<(u32, u32)>> as Rest,
    }
}

message! {
    /// Asks to be sent gossip of a range of time from now on (BOLT 7).
    GossipTimestampFilter = 265, "gossip_timestamp_filter" {
        /// The chain.
        chain_hash: ChainHash,
        /// The first timestamp.
        first_timestamp: u32,
        /// How many seconds.
        timestamp_range: u32,
    }
    tlvs {}
}
