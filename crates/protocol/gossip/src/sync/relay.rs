//! Passing on: the staggered broadcast, and answers to what peers ask for, in portions.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use fulmen_types::{NodeId, ShortChannelId, Timestamp};
use fulmen_wire::{
    GossipTimestampFilter, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange,
    ReplyShortChannelIdsEnd,
};

use super::{
    Gossip, GossipOutput,
    peer::{Backlog, Filter, ServingIds, ServingRange},
};
use crate::{Direction, messages::MessageKey};

/// Channels or nodes of one portion, and the time between two: what a peer can make us send is bounded
/// however often it asks.
const PORTION: usize = 100;
const PORTION_MILLIS: u64 = 100;
/// Short ids of one `reply_channel_range`: with timestamps and checksums 24 bytes each.
const RANGE_PART: usize = 2_600;
const BOTH: [Direction; 2] = [Direction::Forward, Direction::Backward];

impl Gossip {
    /// Notes a message for the next broadcast; a later one of its kind takes its place.
    pub(super) fn queue(&mut self, now: Timestamp, key: MessageKey, from: Option<NodeId>) {
        if self.outgoing.is_empty() && self.next_flush < now {
            self.next_flush = now.plus_millis(self.config.flush_millis);
        }
        self.outgoing.insert(key, from);
    }

    /// The staggered broadcast (BOLT 7, Rebroadcasting).
    pub(super) fn flush(&mut self, _now: Timestamp, out: &mut Vec<GossipOutput>) {
        // BOLT 7: an announcement without any update MUST NOT be sent; it waits for the first.
        let (waiting, outgoing): (BTreeMap<_, _>, BTreeMap<_, _>) =
            core::mem::take(&mut self.outgoing).into_iter().partition(
                |(key, _)| matches!(key, MessageKey::Announcement(scid) if !self.has_update(*scid)),
            );
        for (key, from) in &outgoing {
            let Some(message) = self.messages.message(key) else {
                continue;
            };
            let (is_ours, timestamp) = self.origin(key);
            for (id, peer) in &self.peers {
                if Some(*id) == *from {
                    continue;
                }
                // BOLT 7: what we made ourselves is sent in any case, the rest as the filter says.
                let takes = peer.filter.as_ref().is_some_and(|f| f.takes(timestamp));
                if is_ours || takes {
                    out.push(GossipOutput::Send {
                        peer: *id,
                        message: message.clone(),
                    });
                }
            }
        }
        // One that never gets an update is forgotten with its channel.
        self.outgoing = waiting
            .into_iter()
            .filter(|(key, _)| self.messages.bytes(key).is_some())
            .collect();
    }

    /// The times of both ends' signed updates, 0 for none: what is not signed is not passed on.
    fn update_times(&self, scid: ShortChannelId) -> [u32; 2] {
        BOTH.map(|direction| self.messages.update_time(scid, direction))
    }

    /// Whether a message is ours, and its time.
    fn origin(&self, key: &MessageKey) -> (bool, u32) {
        let us = self.config.our_node_id;
        match key {
            MessageKey::Announcement(scid) => self.graph.channel(*scid).map_or((false, 0), |c| {
                let [a, b] = self.update_times(*scid);
                (c.node_1 == us || c.node_2 == us, a.max(b))
            }),
            MessageKey::Update(scid, direction) => {
                self.graph.channel(*scid).map_or((false, 0), |c| {
                    let node = match direction {
                        Direction::Forward => c.node_1,
                        Direction::Backward => c.node_2,
                    };
                    (node == us, self.messages.update_time(*scid, *direction))
                })
            }
            MessageKey::Node(id) => (*id == us, self.messages.node_time(id)),
        }
    }

    fn has_update(&self, scid: ShortChannelId) -> bool {
        self.update_times(scid) != [0, 0]
    }

    pub(super) fn timestamp_filter(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        message: &GossipTimestampFilter,
        out: &mut Vec<GossipOutput>,
    ) {
        if message.chain_hash != self.config.chain_hash {
            return;
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.filter = Some(Filter {
                first: message.first_timestamp,
                range: message.timestamp_range,
            });
            // Asking again begins again, at the same pace: there is one backlog per peer.
            state.backlog =
                (message.timestamp_range > 0).then_some(Backlog::Channels { after: None });
        }
        self.serve(now, peer, out);
    }

    pub(super) fn query_short_channel_ids(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        query: &QueryShortChannelIds,
        out: &mut Vec<GossipOutput>,
    ) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let why = if state.serving_ids.is_some() {
            Some("query_short_channel_ids before the last one was answered")
        } else if query.queries().is_none() {
            Some("query_short_channel_ids: not one flag per channel")
        } else {
            None
        };
        if let Some(why) = why {
            out.push(GossipOutput::Misbehaved { peer, why });
            return;
        }
        // A channel named twice is answered once.
        let wanted: BTreeMap<ShortChannelId, u64> = match query.queries() {
            Some(queries) if query.chain_hash == self.config.chain_hash => queries.collect(),
            _ => BTreeMap::new(),
        };
        state.serving_ids = Some(ServingIds {
            left: wanted.into_iter().collect(),
            nodes_sent: BTreeSet::new(),
        });
        self.serve(now, peer, out);
    }

    pub(super) fn query_channel_range(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        query: QueryChannelRange,
        out: &mut Vec<GossipOutput>,
    ) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        if state.serving_range.is_some() {
            out.push(GossipOutput::Misbehaved {
                peer,
                why: "query_channel_range before the last one was answered",
            });
            return;
        }
        if query.chain_hash != self.config.chain_hash {
            // BOLT 7: a reply is due all the same; we know nothing of that chain.
            out.push(GossipOutput::Send {
                peer,
                message: ReplyChannelRange {
                    chain_hash: query.chain_hash,
                    first_blocknum: query.first_blocknum,
                    number_of_blocks: query.number_of_blocks,
                    sync_complete: false,
                    encoded_short_ids: Vec::new(),
                    timestamps_tlv: None,
                    checksums_tlv: None,
                }
                .into(),
            });
            return;
        }
        state.serving_range = Some(ServingRange {
            from: block_start(query.first_blocknum),
            first_block: query.first_blocknum,
            query: Box::new(query),
        });
        self.serve(now, peer, out);
    }

    pub(super) fn serve_peers(&mut self, now: Timestamp, out: &mut Vec<GossipOutput>) {
        let served: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_served())
            .map(|(id, _)| *id)
            .collect();
        for peer in served {
            self.serve(now, peer, out);
        }
    }

    /// Sends a peer the next portion of all that it asked for, if it is time.
    fn serve(&mut self, now: Timestamp, id: NodeId, out: &mut Vec<GossipOutput>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if now < peer.next_portion || !peer.is_served() {
            return;
        }
        peer.next_portion = now.plus_millis(PORTION_MILLIS);
        let (range, ids, backlog, filter) = (
            peer.serving_range.take(),
            peer.serving_ids.take(),
            peer.backlog.take(),
            peer.filter,
        );
        let range = range.and_then(|range| self.serve_range(id, range, out));
        let ids = ids.and_then(|ids| self.serve_ids(id, ids, out));
        let backlog = match (backlog, filter) {
            (Some(backlog), Some(filter)) => self.serve_backlog(id, backlog, filter, out),
            _ => None,
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.serving_range = range;
            peer.serving_ids = ids;
            peer.backlog = backlog;
        }
    }

    fn send_stored(&self, peer: NodeId, key: &MessageKey, out: &mut Vec<GossipOutput>) {
        if let Some(message) = self.messages.message(key) {
            out.push(GossipOutput::Send { peer, message });
        }
    }

    fn serve_range(
        &self,
        peer: NodeId,
        serving: ServingRange,
        out: &mut Vec<GossipOutput>,
    ) -> Option<ServingRange> {
        let ServingRange {
            query,
            from,
            first_block,
        } = serving;
        let end = query.end_blocknum();
        let last = match end.checked_sub(1) {
            Some(block) => ShortChannelId::from_u64(block_start(block).to_u64() | 0xff_ffff_ffff),
            None => ShortChannelId::from_u64(0),
        };
        let mut ids: Vec<ShortChannelId> = if from > last || query.number_of_blocks == 0 {
            Vec::new()
        } else {
            self.graph
                .channels_between(from, last)
                .filter(|scid| self.messages.has_announcement(*scid))
                .take(RANGE_PART + 1)
                .collect()
        };
        let next = if ids.len() > RANGE_PART {
            ids.pop()
        } else {
            None
        };
        let options = query.query_option.unwrap_or(0);
        let timestamps_tlv = (options & QueryChannelRange::WANT_TIMESTAMPS != 0).then(|| {
            ids.iter()
                .map(|scid| self.update_times(*scid).into())
                .collect()
        });
        let checksums_tlv = (options & QueryChannelRange::WANT_CHECKSUMS != 0).then(|| {
            ids.iter()
                .map(|scid| {
                    let [a, b] = BOTH.map(|d| self.messages.update_checksum(*scid, d));
                    (a, b)
                })
                .collect()
        });
        // BOLT 7: parts follow each other; the last one reaches the end of what was asked for.
        let part_end = match next {
            Some(next) => next.block().max(first_block.saturating_add(1)),
            None => end.max(first_block.saturating_add(1)),
        };
        out.push(GossipOutput::Send {
            peer,
            message: ReplyChannelRange {
                chain_hash: query.chain_hash,
                first_blocknum: first_block,
                number_of_blocks: part_end.saturating_sub(first_block),
                sync_complete: next.is_none(),
                encoded_short_ids: ids,
                timestamps_tlv,
                checksums_tlv,
            }
            .into(),
        });
        next.map(|next| ServingRange {
            query,
            from: next,
            first_block: next.block(),
        })
    }

    fn serve_ids(
        &self,
        peer: NodeId,
        mut serving: ServingIds,
        out: &mut Vec<GossipOutput>,
    ) -> Option<ServingIds> {
        for _ in 0..PORTION {
            let Some((scid, flags)) = serving.left.pop_front() else {
                break;
            };
            let Some(channel) = self.graph.channel(scid) else {
                continue;
            };
            if flags & QueryShortChannelIds::WANT_ANNOUNCEMENT != 0 {
                self.send_stored(peer, &MessageKey::Announcement(scid), out);
            }
            let updates = [
                (QueryShortChannelIds::WANT_UPDATE_1, Direction::Forward),
                (QueryShortChannelIds::WANT_UPDATE_2, Direction::Backward),
            ];
            for (flag, direction) in updates {
                if flags & flag != 0 {
                    self.send_stored(peer, &MessageKey::Update(scid, direction), out);
                }
            }
            let nodes = [
                (QueryShortChannelIds::WANT_NODE_1, channel.node_1),
                (QueryShortChannelIds::WANT_NODE_2, channel.node_2),
            ];
            for (flag, node) in nodes {
                if flags & flag != 0 && serving.nodes_sent.insert(node) {
                    self.send_stored(peer, &MessageKey::Node(node), out);
                }
            }
        }
        if !serving.left.is_empty() {
            return Some(serving);
        }
        out.push(GossipOutput::Send {
            peer,
            message: ReplyShortChannelIdsEnd {
                chain_hash: self.config.chain_hash,
                full_information: true,
            }
            .into(),
        });
        None
    }

    fn serve_backlog(
        &self,
        peer: NodeId,
        backlog: Backlog,
        filter: Filter,
        out: &mut Vec<GossipOutput>,
    ) -> Option<Backlog> {
        match backlog {
            Backlog::Channels { after } => {
                let from = after.map_or(0, |scid| scid.to_u64().saturating_add(1));
                let ids: Vec<ShortChannelId> = self
                    .graph
                    .channels_between(
                        ShortChannelId::from_u64(from),
                        ShortChannelId::from_u64(u64::MAX),
                    )
                    .filter(|scid| self.messages.has_announcement(*scid))
                    .take(PORTION)
                    .collect();
                for scid in &ids {
                    self.send_channel(peer, *scid, filter, out);
                }
                Some(match ids.last() {
                    Some(last) => Backlog::Channels { after: Some(*last) },
                    None => Backlog::Nodes { after: None },
                })
            }
            Backlog::Nodes { after } => {
                let nodes: Vec<NodeId> = self.messages.nodes_after(after).take(PORTION).collect();
                for node in &nodes {
                    if filter.takes(self.messages.node_time(node)) {
                        self.send_stored(peer, &MessageKey::Node(*node), out);
                    }
                }
                nodes
                    .last()
                    .map(|last| Backlog::Nodes { after: Some(*last) })
            }
        }
    }

    /// A channel and its updates, as far as a filter takes them.
    fn send_channel(
        &self,
        peer: NodeId,
        scid: ShortChannelId,
        filter: Filter,
        out: &mut Vec<GossipOutput>,
    ) {
        let Some(channel) = self.graph.channel(scid) else {
            return;
        };
        // BOLT 7, gossip_timestamp_filter: spent channels are not announced any more.
        if channel.spent_at.is_some() {
            return;
        }
        let takes = |direction: Direction| {
            let time = self.messages.update_time(scid, direction);
            time > 0 && filter.takes(time)
        };
        if !BOTH.into_iter().any(takes) {
            return;
        }
        self.send_stored(peer, &MessageKey::Announcement(scid), out);
        for direction in BOTH {
            if takes(direction) {
                self.send_stored(peer, &MessageKey::Update(scid, direction), out);
            }
        }
    }
}

/// The least short id of a block; the greatest of all for blocks that don't fit one.
fn block_start(block: u32) -> ShortChannelId {
    ShortChannelId::from_parts(block, 0, 0).unwrap_or(ShortChannelId::from_u64(u64::MAX))
}
