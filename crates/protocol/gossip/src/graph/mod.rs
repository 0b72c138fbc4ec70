//! The network as announced: nodes, channels and both policies of each, in dense arrays.
//!
//! There is one writer, [`GraphWriter`], and any number of readers, each of which holds an immutable
//! [`NetworkGraph`]: a snapshot costs one pass over the channels and is then shared by reference.
//! Nothing is allocated per channel or per node; variable parts (features, addresses) lie in one
//! arena.

mod file;
mod index;
mod unsigned;
mod writer;

use alloc::{sync::Arc, vec::Vec};
use core::{cmp::Ordering, fmt};

use bitcoin::{Amount, constants::ChainHash};
use fulmen_types::{CltvExpiryDelta, Feature, Features, Msat, NodeId, ShortChannelId};

pub use file::GraphFileError;
pub use unsigned::{
    ChangedTerms, Kept, Terms, UnsignedApplied, UnsignedChannel, UnsignedGraph, UnsignedNode,
    UnsignedPolicy, UnsignedRules, UnsignedTerms,
};
pub use writer::{GraphError, GraphWriter, NewChannel, NewNodeDetails};

/// The place of a node in one snapshot's arrays. Indices of different snapshots don't mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(u32);

impl NodeIndex {
    /// The position in an array of [`NetworkGraph::node_slots`] items.
    pub const fn to_usize(self) -> usize {
        self.0 as usize
    }
}

/// Which end of a channel an update is of: bit 0 of `channel_flags` (BOLT 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From `node_id_1`, the lesser key, to `node_id_2`.
    Forward,
    /// From `node_id_2` to `node_id_1`.
    Backward,
}

impl Direction {
    /// From bit 0 of `channel_flags`.
    pub const fn from_channel_flags(channel_flags: u8) -> Self {
        if channel_flags & 1 == 0 {
            Self::Forward
        } else {
            Self::Backward
        }
    }

    /// The direction of a channel between two nodes, seen from `from`.
    pub fn between(from: &NodeId, to: &NodeId) -> Self {
        if from < to {
            Self::Forward
        } else {
            Self::Backward
        }
    }

    /// 0 or 1.
    pub const fn to_bit(self) -> u8 {
        match self {
            Self::Forward => 0,
            Self::Backward => 1,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Forward => Self::Backward,
            Self::Backward => Self::Forward,
        }
    }

    pub(crate) const fn to_usize(self) -> usize {
        match self {
            Self::Forward => 0,
            Self::Backward => 1,
        }
    }
}

/// The place of an edge in one snapshot's [`NetworkGraph::edges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeIndex(u32);

impl EdgeIndex {
    /// The position in the array.
    pub const fn to_usize(self) -> usize {
        self.0 as usize
    }
}

/// What one end of a channel asks of those who route over it: the latest `channel_update`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The least that the peer of this end accepts.
    pub htlc_minimum: Msat,
    /// The most that this end will send in one HTLC.
    pub htlc_maximum: Msat,
    /// Seconds since 1970 by the sender's account; orders its updates.
    pub timestamp: u32,
    /// Fee for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// Fee in millionths of the forwarded amount.
    pub fee_proportional_millionths: u32,
    /// Blocks between the incoming and the outgoing expiry.
    pub cltv_expiry_delta: CltvExpiryDelta,
    /// The `disable` bit.
    pub disabled: bool,
}

impl Policy {
    /// The fee for forwarding `amount` (BOLT 7, HTLC Fees), or `None` when it overflows.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        amount
            .checked_ppm_floor(u64::from(self.fee_proportional_millionths))?
            .checked_add(Msat::new(u64::from(self.fee_base_msat)))
    }
}

/// A channel as a snapshot shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its place in the chain.
    pub short_channel_id: ShortChannelId,
    /// The lesser key.
    pub node_1: NodeId,
    /// The greater key.
    pub node_2: NodeId,
    /// The funding output's value, when the chain was asked.
    pub capacity: Option<Amount>,
    /// The channel's features.
    pub features: Features,
    /// The policies of `node_1` and `node_2`.
    pub policies: [Option<Policy>; 2],
    /// The height at which the funding output was spent: the channel is forgotten 72 blocks later.
    pub spent_at: Option<u32>,
}

impl ChannelInfo {
    /// The policy of one end.
    pub const fn policy(&self, direction: Direction) -> Option<&Policy> {
        match direction {
            Direction::Forward => self.policies[0].as_ref(),
            Direction::Backward => self.policies[1].as_ref(),
        }
    }
}

/// What a node says of itself in its `node_announcement`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDetails {
    /// Orders a node's announcements.
    pub timestamp: u32,
    /// What it supports.
    pub features: Features,
    /// Red, green, blue.
    pub rgb_color: [u8; 3],
    /// A text of its choice: not unique, not to be trusted, show it by `Printable`.
    pub alias: [u8; 32],
    /// Address descriptors as on the wire (BOLT 7, `addresses`).
    pub addresses: Vec<u8>,
}

/// An edge that a payment can take towards a node: one usable direction of one channel, with what
/// path finding needs of it. See [`NetworkGraph::edges_to`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The most that one HTLC can carry: `htlc_maximum_msat`, never above the capacity.
    pub htlc_maximum: Msat,
    /// The least that one HTLC can carry.
    pub htlc_minimum: Msat,
    /// The channel's capacity, or `htlc_maximum` where that is not known.
    pub capacity: Msat,
    /// The node that forwards over the channel and asks the fee.
    pub from: NodeIndex,
    /// The node that it leads to.
    pub to: NodeIndex,
    /// The channel's position, for [`NetworkGraph::short_channel_id`].
    pub channel: ChannelIndex,
    /// Fee for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// Fee in millionths of the forwarded amount.
    pub fee_proportional_millionths: u32,
    /// Blocks that `from` takes off the expiry.
    pub cltv_expiry_delta: u16,
    /// From which end.
    pub direction: Direction,
}

/// The place of a channel in one snapshot's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelIndex(u32);

impl ChannelIndex {
    /// The position in an array of [`NetworkGraph::channel_count`] items.
    pub const fn to_usize(self) -> usize {
        self.0 as usize
    }
}

/// An immutable snapshot of the network, cheap to share.
#[derive(Clone)]
pub struct NetworkGraph {
    tables: Arc<Tables>,
    /// `edges[starts[n]..starts[n + 1]]` lead to node `n`.
    starts: Vec<u32>,
    edges: Vec<Edge>,
    /// Where each node's part of `outgoing` begins.
    out_starts: Vec<u32>,
    /// Indices of edges by the node they come from.
    outgoing: Vec<u32>,
    /// One bit per node.
    dead_ends: Vec<u64>,
    /// Nodes that must not forward for us: they ask for features that we don't know.
    no_transit: Vec<bool>,
}

impl NetworkGraph {
    /// A network without nodes.
    pub fn empty(chain_hash: ChainHash) -> Self {
        Self::index(Arc::new(Tables::new(chain_hash)))
    }

    /// The chain that the channels are on.
    pub fn chain_hash(&self) -> ChainHash {
        self.tables.chain_hash
    }

    /// Up to when snapshots without signatures (rapid gossip sync) had heard the network, in seconds since
    /// 1970; 0 when none was applied.
    pub fn unsigned_until(&self) -> u32 {
        self.tables.unsigned_until
    }

    /// How many channels are known.
    pub fn channel_count(&self) -> usize {
        self.tables.channels.len()
    }

    /// How many nodes have a channel.
    pub fn node_count(&self) -> usize {
        self.tables.nodes_by_id.len()
    }

    /// One more than the greatest node index: the size of arrays indexed by [`NodeIndex`].
    pub fn node_slots(&self) -> usize {
        self.tables.nodes.len()
    }

    /// The index of a node.
    pub fn find_node(&self, id: &NodeId) -> Option<NodeIndex> {
        self.tables.find_node(id)
    }

    /// The index at a position, while it is below [`NetworkGraph::node_slots`].
    pub fn node_at(&self, position: usize) -> Option<NodeIndex> {
        if position < self.tables.nodes.len() {
            u32::try_from(position).ok().map(NodeIndex)
        } else {
            None
        }
    }

    /// The id of a node. `None` for an index of another snapshot.
    pub fn node_id(&self, node: NodeIndex) -> Option<NodeId> {
        self.tables.nodes.get(node.to_usize()).map(|n| n.id)
    }

    /// What a node announced of itself.
    pub fn node_details(&self, id: &NodeId) -> Option<NodeDetails> {
        self.tables.node_details(self.find_node(id)?)
    }

    /// All nodes in the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.tables
            .nodes_by_id
            .iter()
            .map(|i| self.tables.nodes[*i as usize].id)
    }

    /// A channel by its short id.
    pub fn channel(&self, short_channel_id: ShortChannelId) -> Option<ChannelInfo> {
        let index = self.tables.find_channel(short_channel_id)?;
        Some(self.tables.channel_info(index))
    }

    /// The index of a channel.
    pub fn find_channel(&self, short_channel_id: ShortChannelId) -> Option<ChannelIndex> {
        self.tables.find_channel(short_channel_id)
    }

    /// A channel's short id. `None` for an index of another snapshot.
    pub fn short_channel_id(&self, channel: ChannelIndex) -> Option<ShortChannelId> {
        self.tables
            .channels
            .get(channel.to_usize())
            .map(|c| c.short_channel_id)
    }

    /// The short id of the channel at a position, while it is below [`NetworkGraph::channel_count`].
    pub fn short_channel_id_at(&self, position: usize) -> Option<ShortChannelId> {
        self.tables
            .channels
            .get(position)
            .map(|c| c.short_channel_id)
    }

    /// What a channel can hold: the funding output's value, or where that is not known the greatest
    /// `htlc_maximum_msat` of its ends.
    pub fn capacity(&self, short_channel_id: ShortChannelId) -> Option<Msat> {
        let index = self.tables.find_channel(short_channel_id)?;
        let channel = self.tables.channels.get(index.to_usize())?;
        if channel.capacity_sat > 0 {
            return Some(Msat::from_sat(channel.capacity_sat));
        }
        let maxima = channel.policies.iter().flatten();
        maxima.map(|policy| policy.htlc_maximum).max()
    }

    /// All channels in the order of their short ids.
    pub fn channels(&self) -> impl Iterator<Item = ChannelInfo> + '_ {
        self.tables
            .channels_by_scid
            .iter()
            .map(|i| self.tables.channel_info(ChannelIndex(*i)))
    }

    /// The usable edges that lead to `node`: channels with a policy that is not disabled, unspent,
    /// without unknown even features, and whose limits make sense.
    pub fn edges_to(&self, node: NodeIndex) -> impl Iterator<Item = (EdgeIndex, &Edge)> {
        let range = range(&self.starts, node);
        let first = u32::try_from(range.start).unwrap_or(u32::MAX);
        let edges = self.edges.get(range).unwrap_or(&[]);
        (first..).map(EdgeIndex).zip(edges)
    }

    /// The usable edges that come from `node`; see [`NetworkGraph::edges_to`].
    pub fn edges_from(&self, node: NodeIndex) -> impl Iterator<Item = (EdgeIndex, &Edge)> {
        let outgoing = self.outgoing.get(range(&self.out_starts, node));
        outgoing
            .unwrap_or(&[])
            .iter()
            .filter_map(|index| Some((EdgeIndex(*index), self.edges.get(*index as usize)?)))
    }

    /// All usable edges, in the order of the nodes that they lead to.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Whether the node at a position can't be on any way between others: it has a single neighbour.
    pub fn is_dead_end(&self, position: usize) -> bool {
        self.dead_ends
            .get(position / 64)
            .is_some_and(|word| (word >> (position % 64)) & 1 == 1)
    }

    /// Whether `node` may forward for us. BOLT 7, `node_announcement`: a node with unknown even
    /// features MUST NOT be routed through.
    pub fn may_forward(&self, node: NodeIndex) -> bool {
        !self
            .no_transit
            .get(node.to_usize())
            .copied()
            .unwrap_or(false)
    }

    /// The bytes of the graph file: version, tables, checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        file::to_bytes(&self.tables)
    }

    /// Reads a graph file. Corrupt or foreign bytes are an error, never a panic, and never make it
    /// allocate more than a small multiple of their length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GraphFileError> {
        Ok(Self::index(Arc::new(file::from_bytes(bytes)?)))
    }

    /// The bytes held in memory, about.
    pub fn memory(&self) -> usize {
        let t = &*self.tables;
        t.nodes.capacity() * size_of::<Node>()
            + t.channels.capacity() * size_of::<Channel>()
            + (t.nodes_by_id.capacity() + t.channels_by_scid.capacity()) * 4
            + (self.starts.capacity() + self.out_starts.capacity() + self.outgoing.capacity()) * 4
            + self.dead_ends.capacity() * 8
            + t.arena.capacity()
            + self.edges.capacity() * size_of::<Edge>()
            + self.no_transit.capacity()
    }
}

/// A node's part of an array that is sorted by node.
fn range(starts: &[u32], node: NodeIndex) -> core::ops::Range<usize> {
    match starts.get(node.to_usize()..) {
        Some([start, end, ..]) => *start as usize..*end as usize,
        _ => 0..0,
    }
}

impl fmt::Debug for NetworkGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkGraph")
            .field("nodes", &self.node_count())
            .field("channels", &self.channel_count())
            .field("edges", &self.edges.len())
            .finish()
    }
}

impl Edge {
    const UNSET: Self = Self {
        htlc_maximum: Msat::ZERO,
        htlc_minimum: Msat::ZERO,
        capacity: Msat::ZERO,
        from: NodeIndex(0),
        to: NodeIndex(0),
        channel: ChannelIndex(0),
        fee_base_msat: 0,
        fee_proportional_millionths: 0,
        cltv_expiry_delta: 0,
        direction: Direction::Forward,
    };

    /// The fee that `from` asks for forwarding `amount`, or `None` when it overflows.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        amount
            .checked_ppm_floor(u64::from(self.fee_proportional_millionths))?
            .checked_add(Msat::new(u64::from(self.fee_base_msat)))
    }
}

/// The arrays themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Tables {
    chain_hash: ChainHash,
    nodes: Vec<Node>,
    channels: Vec<Channel>,
    /// Indices of live nodes in the order of their ids.
    nodes_by_id: Vec<u32>,
    /// Indices of channels in the order of their short ids.
    channels_by_scid: Vec<u32>,
    /// Node slots to be used again.
    free_nodes: Vec<u32>,
    /// Per node: features, rgb (3), alias (32), addresses. Per channel: features.
    arena: Vec<u8>,
    /// Bytes of the arena that nothing points to any more.
    garbage: usize,
    /// See [`NetworkGraph::unsigned_until`].
    unsigned_until: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Node {
    id: NodeId,
    /// Channels that end here; a slot without any is free.
    degree: u32,
    /// 0: no announcement yet.
    timestamp: u32,
    details: u32,
    features_len: u16,
    addresses_len: u16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Channel {
    short_channel_id: ShortChannelId,
    /// 0: unknown.
    capacity_sat: u64,
    policies: [Option<Policy>; 2],
    nodes: [u32; 2],
    features: u32,
    features_len: u16,
    unknown_even_features: bool,
    /// 0: unspent.
    spent_at: u32,
}

impl Node {
    /// One that has not announced itself.
    const fn unannounced(id: NodeId) -> Self {
        Self {
            id,
            degree: 0,
            timestamp: 0,
            details: 0,
            features_len: 0,
            addresses_len: 0,
        }
    }
}

impl Channel {
    /// The node at which an HTLC in `direction` arrives.
    const fn end(&self, direction: Direction) -> u32 {
        match direction {
            Direction::Forward => self.nodes[1],
            Direction::Backward => self.nodes[0],
        }
    }

    /// A spent channel may live on for some blocks: perhaps it was spliced (BOLT 7).
    const fn is_usable(&self) -> bool {
        !self.unknown_even_features
    }

    // BOLT 7, channel_update: ignore the channel for routing when the maximum is below the minimum or
    // above the capacity.
    fn usable_policy(&self, direction: Direction) -> Option<&Policy> {
        let policy = self.policies[direction.to_usize()].as_ref()?;
        let sane = policy.htlc_minimum <= policy.htlc_maximum
            && policy.htlc_maximum > Msat::ZERO
            && (self.capacity_sat == 0 || policy.htlc_maximum <= Msat::from_sat(self.capacity_sat));
        (sane && !policy.disabled).then_some(policy)
    }
}

/// How often the place of an id is guessed before it is looked for by halves.
const GUESSES: usize = 10;

/// A key's place among all keys: the parity of y, then x.
fn spread(id: &NodeId) -> u64 {
    let [parity, a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
    (u64::from(parity & 1) << 63) | (u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1)
}

impl Tables {
    const fn new(chain_hash: ChainHash) -> Self {
        Self {
            chain_hash,
            nodes: Vec::new(),
            channels: Vec::new(),
            nodes_by_id: Vec::new(),
            channels_by_scid: Vec::new(),
            free_nodes: Vec::new(),
            arena: Vec::new(),
            garbage: 0,
            unsigned_until: 0,
        }
    }

    fn node_position(&self, id: &NodeId) -> Result<usize, usize> {
        self.nodes_by_id
            .binary_search_by(|i| self.nodes[*i as usize].id.cmp(id))
    }

    /// Ids are keys, spread evenly: where one is can be guessed, and each wrong guess makes the next better.
    fn find_node(&self, id: &NodeId) -> Option<NodeIndex> {
        let mut rest = &self.nodes_by_id[..];
        let (key, mut low, mut high) = (spread(id), 0u64, u64::MAX);
        for _ in 0..GUESSES {
            let last = rest.len().checked_sub(1)?;
            let share = u128::from(key.saturating_sub(low)) * rest.len() as u128
                / (u128::from(high.saturating_sub(low)) + 1);
            let guess = usize::try_from(share).map_or(last, |guess| guess.min(last));
            let index = rest[guess];
            let other = &self.nodes[index as usize].id;
            match other.cmp(id) {
                Ordering::Equal => return Some(NodeIndex(index)),
                Ordering::Less => (rest, low) = (&rest[guess + 1..], spread(other)),
                Ordering::Greater => (rest, high) = (&rest[..guess], spread(other)),
            }
        }
        let position = rest.binary_search_by(|i| self.nodes[*i as usize].id.cmp(id));
        Some(NodeIndex(rest[position.ok()?]))
    }

    fn channel_position(&self, scid: ShortChannelId) -> Result<usize, usize> {
        let key = |i: &u32| self.channels[*i as usize].short_channel_id;
        // Channels mostly arrive in rising order.
        match self.channels_by_scid.last().map(key) {
            Some(last) if last < scid => Err(self.channels_by_scid.len()),
            _ => self.channels_by_scid.binary_search_by_key(&scid, key),
        }
    }

    fn find_channel(&self, scid: ShortChannelId) -> Option<ChannelIndex> {
        let position = self.channel_position(scid).ok()?;
        Some(ChannelIndex(self.channels_by_scid[position]))
    }

    fn slice(&self, offset: u32, len: u16) -> &[u8] {
        let start = offset as usize;
        self.arena
            .get(start..start + usize::from(len))
            .unwrap_or(&[])
    }

    fn node_details(&self, node: NodeIndex) -> Option<NodeDetails> {
        let node = self.nodes.get(node.to_usize())?;
        if node.timestamp == 0 {
            return None;
        }
        let fixed = node.details.saturating_add(u32::from(node.features_len));
        let mut rgb_color = [0; 3];
        rgb_color.copy_from_slice(self.slice(fixed, 3).get(..3)?);
        let mut alias = [0; 32];
        alias.copy_from_slice(self.slice(fixed.saturating_add(3), 32).get(..32)?);
        Some(NodeDetails {
            timestamp: node.timestamp,
            features: Features::from_be_bytes(self.slice(node.details, node.features_len)),
            rgb_color,
            alias,
            addresses: self
                .slice(fixed.saturating_add(35), node.addresses_len)
                .to_vec(),
        })
    }

    fn channel_info(&self, index: ChannelIndex) -> ChannelInfo {
        let channel = &self.channels[index.to_usize()];
        let [node_1, node_2] = channel.nodes.map(|n| self.nodes[n as usize].id);
        ChannelInfo {
            short_channel_id: channel.short_channel_id,
            node_1,
            node_2,
            capacity: (channel.capacity_sat > 0).then(|| Amount::from_sat(channel.capacity_sat)),
            features: Features::from_be_bytes(self.slice(channel.features, channel.features_len)),
            policies: channel.policies,
            spent_at: (channel.spent_at > 0).then_some(channel.spent_at),
        }
    }
}

/// Which even bits this software knows: bit `n` is bit `n % 8` of byte `n / 8`.
const KNOWN_EVEN_BITS: [u8; 128] = {
    let mut known = [0; 128];
    let mut i = 0;
    while i < Feature::ALL.len() {
        let bit = Feature::ALL[i].even_bit() as usize;
        known[bit / 8] |= 1 << (bit % 8);
        i += 1;
    }
    known
};

/// Whether a feature field (big-endian) asks for something that this software does not know.
fn has_unknown_even_bit(features: &[u8]) -> bool {
    const EVEN: u8 = 0b0101_0101;
    let known = KNOWN_EVEN_BITS.iter().copied().chain(core::iter::repeat(0));
    let mut pairs = features.iter().rev().zip(known);
    pairs.any(|(byte, known)| byte & EVEN & !known != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulmen_types::FeatureError;

    #[test]
    fn unknown_even_bits_are_those_that_the_features_say() {
        for len in [0usize, 1, 5, 33, 100, 150] {
            for bit in 0..len * 8 {
                let mut bytes = alloc::vec![0; len];
                bytes[len - 1 - bit / 8] |= 1 << (bit % 8);
                let features = Features::from_be_bytes(&bytes);
                let says = matches!(features.check(), Err(FeatureError::UnknownRequired(_)));
                assert_eq!(
                    has_unknown_even_bit(&bytes),
                    says,
                    "bit {bit} of {len} bytes"
                );
            }
        }
    }
}
