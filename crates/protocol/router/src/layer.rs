//! What the user knows or wants.

use alloc::collections::{BTreeMap, BTreeSet};

use fulmen_types::{Msat, NodeId};

use crate::ChannelDirection;

/// Rules of the user's own about channels and nodes: prefer, shun, forbid, or say what one can carry.
/// A request takes any number of layers; of two that speak of the same thing the stricter counts.
///
/// ```
/// use fulmen_gossip::Direction;
/// use fulmen_router::Layer;
/// use fulmen_types::{Msat, NodeId, ShortChannelId};
///
/// let mut layer = Layer::new();
/// let channel = (ShortChannelId::from_u64(1), Direction::Forward);
/// layer.shun_channel(channel, Msat::from_sat(5));
/// layer.set_liquidity(channel, Msat::from_sat(100_000));
/// layer.disable_node(NodeId::new([2; 33]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    channels: BTreeMap<ChannelDirection, Rule>,
    nodes: BTreeSet<NodeId>,
}

/// What a layer says of one direction of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) is_disabled: bool,
    /// Counts like a fee.
    pub(crate) bias: Msat,
    /// What it can carry for certain, and not more.
    pub(crate) liquidity: Option<Msat>,
}

impl Layer {
    /// Without rules.
    pub const fn new() -> Self {
        Self {
            channels: BTreeMap::new(),
            nodes: BTreeSet::new(),
        }
    }

    /// Never uses a direction.
    pub fn disable_channel(&mut self, channel: ChannelDirection) {
        self.channels.entry(channel).or_default().is_disabled = true;
    }

    /// Never goes through a node; it can still be paid.
    pub fn disable_node(&mut self, node: NodeId) {
        self.nodes.insert(node);
    }

    /// Lets using a direction count as costing so much more than its fee.
    pub fn shun_channel(&mut self, channel: ChannelDirection, bias: Msat) {
        self.channels.entry(channel).or_default().bias = bias;
    }

    /// Says what a direction can carry: this for certain, more not at all.
    pub fn set_liquidity(&mut self, channel: ChannelDirection, liquidity: Msat) {
        self.channels.entry(channel).or_default().liquidity = Some(liquidity);
    }

    /// Takes back all rules of a direction.
    pub fn reset_channel(&mut self, channel: &ChannelDirection) {
        self.channels.remove(channel);
    }

    /// Lets a node be used again.
    pub fn enable_node(&mut self, node: &NodeId) {
        self.nodes.remove(node);
    }

    pub(crate) fn channels(&self) -> impl Iterator<Item = (&ChannelDirection, &Rule)> {
        self.channels.iter()
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter()
    }
}
