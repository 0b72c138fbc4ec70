//! Snapshots without signatures, and how what is signed takes their place.

use alloc::{collections::BTreeSet, vec::Vec};

use fulmen_types::{NodeId, ShortChannelId, Timestamp};

use super::{Gossip, UtxoCheck};
use crate::{Direction, UnsignedGraph, UnsignedRules};

/// The most channels that the graph may have for more to be taken from a snapshot: nearly twenty times the
/// main network.
const MAX_CHANNELS: usize = 1_000_000;

impl Gossip {
    pub(super) fn unsigned(&mut self, now: Timestamp, changes: &UnsignedGraph) {
        self.forget_speechless();
        let own_channels: BTreeSet<ShortChannelId> = self
            .own
            .iter()
            .flat_map(|(id, state)| [*id, state.id_for_peer()])
            .collect();
        self.unsigned_applied = self.graph.apply_unsigned(
            changes,
            &UnsignedRules {
                us: &self.config.our_node_id,
                own_channels: &own_channels,
                max_channels: MAX_CHANNELS,
            },
        );
        if self.unsigned_applied.channels_added > 0 && self.config.utxo_check == UtxoCheck::Ask {
            // The chain is asked about them as about those from the cache: whether they are there, and to hear
            // when they are spent.
            let added = changes.channels.iter().map(|c| c.short_channel_id);
            let unsigned: Vec<ShortChannelId> = added
                .filter(|scid| self.graph.has_channel(*scid) && !self.is_announced(*scid))
                .collect();
            self.recheck.extend(unsigned);
        }
        self.next_prune = self.next_prune.min(now);
        self.changed = true;
    }

    /// Channels of the last snapshot that no end has said anything about would stay for ever.
    fn forget_speechless(&mut self) {
        let speechless: Vec<ShortChannelId> = self
            .graph
            .speechless()
            .filter(|scid| !self.messages.has_announcement(*scid) && !self.own.contains_key(scid))
            .collect();
        self.forget_channels(&speechless);
    }

    /// Whether a channel is in the graph because its ends have signed so: only such are passed on.
    pub(super) fn is_announced(&self, scid: ShortChannelId) -> bool {
        self.messages.has_announcement(scid) && self.graph.has_channel(scid)
    }

    /// The time of the last update of one end that a new one must be later than. What a snapshot said does not
    /// count where the channel is announced; where it is not, there is nothing else to go by.
    pub(super) fn known_update_time(&self, scid: ShortChannelId, direction: Direction) -> u32 {
        if self.messages.has_announcement(scid) {
            return self.messages.update_time(scid, direction);
        }
        let channel = self.graph.channel(scid);
        let policy = channel.as_ref().and_then(|c| c.policy(direction));
        policy.map_or(0, |policy| policy.timestamp)
    }

    /// The time of what a node has signed of itself, if it has.
    pub(super) fn signed_node_time(&self, id: &NodeId) -> Option<u32> {
        Some(self.messages.node_time(id)).filter(|time| *time > 0)
    }
}
