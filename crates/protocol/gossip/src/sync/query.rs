//! Asking peers for what we miss: which channels there are, then the channels themselves.

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use fulmen_types::{NodeId, ShortChannelId, Timestamp};
use fulmen_wire::{
    QueryChannelRange, QueryShortChannelIds, ReplyChannelRange, ReplyShortChannelIdsEnd,
};

use super::{
    Gossip, GossipOutput,
    peer::{Peer, Sync, SyncEnd, end_sync, release},
};
use crate::Direction;

/// How long a peer may take for the next part of an answer.
const ANSWER_MILLIS: u64 = 60_000;
/// How long it may take for the next channel of those that it was asked for. Some nodes never answer.
const CHANNEL_MILLIS: u64 = 10_000;
/// How long a query may take in all: who gives its channels one by one does not hold them up for long.
const QUERY_MILLIS: u64 = 60_000;
/// Channels of one query.
const QUERY_IDS: usize = 500;
/// Channels that one peer can make us ask for: far above all that there are.
const MAX_WANTED: usize = 1_000_000;
/// Parts of one answer.
const MAX_PARTS: u32 = 10_000;

/// Channels that are remembered until they are deep enough.
const MAX_EARLY: usize = 1_000;
const MAX_EARLY_OF_PEER: usize = 100;

const WANT_ALL: u64 = QueryShortChannelIds::WANT_ANNOUNCEMENT
    | QueryShortChannelIds::WANT_UPDATE_1
    | QueryShortChannelIds::WANT_UPDATE_2
    | QueryShortChannelIds::WANT_NODE_1
    | QueryShortChannelIds::WANT_NODE_2;

impl Gossip {
    /// Asks a peer which channels there are.
    pub(super) fn start_sync(&mut self, now: Timestamp, peer: NodeId, out: &mut Vec<GossipOutput>) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        if state.is_syncing() || !state.has_queries {
            return;
        }
        let query = QueryChannelRange {
            chain_hash: self.config.chain_hash,
            first_blocknum: 0,
            number_of_blocks: u32::MAX,
            query_option: state
                .has_extended
                .then_some(QueryChannelRange::WANT_TIMESTAMPS | QueryChannelRange::WANT_CHECKSUMS),
        };
        state.sync = Sync::Range {
            query: Box::new(query.clone()),
            wanted: VecDeque::new(),
            last_first: 0,
            parts: 0,
            deadline: now.plus_millis(ANSWER_MILLIS),
        };
        out.push(GossipOutput::Send {
            peer,
            message: query.into(),
        });
    }

    pub(super) fn reply_channel_range(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        reply: &ReplyChannelRange,
        out: &mut Vec<GossipOutput>,
    ) {
        if reply.chain_hash != self.config.chain_hash {
            return;
        }
        let missing = self.missing(now, reply);
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let Sync::Range {
            query,
            wanted,
            last_first,
            parts,
            deadline,
        } = &mut state.sync
        else {
            if !state.was_silent {
                out.push(GossipOutput::Misbehaved {
                    peer,
                    why: "reply_channel_range that nobody asked for",
                });
            }
            return;
        };
        // BOLT 7: first_blocknum never goes back.
        let why = if *parts > 0 && reply.first_blocknum < *last_first {
            Some("reply_channel_range goes back")
        } else if *parts >= MAX_PARTS || wanted.len() + missing.len() > MAX_WANTED {
            Some("reply_channel_range has no end")
        } else {
            None
        };
        if let Some(why) = why {
            let chain_hash = self.config.chain_hash;
            end_sync(chain_hash, peer, state, SyncEnd::Answered, out);
            out.push(GossipOutput::Misbehaved { peer, why });
            return;
        }
        *last_first = reply.first_blocknum;
        *parts += 1;
        *deadline = now.plus_millis(ANSWER_MILLIS);
        wanted.extend(missing);
        // BOLT 7: the answer is complete when it reaches the end of the range. `sync_complete` means
        // something else in older nodes.
        let end = reply.first_blocknum.saturating_add(reply.number_of_blocks);
        if end >= query.end_blocknum() {
            state.sync = ids(now, core::mem::take(wanted));
            self.drive_queries(now, out);
        }
    }

    pub(super) fn reply_short_channel_ids_end(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        reply: &ReplyShortChannelIdsEnd,
        out: &mut Vec<GossipOutput>,
    ) {
        if reply.chain_hash != self.config.chain_hash {
            return;
        }
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        match &mut state.sync {
            Sync::Ids {
                asked,
                deadline,
                query_deadline,
                ..
            } if !asked.is_empty() => {
                release(&mut self.asked, &peer, asked);
                asked.clear();
                *deadline = now.plus_millis(ANSWER_MILLIS);
                *query_deadline = *deadline;
            }
            Sync::Idle | Sync::Range { .. } | Sync::Ids { .. } => {
                if !state.was_silent {
                    out.push(GossipOutput::Misbehaved {
                        peer,
                        why: "reply_short_channel_ids_end that nobody asked for",
                    });
                }
                return;
            }
        }
        self.drive_queries(now, out);
    }

    /// A channel came from a peer: if we asked for some, it is at work.
    pub(super) fn note_progress(&mut self, now: Timestamp, peer: &NodeId) {
        if let Some(state) = self.peers.get_mut(peer)
            && let Sync::Ids {
                asked, deadline, ..
            } = &mut state.sync
            && !asked.is_empty()
        {
            *deadline = now.plus_millis(CHANNEL_MILLIS);
        }
    }

    /// Sends the next query wherever one may be sent, and gives up on peers that don't answer.
    pub(super) fn drive_queries(&mut self, now: Timestamp, out: &mut Vec<GossipOutput>) {
        // No more than what may be pending: what comes beyond that would be dropped.
        let mut room = self
            .config
            .max_pending_utxos
            .saturating_sub(self.pending.len());
        let chain_hash = self.config.chain_hash;
        for (id, peer) in &mut self.peers {
            let late = match &peer.sync {
                Sync::Idle => false,
                Sync::Range { deadline, .. } => *deadline <= now,
                Sync::Ids {
                    deadline,
                    query_deadline,
                    asked,
                    ..
                } => !asked.is_empty() && *deadline.min(query_deadline) <= now,
            };
            if late {
                if let Sync::Ids { asked, .. } = &peer.sync {
                    release(&mut self.asked, id, asked);
                }
                end_sync(chain_hash, *id, peer, SyncEnd::Silent, out);
                continue;
            }
            let own_room = (self.config.max_pending_utxos / 2)
                .max(1)
                .saturating_sub(peer.pending_utxos);
            let Sync::Ids {
                wanted,
                asked,
                deadline,
                query_deadline,
            } = &mut peer.sync
            else {
                continue;
            };
            if !asked.is_empty() {
                continue;
            }
            let mut ids = BTreeSet::new();
            let mut elsewhere = Vec::new();
            let limit = QUERY_IDS.min(room).min(own_room);
            while ids.len() < limit {
                let Some((scid, flags)) = wanted.pop_front() else {
                    break;
                };
                let is_new = flags & QueryShortChannelIds::WANT_ANNOUNCEMENT != 0;
                let is_known = self.messages.has_announcement(scid)
                    || self.pending.contains_key(&scid)
                    || self.refused.contains(&scid);
                if self.asked.contains_key(&scid) {
                    // Another peer is asked for it. Updates will come from there, or later; what is not
                    // known at all is asked for here if it does not.
                    if is_new {
                        elsewhere.push((scid, flags));
                    }
                } else if !(is_new && is_known) {
                    ids.insert((scid, flags));
                }
            }
            wanted.extend(elsewhere);
            if ids.is_empty() && !wanted.is_empty() {
                // For the chain's answers or another peer's: each drives the queries on.
                *deadline = now.plus_millis(CHANNEL_MILLIS);
                *query_deadline = *deadline;
                continue;
            }
            if ids.is_empty() {
                end_sync(chain_hash, *id, peer, SyncEnd::Answered, out);
                continue;
            }
            room -= ids.len();
            *deadline = now.plus_millis(CHANNEL_MILLIS);
            *query_deadline = now.plus_millis(QUERY_MILLIS);
            let (encoded_short_ids, flags): (Vec<ShortChannelId>, Vec<u64>) =
                ids.into_iter().unzip();
            asked.clone_from(&encoded_short_ids);
            for scid in &encoded_short_ids {
                self.asked.insert(*scid, *id);
            }
            out.push(GossipOutput::Send {
                peer: *id,
                message: QueryShortChannelIds {
                    chain_hash: self.config.chain_hash,
                    encoded_short_ids,
                    query_flags: peer.has_extended.then_some(flags),
                }
                .into(),
            });
        }
    }

    /// Notes a channel that is announced before it is deep enough: it is asked for once it is.
    pub(super) fn note_early(&mut self, peer: NodeId, scid: ShortChannelId) {
        let of_peer = self.early.values().filter(|from| **from == peer).count();
        if self.early.len() < MAX_EARLY && of_peer < MAX_EARLY_OF_PEER {
            self.early.insert(scid, peer);
        }
    }

    /// Asks for channels that have become deep enough.
    pub(super) fn ask_early(&mut self, now: Timestamp, out: &mut Vec<GossipOutput>) {
        while let Some((scid, from)) = self.early.first_key_value() {
            let (scid, from) = (*scid, *from);
            if self.is_early(scid) {
                break;
            }
            self.early.remove(&scid);
            let asks = |peer: &Peer| peer.has_queries;
            let peer = match self.peers.get_mut(&from).filter(|peer| asks(peer)) {
                Some(peer) => peer,
                // The resynchronisation would find it, too.
                None => match self.peers.values_mut().find(|p| asks(p) && p.is_live) {
                    Some(peer) => peer,
                    None => continue,
                },
            };
            match &mut peer.sync {
                Sync::Idle => peer.sync = ids(now, VecDeque::from([(scid, WANT_ALL)])),
                Sync::Range { wanted, .. } | Sync::Ids { wanted, .. } => {
                    wanted.push_back((scid, WANT_ALL));
                }
            }
        }
        self.drive_queries(now, out);
    }

    /// What a part of a range shows that we don't have.
    fn missing(&self, now: Timestamp, reply: &ReplyChannelRange) -> Vec<(ShortChannelId, u64)> {
        let stale = now.to_secs_floor().saturating_sub(super::STALE_SECS);
        let times = reply.timestamps_tlv.as_deref().unwrap_or(&[]);
        let sums = reply.checksums_tlv.as_deref().unwrap_or(&[]);
        let mut missing = Vec::new();
        for (index, scid) in reply.encoded_short_ids.iter().enumerate() {
            let times = times.get(index);
            if !self.is_announced(*scid) {
                // Both ends must be alive, as when channels are forgotten; one may not have spoken yet.
                let is_old = |time: &u32| *time != 0 && u64::from(*time) < stale;
                let is_stale = times.is_some_and(|(a, b)| is_old(a) || is_old(b));
                let known = self.pending.contains_key(scid) || self.refused.contains(scid);
                if !is_stale && !known {
                    missing.push((*scid, WANT_ALL));
                }
                continue;
            }
            // Without timestamps nothing says that theirs is newer: live gossip will bring it.
            let Some((time_1, time_2)) = times else {
                continue;
            };
            let mut flags = 0;
            let ends = [
                (
                    Direction::Forward,
                    *time_1,
                    QueryShortChannelIds::WANT_UPDATE_1,
                ),
                (
                    Direction::Backward,
                    *time_2,
                    QueryShortChannelIds::WANT_UPDATE_2,
                ),
            ];
            for (direction, time, flag) in ends {
                let ours = self.messages.update_time(*scid, direction);
                let theirs = sums.get(index).map_or(0, |(a, b)| match direction {
                    Direction::Forward => *a,
                    Direction::Backward => *b,
                });
                // The same content again is worth nothing before ours gets stale.
                let same = theirs != 0
                    && theirs == self.messages.update_checksum(*scid, direction)
                    && u64::from(ours) > stale.saturating_add(super::STALE_SECS / 2);
                if time > ours && u64::from(time) >= stale && !same {
                    flags |= flag;
                }
            }
            if flags != 0 {
                missing.push((*scid, flags));
            }
        }
        missing
    }
}

/// The beginning of asking for channels.
fn ids(now: Timestamp, wanted: VecDeque<(ShortChannelId, u64)>) -> Sync {
    let deadline = now.plus_millis(ANSWER_MILLIS);
    Sync::Ids {
        wanted,
        asked: Vec::new(),
        deadline,
        query_deadline: deadline,
    }
}
