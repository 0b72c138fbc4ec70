//! What we say ourselves: updates of our channels, and of us.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::{Amount, secp256k1::ecdsa::Signature};
use fulmen_types::{CltvExpiryDelta, Msat, NodeId, ShortChannelId, Timestamp};
use fulmen_wire::{ChannelAnnouncement, ChannelUpdate, Message, NodeAnnouncement};

use super::{Gossip, GossipOutput, REFRESH_SECS, Unsigned};
use crate::{Direction, verify::no_signature};

/// After how long a signer that was away is asked again.
const SIGN_AGAIN_MILLIS: u64 = 5_000;
/// No time at which anything is to be done.
pub(super) const NEVER: Timestamp = Timestamp::new(u64::MAX);

/// What we ask for forwarding over a channel of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPolicy {
    /// Fee for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// Fee in millionths of the forwarded amount.
    pub fee_proportional_millionths: u32,
    /// What is taken off the expiry.
    pub cltv_expiry_delta: CltvExpiryDelta,
    /// The least that the peer accepts.
    pub htlc_minimum: Msat,
    /// The most that we send in one HTLC: not above the capacity, nor the peer's
    /// `max_htlc_value_in_flight_msat`.
    pub htlc_maximum: Msat,
}

/// A channel of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnChannel {
    /// Names the channel in all inputs: its real short id when it has one, else an alias of ours.
    pub id: ShortChannelId,
    /// The short id that the peer knows: its alias for the channel, or the real one. In updates that are
    /// for the peer alone.
    pub id_for_peer: ShortChannelId,
    /// The other end.
    pub peer: NodeId,
    /// The funding output's value.
    pub capacity: Amount,
    /// What we ask for.
    pub policy: OwnPolicy,
}

/// What the machine keeps of a channel of ours.
#[derive(Clone)]
pub(super) struct OwnState {
    channel: OwnChannel,
    /// Since when the peer is away.
    away_since: Option<Timestamp>,
    /// The latest that is signed.
    pub(super) last: Option<Box<ChannelUpdate>>,
    /// The timestamp of what is being signed.
    asked: Option<u32>,
    /// It only waits for its last update, which disables it.
    is_closed: bool,
}

impl OwnState {
    /// How the peer names the channel.
    pub(super) const fn id_for_peer(&self) -> ShortChannelId {
        self.channel.id_for_peer
    }
}

/// What the machine keeps of our own announcement.
#[derive(Clone, Default)]
pub(super) struct OwnNode {
    last: Option<Box<NodeAnnouncement>>,
    asked: Option<u32>,
}

impl Gossip {
    pub(super) fn own_channel(
        &mut self,
        now: Timestamp,
        channel: OwnChannel,
        out: &mut Vec<GossipOutput>,
    ) {
        let id = channel.id;
        match self.own.get_mut(&id) {
            Some(state) => {
                state.channel = channel;
                // A reorganisation may take a channel out of its place, and put it back there.
                state.is_closed = false;
            }
            None => {
                self.own.insert(
                    id,
                    OwnState {
                        channel,
                        away_since: Some(now),
                        last: None,
                        asked: None,
                        is_closed: false,
                    },
                );
            }
        }
        self.refresh_own_channel(now, id, out);
    }

    pub(super) fn own_channel_up(
        &mut self,
        now: Timestamp,
        id: ShortChannelId,
        out: &mut Vec<GossipOutput>,
    ) {
        let Some(state) = self.own.get_mut(&id) else {
            return;
        };
        let was_away = state.away_since.take().is_some();
        let peer = state.channel.peer;
        let last = state.last.clone();
        self.refresh_own_channel(now, id, out);
        let is_asked = self.own.get(&id).is_some_and(|state| state.asked.is_some());
        // BOLT 7: the peer is told the parameters of a channel that is not announced.
        if let (Some(last), true, false) = (last, was_away, is_asked)
            && last.dont_forward()
        {
            out.push(GossipOutput::Send {
                peer,
                message: Message::ChannelUpdate(*last),
            });
        }
    }

    pub(super) fn own_channel_down(&mut self, now: Timestamp, id: ShortChannelId) {
        if let Some(state) = self.own.get_mut(&id) {
            state.away_since.get_or_insert(now);
        }
    }

    /// A public channel says that it is disabled for good; a private one just ends.
    pub(super) fn own_channel_closed(
        &mut self,
        now: Timestamp,
        id: ShortChannelId,
        out: &mut Vec<GossipOutput>,
    ) {
        let Some(state) = self.own.get_mut(&id) else {
            return;
        };
        state.away_since = Some(Timestamp::new(0));
        state.is_closed = true;
        let was_announced = state.last.as_ref().is_some_and(|last| !last.dont_forward());
        if was_announced && self.is_announced(id) {
            self.refresh_own_channel(now, id, out);
        } else {
            self.own.remove(&id);
        }
    }

    pub(super) fn own_announcement(
        &mut self,
        now: Timestamp,
        announcement: &ChannelAnnouncement,
        out: &mut Vec<GossipOutput>,
    ) {
        let id = announcement.short_channel_id;
        let capacity = self.own.get(&id).map(|state| state.channel.capacity);
        if capacity.is_none() || announcement.chain_hash != self.config.chain_hash {
            return;
        }
        if self.is_announced(id) {
            // From the cache, or a peer was quicker.
            let message = Message::ChannelAnnouncement(announcement.clone());
            self.messages.put_announcement(id, message.encode());
        } else {
            self.accept_channel(now, announcement, capacity, None);
        }
        self.refresh_own_channel(now, id, out);
        self.refresh_own_node(now, out);
    }

    pub(super) fn signed(
        &mut self,
        now: Timestamp,
        unsigned: Unsigned,
        signature: Signature,
        out: &mut Vec<GossipOutput>,
    ) {
        match unsigned {
            Unsigned::ChannelUpdate(mut update) => {
                update.signature = signature;
                self.own_update_signed(now, update, out);
                self.refresh_own_node(now, out);
            }
            Unsigned::NodeAnnouncement(mut announcement) => {
                if self.own_node.asked != Some(announcement.timestamp) {
                    return;
                }
                announcement.signature = signature;
                self.own_node.asked = None;
                self.apply_node(now, &announcement, None);
                self.own_node.last = Some(announcement);
            }
        }
    }

    /// The signer is away or will not: it is asked anew after a while, for what is to be said then.
    pub(super) fn not_signed(&mut self, now: Timestamp, unsigned: &Unsigned) {
        match unsigned {
            Unsigned::ChannelUpdate(update) => {
                let asked = Some(update.timestamp);
                let scid = update.short_channel_id;
                for state in self.own.values_mut() {
                    let is_it = state.channel.id == scid || state.channel.id_for_peer == scid;
                    if is_it && state.asked == asked {
                        state.asked = None;
                    }
                }
            }
            Unsigned::NodeAnnouncement(announcement) => {
                if self.own_node.asked == Some(announcement.timestamp) {
                    self.own_node.asked = None;
                }
            }
        }
        self.own_retry_at = self.own_retry_at.min(now.plus_millis(SIGN_AGAIN_MILLIS));
    }

    /// Whether a peer has a channel with us.
    pub(super) fn has_own_channel_with(&self, peer: &NodeId) -> bool {
        self.own.values().any(|state| state.channel.peer == *peer)
    }

    /// Whether a channel of ours with a peer goes by this short id.
    pub(super) fn is_own_channel_of(&self, peer: &NodeId, scid: ShortChannelId) -> bool {
        self.own.values().any(|state| {
            state.channel.peer == *peer
                && (state.channel.id == scid || state.channel.id_for_peer == scid)
        })
    }

    pub(super) fn refresh_own(&mut self, now: Timestamp, out: &mut Vec<GossipOutput>) {
        if now >= self.own_retry_at {
            self.own_retry_at = NEVER;
        }
        let ids: Vec<ShortChannelId> = self.own.keys().copied().collect();
        for id in ids {
            self.refresh_own_channel(now, id, out);
        }
        self.refresh_own_node(now, out);
    }

    pub(super) fn own_next_wake(&self) -> Timestamp {
        let refresh = |timestamp: u32| {
            Timestamp::from_secs(u64::from(timestamp).saturating_add(REFRESH_SECS))
        };
        let mut wake = self.own_retry_at;
        for state in self.own.values() {
            let Some(last) = &state.last else { continue };
            wake = wake.min(refresh(last.timestamp));
            if let Some(since) = state.away_since
                && !last.is_disabled()
                && since > Timestamp::new(0)
            {
                wake = wake.min(since.plus_millis(self.config.disable_after_millis));
            }
        }
        if let Some(last) = &self.own_node.last {
            wake = wake.min(refresh(last.timestamp));
        }
        wake
    }

    /// Asks for a new update if what we would say differs from what we said, or gets old.
    fn refresh_own_channel(
        &mut self,
        now: Timestamp,
        id: ShortChannelId,
        out: &mut Vec<GossipOutput>,
    ) {
        let us = self.config.our_node_id;
        let chain_hash = self.config.chain_hash;
        let is_public = self.is_announced(id);
        let in_graph = self.graph.channel(id);
        let Some(state) = self.own.get_mut(&id) else {
            return;
        };
        if state.asked.is_some() {
            return;
        }
        let channel = &state.channel;
        let direction = Direction::between(&us, &channel.peer);
        let away = state
            .away_since
            .is_some_and(|since| now.millis_since(since) >= self.config.disable_after_millis);
        // Without an update yet there is nothing to disable: the first waits until the channel is up.
        if state.last.is_none() && state.away_since.is_some() {
            return;
        }
        let policy = &channel.policy;
        let mut update = ChannelUpdate {
            signature: no_signature(),
            chain_hash,
            short_channel_id: if is_public { id } else { channel.id_for_peer },
            timestamp: 0,
            message_flags: if is_public {
                ChannelUpdate::MUST_BE_ONE
            } else {
                ChannelUpdate::MUST_BE_ONE | ChannelUpdate::DONT_FORWARD
            },
            channel_flags: direction.to_bit() | if away { ChannelUpdate::DISABLE } else { 0 },
            cltv_expiry_delta: policy.cltv_expiry_delta,
            htlc_minimum_msat: policy.htlc_minimum,
            fee_base_msat: policy.fee_base_msat,
            fee_proportional_millionths: policy.fee_proportional_millionths,
            htlc_maximum_msat: policy.htlc_maximum,
            excess_data: Vec::new(),
        };
        let seconds = u32::try_from(now.to_secs_floor()).unwrap_or(u32::MAX);
        if let Some(last) = &state.last {
            let same = ChannelUpdate {
                signature: last.signature,
                timestamp: last.timestamp,
                ..update.clone()
            } == **last;
            let age = u64::from(seconds).saturating_sub(u64::from(last.timestamp));
            // BOLT 7: no redundant updates; a private channel's peer does not forget ours.
            if same && (age < REFRESH_SECS || !is_public) {
                return;
            }
        }
        // BOLT 7: greater than in all earlier ones, those of an earlier run too.
        let known = in_graph
            .as_ref()
            .and_then(|channel| channel.policy(direction))
            .map_or(0, |policy| policy.timestamp);
        let last = state.last.as_ref().map_or(0, |last| last.timestamp);
        update.timestamp = seconds
            .max(known.saturating_add(1))
            .max(last.saturating_add(1));
        state.asked = Some(update.timestamp);
        out.push(GossipOutput::AskSign(Unsigned::ChannelUpdate(Box::new(
            update,
        ))));
    }

    fn own_update_signed(
        &mut self,
        now: Timestamp,
        update: Box<ChannelUpdate>,
        out: &mut Vec<GossipOutput>,
    ) {
        let scid = update.short_channel_id;
        let found = self.own.iter_mut().find(|(_, state)| {
            (state.channel.id == scid || state.channel.id_for_peer == scid)
                && state.asked == Some(update.timestamp)
        });
        let Some((id, state)) = found else {
            return;
        };
        let id = *id;
        state.asked = None;
        let peer = state.channel.peer;
        let is_here = state.away_since.is_none();
        let is_last = state.is_closed && update.is_disabled();
        state.last = Some(update.clone());
        if update.dont_forward() {
            if is_here {
                out.push(GossipOutput::Send {
                    peer,
                    message: Message::ChannelUpdate(*update),
                });
            }
        } else {
            self.apply_update(now, &update, None);
        }
        if is_last {
            // From now on it is a channel like any other, forgotten some time after it is spent.
            self.own.remove(&id);
            return;
        }
        // The wish may have changed while the signer thought.
        self.refresh_own_channel(now, id, out);
    }

    /// BOLT 7, node_announcement: only once one of our channels is announced.
    fn refresh_own_node(&mut self, now: Timestamp, out: &mut Vec<GossipOutput>) {
        let config = &self.config;
        let us = config.our_node_id;
        if self.own_node.asked.is_some() || !self.graph.has_node(&us) {
            return;
        }
        let mut announcement = NodeAnnouncement {
            signature: no_signature(),
            features: config.node_features.clone(),
            timestamp: 0,
            node_id: us,
            rgb_color: config.color,
            alias: config.alias,
            addresses: config.addresses.clone(),
            excess_data: Vec::new(),
        };
        let seconds = u32::try_from(now.to_secs_floor()).unwrap_or(u32::MAX);
        if let Some(last) = &self.own_node.last {
            let same = NodeAnnouncement {
                signature: last.signature,
                timestamp: last.timestamp,
                ..announcement.clone()
            } == **last;
            let age = u64::from(seconds).saturating_sub(u64::from(last.timestamp));
            if same && age < REFRESH_SECS {
                return;
            }
        }
        let known = self
            .graph
            .node_details(&us)
            .map_or(0, |details| details.timestamp);
        announcement.timestamp = seconds.max(known.saturating_add(1));
        self.own_node.asked = Some(announcement.timestamp);
        out.push(GossipOutput::AskSign(Unsigned::NodeAnnouncement(Box::new(
            announcement,
        ))));
    }
}
