//! Announcements that peers pass on: verified, asked for in the chain, applied.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::Amount;
use fulmen_types::{BlockHeight, NodeId, ShortChannelId, Timestamp, codec::Encode};
use fulmen_wire::{ChannelAnnouncement, ChannelUpdate, Message, NodeAnnouncement};

use super::{
    FUTURE_SECS, Gossip, GossipOutput, MAX_REFUSED, RECHECK_MILLIS, RECHECK_PORTION,
    RECHECK_WATCHED_MILLIS, STALE_SECS, UtxoAnswer, UtxoCheck,
};
use crate::{
    CheckedGossip, Direction, GraphError, NewChannel, NewNodeDetails, Policy, UncheckedGossip,
    funding_script, messages::MessageKey, verify::Proof, verify_channel_announcement,
    verify_node_announcement,
};

/// Updates of one direction that are taken within an hour.
const UPDATES_PER_HOUR: u32 = 60;
/// Announcements of one node that are taken within an hour.
const ANNOUNCEMENTS_PER_HOUR: u32 = 20;
/// From how many confirmations on a channel may be announced (BOLT 7).
const DEPTH: u32 = 6;
/// How many blocks our tip may lag behind.
const TIP_LAG: u32 = 2;

/// An announcement whose output is being asked for, and what came for it meanwhile.
#[derive(Clone)]
pub(super) struct PendingChannel {
    announcement: Box<ChannelAnnouncement>,
    updates: [Option<Box<ChannelUpdate>>; 2],
    /// Who announced it, while connected.
    pub(super) from: Option<NodeId>,
}

impl Gossip {
    pub(super) fn message(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        message: Message,
        out: &mut Vec<GossipOutput>,
    ) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        match message {
            Message::ChannelAnnouncement(m) => {
                self.channel_announcement(now, peer, m, Proof::Unchecked, out);
            }
            Message::ChannelUpdate(m) => {
                self.channel_update(now, peer, m, Proof::Unchecked, out);
            }
            Message::NodeAnnouncement(m) => {
                self.node_announcement(now, peer, m, Proof::Unchecked, out);
            }
            Message::QueryShortChannelIds(m) => self.query_short_channel_ids(now, peer, &m, out),
            Message::QueryChannelRange(m) => self.query_channel_range(now, peer, m, out),
            Message::ReplyChannelRange(m) => self.reply_channel_range(now, peer, &m, out),
            Message::ReplyShortChannelIdsEnd(m) => {
                self.reply_short_channel_ids_end(now, peer, &m, out);
            }
            Message::GossipTimestampFilter(m) => self.timestamp_filter(now, peer, &m, out),
            _ => {}
        }
    }

    /// The same for a message whose signatures are checked.
    pub(super) fn checked(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        checked: CheckedGossip,
        out: &mut Vec<GossipOutput>,
    ) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        let CheckedGossip { message, verdict } = checked;
        match message {
            UncheckedGossip::ChannelAnnouncement(m) => {
                let proof = Proof::Checked(None, verdict);
                self.channel_announcement(now, peer, *m, proof, out);
            }
            UncheckedGossip::ChannelUpdate { update, signer } => {
                let proof = Proof::Checked(Some(signer), verdict);
                self.channel_update(now, peer, *update, proof, out);
            }
            UncheckedGossip::NodeAnnouncement(m) => {
                let proof = Proof::Checked(None, verdict);
                self.node_announcement(now, peer, *m, proof, out);
            }
        }
    }

    fn channel_announcement(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        announcement: ChannelAnnouncement,
        proof: Proof,
        out: &mut Vec<GossipOutput>,
    ) {
        self.note_progress(now, &peer);
        let scid = announcement.short_channel_id;
        if !self.is_wanted(announcement.chain_hash, scid) {
            return;
        }
        if self.is_early(scid) {
            self.note_early(peer, scid);
            return;
        }
        let verdict = proof.or_check(|| verify_channel_announcement(&self.secp, &announcement));
        if let Err(error) = verdict {
            let why = match error {
                crate::VerifyError::NodesNotOrdered => {
                    "channel_announcement: node ids out of order"
                }
                crate::VerifyError::InvalidKey => "channel_announcement: invalid key",
                crate::VerifyError::InvalidSignature => "channel_announcement: invalid signature",
            };
            out.push(GossipOutput::Misbehaved { peer, why });
            return;
        }
        match self.config.utxo_check {
            UtxoCheck::Trust => {
                self.accept_channel(now, &announcement, None, Some(peer));
            }
            UtxoCheck::Ask => self.ask_utxo(now, peer, announcement, out),
        }
    }

    /// BOLT 7, channel_announcement: with less than 6 confirmations it should be ignored, but for those that
    /// are close, should our tip lag behind.
    pub(super) fn is_early(&self, scid: ShortChannelId) -> bool {
        let tip = self.tip.to_u32();
        tip > 0 && scid.block().saturating_add(DEPTH - 1) > tip.saturating_add(TIP_LAG)
    }

    fn ask_utxo(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        announcement: ChannelAnnouncement,
        out: &mut Vec<GossipOutput>,
    ) {
        let limit = self.config.max_pending_utxos;
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        // One peer can't fill the set alone. What is dropped here comes again with the next query.
        if self.pending.len() >= limit || state.pending_utxos >= (limit / 2).max(1) {
            self.resync_soon(now);
            return;
        }
        state.pending_utxos += 1;
        for node in [announcement.node_id_1, announcement.node_id_2] {
            self.pending_nodes.entry(node).or_insert((0, None)).0 += 1;
        }
        let scid = announcement.short_channel_id;
        self.pending.insert(
            scid,
            PendingChannel {
                announcement: Box::new(announcement),
                updates: [None, None],
                from: Some(peer),
            },
        );
        out.push(GossipOutput::AskUtxo(scid));
    }

    pub(super) fn utxo_answered(
        &mut self,
        now: Timestamp,
        scid: ShortChannelId,
        answer: UtxoAnswer,
        out: &mut Vec<GossipOutput>,
    ) {
        let Some(pending) = self.pending.remove(&scid) else {
            if self.rechecking.remove(&scid) {
                self.rechecked(scid, answer, out);
            }
            return;
        };
        if let Some(state) = pending.from.and_then(|peer| self.peers.get_mut(&peer)) {
            state.pending_utxos = state.pending_utxos.saturating_sub(1);
        }
        let announcement = &pending.announcement;
        let mut nodes = Vec::new();
        for node in [announcement.node_id_1, announcement.node_id_2] {
            if let Some(entry) = self.pending_nodes.get_mut(&node) {
                entry.0 = entry.0.saturating_sub(1);
                if entry.0 == 0 {
                    nodes.extend(self.pending_nodes.remove(&node).and_then(|entry| entry.1));
                } else {
                    nodes.extend(entry.1.clone());
                }
            }
        }
        match answer {
            UtxoAnswer::Unspent { output, outpoint } => {
                // BOLT 7: the output must be the P2WSH of the two keys.
                let script_pubkey = funding_script(announcement);
                if output.script_pubkey != script_pubkey {
                    self.refuse(scid);
                    return;
                }
                self.accept_channel(now, announcement, Some(output.value), pending.from);
                self.messages.put_funding(scid, outpoint);
                out.push(GossipOutput::WatchFunding {
                    short_channel_id: scid,
                    outpoint,
                    script_pubkey,
                });
                for update in pending.updates.into_iter().flatten() {
                    self.apply_update(now, &update, pending.from);
                }
                for node in nodes {
                    self.apply_node(now, &node, pending.from);
                }
            }
            UtxoAnswer::SpentOrUnknown => self.refuse(scid),
            UtxoAnswer::Unavailable => self.resync_soon(now),
        }
        self.drive_queries(now, out);
    }

    /// Watches the outputs of the cache that are known: before the first block that the last run did not see.
    pub(super) fn watch_cached(&mut self, out: &mut Vec<GossipOutput>) {
        for scid in core::mem::take(&mut self.to_watch) {
            let announcement = self.messages.message(&MessageKey::Announcement(scid));
            if let (Some(outpoint), Some(Message::ChannelAnnouncement(announcement))) =
                (self.messages.funding(scid), announcement)
            {
                out.push(GossipOutput::WatchFunding {
                    short_channel_id: scid,
                    outpoint,
                    script_pubkey: funding_script(&announcement),
                });
            }
        }
    }

    /// Asks the chain about some more channels from the cache.
    pub(super) fn recheck_cached(&mut self, now: Timestamp, out: &mut Vec<GossipOutput>) {
        if now < self.next_recheck || self.recheck.is_empty() {
            return;
        }
        // Those that are watched already may only have been spent between the last writing of the cache and
        // the end of the last run: there is time for them.
        let is_watched = |scid: &ShortChannelId| self.messages.funding(*scid).is_some();
        let (portion, millis) = if self.recheck.front().is_some_and(is_watched) {
            (1, RECHECK_WATCHED_MILLIS)
        } else {
            (RECHECK_PORTION, RECHECK_MILLIS)
        };
        self.next_recheck = now.plus_millis(millis);
        // Without a tip nobody could say since when a spent one is spent.
        if self.tip == BlockHeight::new(0) {
            return;
        }
        for _ in 0..portion.min(self.recheck.len()) {
            let Some(scid) = self.recheck.pop_front() else {
                return;
            };
            if self.graph.has_channel(scid) && self.rechecking.insert(scid) {
                out.push(GossipOutput::AskUtxo(scid));
            }
        }
    }

    fn rechecked(&mut self, scid: ShortChannelId, answer: UtxoAnswer, out: &mut Vec<GossipOutput>) {
        if !self.is_announced(scid) && !self.is_plausible(scid, &answer) {
            self.forget_channel(scid);
            self.changed = true;
            return;
        }
        match answer {
            UtxoAnswer::Unspent { output, outpoint } => {
                if self.messages.funding(scid) != Some(outpoint) {
                    self.messages.put_funding(scid, outpoint);
                    out.push(GossipOutput::WatchFunding {
                        short_channel_id: scid,
                        outpoint,
                        script_pubkey: output.script_pubkey,
                    });
                }
            }
            // Spent while we were away, nobody knows when: the 72 blocks begin now.
            UtxoAnswer::SpentOrUnknown => {
                let is_noted = self
                    .graph
                    .channel(scid)
                    .is_none_or(|channel| channel.spent_at.is_some());
                if !is_noted {
                    let _ = self.graph.set_spent(scid, Some(self.tip.to_u32().max(1)));
                }
            }
            UtxoAnswer::Unavailable => self.recheck.push_back(scid),
        }
    }

    /// Whether the chain's answer lets a channel be real that only a snapshot tells of. Its funding keys are
    /// not told: any output that could be one of two keys will do. Its value is the capacity.
    fn is_plausible(&mut self, scid: ShortChannelId, answer: &UtxoAnswer) -> bool {
        match answer {
            UtxoAnswer::Unspent { output, .. } => {
                let script = &output.script_pubkey;
                // Unknown channels have nothing to note.
                let _ = self.graph.set_capacity(scid, output.value);
                script.is_p2wsh() || script.is_p2tr()
            }
            UtxoAnswer::SpentOrUnknown => false,
            UtxoAnswer::Unavailable => true,
        }
    }

    fn refuse(&mut self, scid: ShortChannelId) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        self.refused.insert(scid);
    }

    /// Adds a channel that is known to be real.
    pub(super) fn accept_channel(
        &mut self,
        now: Timestamp,
        announcement: &ChannelAnnouncement,
        capacity: Option<Amount>,
        from: Option<NodeId>,
    ) {
        let scid = announcement.short_channel_id;
        let new = NewChannel {
            short_channel_id: scid,
            node_1: announcement.node_id_1,
            node_2: announcement.node_id_2,
            capacity,
            features: announcement.features.clone(),
        };
        // A snapshot may have told of it.
        let added = match self.graph.add_channel(&new) {
            Err(GraphError::KnownChannel) if !self.is_announced(scid) => {
                self.graph.confirm_channel(&new)
            }
            added => added,
        };
        if added.is_err() {
            return;
        }
        self.changed = true;
        let message = Message::ChannelAnnouncement(announcement.clone());
        self.messages.put_announcement(scid, message.encode());
        self.queue(now, MessageKey::Announcement(scid), from);
    }

    fn channel_update(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        update: ChannelUpdate,
        proof: Proof,
        out: &mut Vec<GossipOutput>,
    ) {
        if update.chain_hash != self.config.chain_hash {
            return;
        }
        self.peer_policy(peer, &update, proof, out);
        if update.dont_forward() || !is_timely(now, update.timestamp) {
            return;
        }
        let direction = Direction::from_channel_flags(update.channel_flags);
        let scid = update.short_channel_id;
        let Some(node) = self.update_signer(scid, direction, update.timestamp) else {
            return;
        };
        if node == self.config.our_node_id {
            return;
        }
        if proof.of_signer(&self.secp, &update, &node).is_err() {
            out.push(GossipOutput::Misbehaved {
                peer,
                why: "channel_update: invalid signature",
            });
            return;
        }
        // Counted after the signature check, so that a forger can't silence the owner.
        let recent = self.recent_updates.entry((scid, direction)).or_insert(0);
        *recent += 1;
        if *recent > UPDATES_PER_HOUR {
            return;
        }
        if let Some(pending) = self.pending.get_mut(&scid) {
            pending.updates[direction.to_usize()] = Some(Box::new(update));
        } else {
            self.apply_update(now, &update, Some(peer));
        }
    }

    /// BOLT 7, channel_update: updates for our own channels are accepted even if they are not public. The
    /// peer may name the channel by any alias that it got from us, so what is not public is tried too.
    fn peer_policy(
        &self,
        peer: NodeId,
        update: &ChannelUpdate,
        proof: Proof,
        out: &mut Vec<GossipOutput>,
    ) {
        let scid = update.short_channel_id;
        let is_public = self.graph.has_channel(scid) || self.pending.contains_key(&scid);
        let is_ours = self.is_own_channel_of(&peer, scid);
        if !is_ours && (is_public || !self.has_own_channel_with(&peer)) {
            return;
        }
        if proof.of_signer(&self.secp, update, &peer).is_ok() {
            out.push(GossipOutput::PeerPolicy(Box::new(update.clone())));
        } else if is_ours && !is_public {
            out.push(GossipOutput::Misbehaved {
                peer,
                why: "channel_update: invalid signature",
            });
        }
    }

    /// Who must have signed an update, if it is of a known channel and newer than what is known.
    pub(super) fn update_signer(
        &self,
        scid: ShortChannelId,
        direction: Direction,
        timestamp: u32,
    ) -> Option<NodeId> {
        if let Some(pending) = self.pending.get(&scid) {
            let known = pending.updates[direction.to_usize()].as_ref();
            if known.is_some_and(|known| known.timestamp >= timestamp) {
                return None;
            }
            return Some(match direction {
                Direction::Forward => pending.announcement.node_id_1,
                Direction::Backward => pending.announcement.node_id_2,
            });
        }
        let channel = self.graph.channel(scid)?;
        if self.known_update_time(scid, direction) >= timestamp {
            return None;
        }
        Some(match direction {
            Direction::Forward => channel.node_1,
            Direction::Backward => channel.node_2,
        })
    }

    /// Applies an update whose signature is good.
    pub(super) fn apply_update(
        &mut self,
        now: Timestamp,
        update: &ChannelUpdate,
        from: Option<NodeId>,
    ) {
        let scid = update.short_channel_id;
        let Some(channel) = self.graph.channel(scid) else {
            return;
        };
        // BOLT 7, channel_update: of a spent channel, only what disables it.
        if channel.spent_at.is_some() && !update.is_disabled() {
            return;
        }
        let direction = Direction::from_channel_flags(update.channel_flags);
        let policy = Policy {
            htlc_minimum: update.htlc_minimum_msat,
            htlc_maximum: update.htlc_maximum_msat,
            timestamp: update.timestamp,
            fee_base_msat: update.fee_base_msat,
            fee_proportional_millionths: update.fee_proportional_millionths,
            cltv_expiry_delta: update.cltv_expiry_delta,
            disabled: update.is_disabled(),
        };
        if self.known_update_time(scid, direction) < update.timestamp
            && self.graph.set_policy(scid, direction, policy).is_ok()
        {
            self.changed = true;
            let message = Message::ChannelUpdate(update.clone());
            self.messages.put_update(scid, direction, message.encode());
            self.queue(now, MessageKey::Update(scid, direction), from);
        }
    }

    fn node_announcement(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        announcement: NodeAnnouncement,
        proof: Proof,
        out: &mut Vec<GossipOutput>,
    ) {
        if !self.is_wanted_node(now, &announcement) {
            return;
        }
        let id = announcement.node_id;
        let verdict = proof.or_check(|| verify_node_announcement(&self.secp, &announcement));
        if verdict.is_err() {
            out.push(GossipOutput::Misbehaved {
                peer,
                why: "node_announcement: invalid signature",
            });
            return;
        }
        let recent = self.recent_announcements.entry(id).or_insert(0);
        *recent += 1;
        if *recent > ANNOUNCEMENTS_PER_HOUR {
            return;
        }
        if self.graph.has_node(&id) {
            self.apply_node(now, &announcement, Some(peer));
        } else if let Some((_, held)) = self.pending_nodes.get_mut(&id) {
            *held = Some(Box::new(announcement));
        }
    }

    /// Whether an announcement is of a node with a channel, newer than what is known of it, and not of a
    /// far future.
    pub(super) fn is_wanted_node(&self, now: Timestamp, announcement: &NodeAnnouncement) -> bool {
        let id = announcement.node_id;
        let held = self.pending_nodes.get(&id);
        let known = self
            .signed_node_time(&id)
            .into_iter()
            .chain(held.and_then(|(_, held)| held.as_ref().map(|held| held.timestamp)))
            .max();
        // BOLT 7, node_announcement: of unknown nodes and not newer: ignore.
        (held.is_some() || self.graph.has_node(&id))
            && u64::from(announcement.timestamp) <= now.to_secs_floor().saturating_add(FUTURE_SECS)
            && known.is_none_or(|known| known < announcement.timestamp)
            && id != self.config.our_node_id
    }

    /// Applies a node's announcement whose signature is good.
    pub(super) fn apply_node(
        &mut self,
        now: Timestamp,
        announcement: &NodeAnnouncement,
        from: Option<NodeId>,
    ) {
        let id = announcement.node_id;
        let mut addresses = Vec::new();
        for address in &announcement.addresses {
            address.encode(&mut addresses);
        }
        let color = announcement.rgb_color;
        if self.messages.node_time(&id) >= announcement.timestamp {
            return;
        }
        let applied = self.graph.set_node(
            &id,
            &NewNodeDetails {
                timestamp: announcement.timestamp,
                features: &announcement.features,
                rgb_color: [color.red, color.green, color.blue],
                alias: *announcement.alias.as_bytes(),
                addresses: &addresses,
            },
        );
        if applied.is_err() {
            return;
        }
        self.changed = true;
        let message = Message::NodeAnnouncement(announcement.clone());
        self.messages.put_node(id, message.encode());
        self.queue(now, MessageKey::Node(id), from);
    }
}

/// Neither stale nor of the future.
pub(super) fn is_timely(now: Timestamp, timestamp: u32) -> bool {
    let now = now.to_secs_floor();
    let timestamp = u64::from(timestamp);
    timestamp > 0
        && timestamp.saturating_add(STALE_SECS) >= now
        && timestamp <= now.saturating_add(FUTURE_SECS)
}
