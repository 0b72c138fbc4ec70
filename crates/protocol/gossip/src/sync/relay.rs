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
    peer::{Backlog, Filter, Peer, ServingIds, ServingRange},
};
use crate::{Direction, messages::MessageKey};

/// Channels or nodes of one portion, and the time between two: what a peer can make us send is bounded
/// however often it asks. With many peers that ask the time gets longer, so that all together are bounded.
const PORTION: usize = 100;
const PORTION_MILLIS: u64 = 25;
/// So many times longer at the most.
const MAX_SHARE: u64 = 40;
/// Messages of the broadcast that are looked at for one portion.
const BROADCAST_PORTION: usize = 400;
/// Messages of the broadcast that wait for slow peers.
const MAX_BROADCAST: usize = 150_000;
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

    /// The staggered broadcast (BOLT 7, Rebroadcasting): what is ours to all at once, the rest in portions
    /// to who asked for it.
    pub(super) fn flush(&mut self, out: &mut Vec<GossipOutput>) {
        // BOLT 7: an announcement without any update MUST NOT be sent; it waits for the first.
        let (waiting, outgoing): (BTreeMap<_, _>, BTreeMap<_, _>) =
            core::mem::take(&mut self.outgoing).into_iter().partition(
                |(key, _)| matches!(key, MessageKey::Announcement(scid) if !self.has_update(*scid)),
            );
        for (key, from) in outgoing {
            if !self.origin(&key).0 {
                self.broadcast.push_back((key, from));
                continue;
            }
            let Some(message) = self.messages.message(&key) else {
                continue;
            };
            // BOLT 7: what we made ourselves is sent in any case.
            for id in self.peers.keys().filter(|id| Some(**id) != from) {
                out.push(GossipOutput::Send {
                    peer: *id,
                    message: message.clone(),
                });
            }
        }
        // One that never gets an update is forgotten with its channel.
        self.outgoing = waiting
            .into_iter()
            .filter(|(key, _)| self.messages.bytes(key).is_some())
            .collect();
        self.trim_broadcast();
    }

    /// Up to where the broadcast goes.
    pub(super) fn broadcast_end(&self) -> u64 {
        self.broadcast_start
            .saturating_add(self.broadcast.len() as u64)
    }

    /// Forgets what every peer has got, and the oldest of what is too much.
    fn trim_broadcast(&mut self) {
        let end = self.broadcast_end();
        let waits = |peer: &&Peer| peer.filter.is_some();
        let reached = self.peers.values().filter(waits);
        let reached = reached.map(|peer| peer.broadcast_at).min().unwrap_or(end);
        while self.broadcast_start < reached || self.broadcast.len() > MAX_BROADCAST {
            if self.broadcast.pop_front().is_none() {
                break;
            }
            self.broadcast_start += 1;
        }
    }

    /// The next portion of the broadcast for a peer, as its filter says. Gives where it has got to.
    fn serve_broadcast(&self, id: NodeId, peer: &Peer, out: &mut Vec<GossipOutput>) -> u64 {
        let Some(filter) = peer.filter else {
            return self.broadcast_end();
        };
        let at = peer.broadcast_at.max(self.broadcast_start);
        let skip = usize::try_from(at - self.broadcast_start).unwrap_or(usize::MAX);
        let mut looked_at = 0;
        for (key, from) in self.broadcast.iter().skip(skip).take(BROADCAST_PORTION) {
            looked_at += 1;
            if Some(id) != *from && filter.takes(self.origin(key).1) {
                self.send_stored(id, key, out);
            }
        }
        at + looked_at
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
        let broadcast_end = self.broadcast_end();
        if let Some(state) = self.peers.get_mut(&peer) {
            if state.filter.is_none() {
                state.broadcast_at = broadcast_end;
            }
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
            .filter(|(_, peer)| peer.is_served(self.broadcast_end()))
            .map(|(id, _)| *id)
            .collect();
        for peer in served {
            self.serve(now, peer, out);
        }
        self.trim_broadcast();
    }

    /// A peer has so much to read that more would be too much, or has read it.
    pub(super) fn peer_busy(&mut self, peer: &NodeId, is_busy: bool) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.is_busy = is_busy;
        }
    }

    /// Sends a peer the next portion of all that it asked for, if it is time.
    fn serve(&mut self, now: Timestamp, id: NodeId, out: &mut Vec<GossipOutput>) {
        let end = self.broadcast_end();
        let served = self.peers.values().filter(|peer| peer.is_served(end));
        let share = (served.count() as u64).clamp(1, MAX_SHARE);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if now < peer.next_portion || !peer.is_served(end) {
            return;
        }
        peer.next_portion = now.plus_millis(PORTION_MILLIS * share);
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
        let broadcast_at = match self.peers.get(&id) {
            Some(peer) => self.serve_broadcast(id, peer, out),
            None => end,
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.serving_range = range;
            peer.serving_ids = ids;
            peer.backlog = backlog;
            peer.broadcast_at = broadcast_at;
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
