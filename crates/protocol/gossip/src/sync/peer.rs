//! What is kept of one connection, and its beginning and end.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use bitcoin::constants::ChainHash;
use fulmen_types::{Feature, Features, NodeId, ShortChannelId, Timestamp};
use fulmen_wire::{GossipTimestampFilter, QueryChannelRange};

use super::{Gossip, GossipOutput, NEVER, RESYNC_MIN_MILLIS};

/// Live gossip is asked for from this long ago on: what happened meanwhile comes by queries.
const FILTER_BACK_SECS: u64 = 3_600;

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Offers `gossip_queries`: worth asking.
    pub(super) has_queries: bool,
    /// Offers `gossip_queries_ex`.
    pub(super) has_extended: bool,
    /// It is one of those that we want live gossip from.
    pub(super) is_live: bool,
    /// Since when; live gossip is asked for from then on, once the first questions have ended.
    live_since: Timestamp,
    /// It was asked for live gossip.
    is_asked: bool,
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
    /// It left a question open for too long: what it answers later nobody waits for, and is no offence.
    pub(super) was_silent: bool,
    /// Of all pending outputs, those that it announced.
    pub(super) pending_utxos: usize,
    /// It reads more slowly than we send: it gets nothing that can wait.
    pub(super) is_busy: bool,
    /// Up to where it has got the broadcast.
    pub(super) broadcast_at: u64,
    /// How often it broke a rule.
    pub(super) offences: u32,
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

#[derive(Clone, Debug)]
pub(super) struct ServingIds {
    pub(super) left: VecDeque<(ShortChannelId, u64)>,
    pub(super) nodes_sent: BTreeSet<NodeId>,
}

#[derive(Clone, Debug)]
pub(super) struct ServingRange {
    pub(super) query: Box<QueryChannelRange>,
    /// The next channel to list.
    pub(super) from: ShortChannelId,
    /// The next part's `first_blocknum`.
    pub(super) first_block: u32,
}

/// Our questions to a peer.
#[derive(Clone, Debug)]
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
        /// What the open query asks for; empty without one.
        asked: Vec<ShortChannelId>,
        /// For the next channel.
        deadline: Timestamp,
        /// For all that the query asks for.
        query_deadline: Timestamp,
    },
}

impl Peer {
    pub(super) const fn is_syncing(&self) -> bool {
        !matches!(self.sync, Sync::Idle)
    }

    /// Whether it is to get something, up to this end of the broadcast.
    pub(super) const fn is_served(&self, broadcast_end: u64) -> bool {
        let waits = self.backlog.is_some()
            || self.serving_ids.is_some()
            || self.serving_range.is_some()
            || (self.filter.is_some() && self.broadcast_at < broadcast_end);
        waits && !self.is_busy
    }

    pub(super) fn next_wake(&self, broadcast_end: u64) -> Option<Timestamp> {
        let deadline = match &self.sync {
            Sync::Idle => None,
            Sync::Range { deadline, .. } => Some(*deadline),
            Sync::Ids {
                deadline,
                query_deadline,
                ..
            } => Some(*deadline.min(query_deadline)),
        };
        let portion = self.is_served(broadcast_end).then_some(self.next_portion);
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
        if self.next_resync == NEVER {
            self.next_resync = now.plus_millis(RESYNC_MIN_MILLIS);
        }
        let broadcast_at = self.broadcast_end();
        self.peers.insert(
            peer,
            Peer {
                has_queries,
                has_extended: features.supports(Feature::GossipQueriesEx),
                is_live,
                live_since: now,
                is_asked: false,
                filter: None,
                backlog: None,
                serving_ids: None,
                serving_range: None,
                next_portion: now,
                sync: Sync::Idle,
                pending_utxos: 0,
                was_silent: false,
                is_busy: false,
                broadcast_at,
                offences: 0,
            },
        );
        // BOLT 7, gossip_timestamp_filter: a peer with gossip_queries relays nothing before one. It is
        // sent when the questions have ended, because some nodes send all that they have on their
        // first filter, and never again.
        if is_live {
            self.start_sync(now, peer, out);
        } else if !has_queries {
            // Nothing is wanted from who is not worth asking.
            let filter = GossipTimestampFilter {
                chain_hash: self.config.chain_hash,
                first_timestamp: u32::MAX,
                timestamp_range: 0,
            };
            out.push(GossipOutput::Send {
                peer,
                message: filter.into(),
            });
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
        if let Sync::Ids { asked, .. } = &gone.sync {
            release(&mut self.asked, peer, asked);
        }
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
            next.live_since = now;
            self.start_sync(now, id, out);
        }
    }
}

/// Channels that were asked for may be asked for elsewhere.
pub(super) fn release(
    all: &mut BTreeMap<ShortChannelId, NodeId>,
    peer: &NodeId,
    asked: &[ShortChannelId],
) {
    for scid in asked {
        if all.get(scid) == Some(peer) {
            all.remove(scid);
        }
    }
}

/// How our questions to a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncEnd {
    /// They were answered, or the answer was senseless.
    Answered,
    /// It answers no queries: it may still send all for a filter that reaches back.
    Silent,
}

/// Ends the questions and asks for live gossip, if that is still to be done.
pub(super) fn end_sync(
    chain_hash: ChainHash,
    id: NodeId,
    peer: &mut Peer,
    end: SyncEnd,
    out: &mut Vec<GossipOutput>,
) {
    peer.sync = Sync::Idle;
    peer.was_silent |= end == SyncEnd::Silent;
    if !peer.is_live {
        return;
    }
    let back_secs = match end {
        SyncEnd::Silent => super::STALE_SECS,
        SyncEnd::Answered if peer.is_asked => return,
        SyncEnd::Answered => FILTER_BACK_SECS,
    };
    peer.is_asked = true;
    let from = peer.live_since.to_secs_floor().saturating_sub(back_secs);
    let filter = GossipTimestampFilter {
        chain_hash,
        first_timestamp: u32::try_from(from).unwrap_or(u32::MAX),
        timestamp_range: u32::MAX,
    };
    out.push(GossipOutput::Send {
        peer: id,
        message: filter.into(),
    });
}
