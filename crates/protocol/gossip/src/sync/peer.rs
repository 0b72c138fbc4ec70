//! What is kept of one connection, and its beginning and end.

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use bitcoin::constants::ChainHash;
use fulmen_types::{Feature, Features, NodeId, ShortChannelId, Timestamp};
use fulmen_wire::{GossipTimestampFilter, QueryChannelRange};

use super::{Gossip, GossipOutput};

/// Live gossip is asked for from this long ago on: what happened meanwhile comes by queries.
const FILTER_BACK_SECS: u64 = 3_600;

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// Offers `gossip_queries`: worth asking.
    pub(super) has_queries: bool,
    /// Offers `gossip_queries_ex`.
    pub(super) has_extended: bool,
    /// We asked it for live gossip.
    pub(super) is_live: bool,
    /// What it asked us for.
    pub(super) filter: Option<Filter>,
    /// Old gossip being sent for its filter.
    pub(super) backlog: Option<Backlog>,
    /// Its `query_short_channel_ids` being answered.
    pub(super) serving_ids: Option<ServingIds>,
    /// Its `query_channel_range` being answered.
    pub(super) serving_range: Option<ServingRange>,
    /// When the next portion of what it asked for is due.
    pub(super) next_portion: Timestamp,
    /// Our questions to it.
    pub(super) sync: Sync,
    /// Of all pending outputs, those that it announced.
    pub(super) pending_utxos: usize,
}

/// `gossip_timestamp_filter`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    pub(super) first: u32,
    pub(super) range: u32,
}

impl Filter {
    pub(super) fn takes(&self, timestamp: u32) -> bool {
        timestamp >= self.first && timestamp - self.first < self.range
    }
}

/// How far the old gossip for a filter has been sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Backlog {
    Channels { after: Option<ShortChannelId> },
    Nodes { after: Option<NodeId> },
}

#[derive(Debug)]
pub(super) struct ServingIds {
    pub(super) left: VecDeque<(ShortChannelId, u64)>,
    pub(super) nodes_sent: BTreeSet<NodeId>,
}

#[derive(Debug)]
pub(super) struct ServingRange {
    pub(super) query: Box<QueryChannelRange>,
    /// The next channel to list.
    pub(super) from: ShortChannelId,
    /// The next part's `first_blocknum`.
    pub(super) first_block: u32,
}

/// Our questions to a peer.
#[derive(Debug)]
pub(super) enum Sync {
    /// None.
    Idle,
    /// Waiting for all parts of `reply_channel_range`.
    Range {
        query: Box<QueryChannelRange>,
        /// What the parts so far have shown to be missing.
        wanted: VecDeque<(ShortChannelId, u64)>,
        /// The `first_blocknum` of the last part: they never go back.
        last_first: u32,
        parts: u32,
        deadline: Timestamp,
    },
    /// Asking for channels, some at a time.
    Ids {
        wanted: VecDeque<(ShortChannelId, u64)>,
        /// A query is open.
        asked: bool,
        deadline: Timestamp,
    },
}

impl Peer {
    pub(super) const fn is_syncing(&self) -> bool {
        !matches!(self.sync, Sync::Idle)
    }

    pub(super) const fn is_served(&self) -> bool {
        self.backlog.is_some() || self.serving_ids.is_some() || self.serving_range.is_some()
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        let deadline = match &self.sync {
            Sync::Idle => None,
            Sync::Range { deadline, .. } | Sync::Ids { deadline, .. } => Some(*deadline),
        };
        let portion = self.is_served().then_some(self.next_portion);
        match (deadline, portion) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Gossip {
    pub(super) fn peer_connected(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        features: &Features,
        out: &mut Vec<GossipOutput>,
    ) {
        // A new connection replaces the old one.
        self.peer_disconnected(now, &peer, out);
        let has_queries = features.supports(Feature::GossipQueries);
        let live = self.peers.values().filter(|peer| peer.is_live).count();
        let is_live = has_queries && live < self.config.sync_peers;
        // BOLT 7, gossip_timestamp_filter: nothing is relayed before one; and nothing is wanted from
        // who is not worth asking.
        let chain_hash = self.config.chain_hash;
        let filter = if is_live {
            live_filter(chain_hash, now, FILTER_BACK_SECS)
        } else {
            GossipTimestampFilter {
                chain_hash,
                first_timestamp: u32::MAX,
                timestamp_range: 0,
            }
        };
        self.peers.insert(
            peer,
            Peer {
                has_queries,
                has_extended: features.supports(Feature::GossipQueriesEx),
                is_live,
                filter: None,
                backlog: None,
                serving_ids: None,
                serving_range: None,
                next_portion: now,
                sync: Sync::Idle,
                pending_utxos: 0,
            },
        );
        out.push(GossipOutput::Send {
            peer,
            message: filter.into(),
        });
        if is_live {
            self.start_sync(now, peer, out);
        }
    }

    pub(super) fn peer_disconnected(
        &mut self,
        now: Timestamp,
        peer: &NodeId,
        out: &mut Vec<GossipOutput>,
    ) {
        let Some(gone) = self.peers.remove(peer) else {
            return;
        };
        for pending in self.pending.values_mut() {
            if pending.from == Some(*peer) {
                pending.from = None;
            }
        }
        if !gone.is_live {
            return;
        }
        // Another one takes its place.
        let next = self
            .peers
            .iter_mut()
            .find(|(_, peer)| peer.has_queries && !peer.is_live);
        if let Some((id, next)) = next {
            let id = *id;
            next.is_live = true;
            let filter = live_filter(self.config.chain_hash, now, FILTER_BACK_SECS);
            out.push(GossipOutput::Send {
                peer: id,
                message: filter.into(),
            });
            self.start_sync(now, id, out);
        }
    }
}

/// Asks for gossip from some time ago on, without end.
pub(super) fn live_filter(
    chain_hash: ChainHash,
    now: Timestamp,
    back_secs: u64,
) -> GossipTimestampFilter {
    let from = now.to_secs_floor().saturating_sub(back_secs);
    GossipTimestampFilter {
        chain_hash,
        first_timestamp: u32::try_from(from).unwrap_or(u32::MAX),
        timestamp_range: u32::MAX,
    }
}
