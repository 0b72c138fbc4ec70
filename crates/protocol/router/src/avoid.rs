//! What failed lately and is better not tried again.

use alloc::collections::BTreeMap;

use fulmen_gossip::Direction;
use fulmen_types::{Msat, NodeId, ShortChannelId, Timestamp};

/// One direction of a channel.
pub type ChannelDirection = (ShortChannelId, Direction);

/// A memory of failures, each with the time until which it counts.
///
/// ```
/// use fulmen_gossip::Direction;
/// use fulmen_router::AvoidList;
/// use fulmen_types::{Msat, ShortChannelId, Timestamp};
///
/// let mut list = AvoidList::new();
/// let channel = (ShortChannelId::from_u64(1), Direction::Forward);
/// list.avoid_channel(channel, Msat::new(500), Timestamp::from_secs(60));
/// assert!(list.is_channel_avoided(channel, Msat::new(500), Timestamp::from_secs(59)));
/// assert!(!list.is_channel_avoided(channel, Msat::new(499), Timestamp::from_secs(59)));
/// assert!(!list.is_channel_avoided(channel, Msat::new(500), Timestamp::from_secs(60)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AvoidList {
    channels: BTreeMap<ChannelDirection, AvoidedChannel>,
    nodes: BTreeMap<NodeId, Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AvoidedChannel {
    /// This amount and more are not to be tried.
    from_amount: Msat,
    until: Timestamp,
    /// What smaller amounts are taken to cost beyond the fee, so that other ways are preferred.
    penalty: Msat,
}

impl AvoidList {
    /// Nothing to avoid.
    pub const fn new() -> Self {
        Self {
            channels: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// Avoids a direction for `from_amount` and more; zero for every amount. Of two memories the
    /// stricter amount and the later time stay.
    pub fn avoid_channel(
        &mut self,
        channel: ChannelDirection,
        from_amount: Msat,
        until: Timestamp,
    ) {
        let entry = self.channels.entry(channel).or_insert(AvoidedChannel {
            from_amount,
            until,
            penalty: Msat::ZERO,
        });
        entry.from_amount = entry.from_amount.min(from_amount);
        entry.until = entry.until.max(until);
    }

    /// Lets smaller amounts over an avoided direction count as costing `penalty` more.
    pub fn penalise_channel(&mut self, channel: ChannelDirection, penalty: Msat, until: Timestamp) {
        let entry = self.channels.entry(channel).or_insert(AvoidedChannel {
            from_amount: Msat::MAX,
            until,
            penalty,
        });
        entry.penalty = entry.penalty.max(penalty);
        entry.until = entry.until.max(until);
    }

    /// Avoids all channels of a node.
    pub fn avoid_node(&mut self, node: NodeId, until: Timestamp) {
        let entry = self.nodes.entry(node).or_insert(until);
        *entry = (*entry).max(until);
    }

    /// Forgets what no longer counts.
    pub fn prune(&mut self, now: Timestamp) {
        self.channels.retain(|_, entry| entry.until > now);
        self.nodes.retain(|_, until| *until > now);
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.nodes.is_empty()
    }

    /// How many memories there are.
    pub fn len(&self) -> usize {
        self.channels.len() + self.nodes.len()
    }

    /// When the first of the memories ends, leaving out those that never do.
    pub fn first_end(&self) -> Option<Timestamp> {
        let channels = self.channels.values().map(|entry| entry.until);
        channels
            .chain(self.nodes.values().copied())
            .filter(|until| *until < Timestamp::new(u64::MAX))
            .min()
    }

    /// Whether an amount is not to be sent over a direction.
    pub fn is_channel_avoided(
        &self,
        channel: ChannelDirection,
        amount: Msat,
        now: Timestamp,
    ) -> bool {
        self.channels
            .get(&channel)
            .is_some_and(|entry| entry.until > now && amount >= entry.from_amount)
    }

    /// Whether a node is not to be used.
    pub fn is_node_avoided(&self, node: &NodeId, now: Timestamp) -> bool {
        self.nodes.get(node).is_some_and(|until| *until > now)
    }

    /// Directions that count at `now`: the amount from which they are avoided, and the penalty below.
    pub(crate) fn channels(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (ChannelDirection, Msat, Msat)> + '_ {
        self.channels
            .iter()
            .filter(move |(_, entry)| entry.until > now)
            .map(|(channel, entry)| (*channel, entry.from_amount, entry.penalty))
    }

    /// Nodes that count at `now`.
    pub(crate) fn nodes(&self, now: Timestamp) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes
            .iter()
            .filter(move |(_, until)| **until > now)
            .map(|(node, _)| *node)
    }
}
