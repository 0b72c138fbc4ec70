//! The one writer of the graph.

use alloc::{sync::Arc, vec::Vec};
use core::fmt;

use bitcoin::{Amount, constants::ChainHash};
use fulmen_types::{Features, NodeId, ShortChannelId};

use super::{
    Channel, ChannelIndex, ChannelInfo, Direction, NetworkGraph, Node, NodeDetails, NodeIndex,
    Policy, Tables, has_unknown_even_bit,
};

/// A channel to be added: what a `channel_announcement` says, and what the chain says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChannel {
    /// Its place in the chain.
    pub short_channel_id: ShortChannelId,
    /// The lesser key.
    pub node_1: NodeId,
    /// The greater key.
    pub node_2: NodeId,
    /// The funding output's value; `None` when the chain was not asked.
    pub capacity: Option<Amount>,
    /// The channel's features.
    pub features: Features,
}

/// What a `node_announcement` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNodeDetails<'a> {
    /// Orders a node's announcements; 0 is not valid.
    pub timestamp: u32,
    /// What it supports.
    pub features: &'a Features,
    /// Red, green, blue.
    pub rgb_color: [u8; 3],
    /// A text of its choice.
    pub alias: [u8; 32],
    /// Address descriptors as on the wire.
    pub addresses: &'a [u8],
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphError {
    /// The channel is there already.
    KnownChannel,
    /// No such channel.
    UnknownChannel,
    /// The node has no channel.
    UnknownNode,
    /// `node_id_1` is not the lesser of the two keys (BOLT 7).
    NodesNotOrdered,
    /// The same or a newer message was applied before.
    NotNewer,
    /// The arrays are full: 2^32 entries.
    Full,
    /// Features and addresses that no message could carry.
    TooLong,
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KnownChannel => "the channel is known already",
            Self::UnknownChannel => "the channel is not known",
            Self::UnknownNode => "the node has no known channel",
            Self::NodesNotOrdered => "node_id_1 is not less than node_id_2",
            Self::NotNewer => "the same or a newer message is known already",
            Self::Full => "the graph is full",
            Self::TooLong => "features or addresses are longer than a message",
        })
    }
}

impl core::error::Error for GraphError {}

/// The one that changes the graph. Readers hold snapshots; a change never alters one of those.
#[derive(Clone)]
pub struct GraphWriter {
    tables: Arc<Tables>,
    /// The last snapshot, while it is current.
    snapshot: Option<Arc<NetworkGraph>>,
}

impl GraphWriter {
    /// An empty network on a chain.
    pub fn new(chain_hash: ChainHash) -> Self {
        Self {
            tables: Arc::new(Tables::new(chain_hash)),
            snapshot: None,
        }
    }

    /// Goes on from a graph, for instance one read from a file.
    pub fn from_graph(graph: NetworkGraph) -> Self {
        Self {
            tables: Arc::clone(&graph.tables),
            snapshot: Some(Arc::new(graph)),
        }
    }

    /// The network as it is now. Costs nothing when nothing changed since the last one.
    pub fn snapshot(&mut self) -> Arc<NetworkGraph> {
        let tables = &self.tables;
        Arc::clone(
            self.snapshot
                .get_or_insert_with(|| Arc::new(NetworkGraph::index(Arc::clone(tables)))),
        )
    }

    /// Whether the last snapshot is still current.
    pub const fn is_unchanged(&self) -> bool {
        self.snapshot.is_some()
    }

    /// How many channels are known.
    pub fn channel_count(&self) -> usize {
        self.tables.channels.len()
    }

    /// How many nodes have a channel.
    pub fn node_count(&self) -> usize {
        self.tables.nodes_by_id.len()
    }

    /// A channel as it is now.
    pub fn channel(&self, short_channel_id: ShortChannelId) -> Option<ChannelInfo> {
        let index = self.tables.find_channel(short_channel_id)?;
        Some(self.tables.channel_info(index))
    }

    fn known_channel(&self, id: ShortChannelId) -> Result<ChannelIndex, GraphError> {
        self.tables
            .find_channel(id)
            .ok_or(GraphError::UnknownChannel)
    }

    /// Whether a channel is known.
    pub fn has_channel(&self, short_channel_id: ShortChannelId) -> bool {
        self.tables.find_channel(short_channel_id).is_some()
    }

    /// Whether a node has a channel.
    pub fn has_node(&self, id: &NodeId) -> bool {
        self.tables.find_node(id).is_some()
    }

    /// What a node announced of itself.
    pub fn node_details(&self, id: &NodeId) -> Option<NodeDetails> {
        self.tables.node_details(self.tables.find_node(id)?)
    }

    /// The channels whose short id lies in `from..=to`, in order.
    pub fn channels_between(
        &self,
        from: ShortChannelId,
        to: ShortChannelId,
    ) -> impl Iterator<Item = ShortChannelId> + '_ {
        let (Ok(start) | Err(start)) = self.tables.channel_position(from);
        self.tables.channels_by_scid[start..]
            .iter()
            .map(|i| self.tables.channels[*i as usize].short_channel_id)
            .take_while(move |scid| *scid <= to)
    }

    /// Adds a channel.
    pub fn add_channel(&mut self, new: &NewChannel) -> Result<(), GraphError> {
        if new.node_1 >= new.node_2 {
            return Err(GraphError::NodesNotOrdered);
        }
        let Err(position) = self.tables.channel_position(new.short_channel_id) else {
            return Err(GraphError::KnownChannel);
        };
        let index = u32::try_from(self.tables.channels.len()).map_err(|_| GraphError::Full)?;
        if self.tables.nodes.len() + 2 >= u32::MAX as usize {
            return Err(GraphError::Full);
        }
        let features = new.features.to_be_bytes();
        if features.len() > usize::from(u16::MAX) {
            return Err(GraphError::TooLong);
        }
        self.tables.check_room()?;
        let tables = self.edit();
        let nodes = [
            tables.node_or_insert(&new.node_1),
            tables.node_or_insert(&new.node_2),
        ];
        for node in nodes {
            tables.nodes[node as usize].degree += 1;
        }
        let (offset, features_len) = tables.store(&[&features]);
        tables.channels.push(Channel {
            short_channel_id: new.short_channel_id,
            capacity_sat: new.capacity.map_or(0, Amount::to_sat),
            policies: [None, None],
            nodes,
            features: offset,
            features_len,
            unknown_even_features: has_unknown_even_bit(&features),
            spent_at: 0,
        });
        tables.channels_by_scid.insert(position, index);
        Ok(())
    }

    /// A channel that a snapshot told of is announced by its ends: what they have signed counts. Its policies
    /// stay, unless the snapshot was wrong about the ends.
    pub fn confirm_channel(&mut self, new: &NewChannel) -> Result<(), GraphError> {
        let known = self.known_channel(new.short_channel_id)?;
        let info = self.tables.channel_info(known);
        if (info.node_1, info.node_2) != (new.node_1, new.node_2) {
            if new.node_1 >= new.node_2 {
                return Err(GraphError::NodesNotOrdered);
            }
            self.remove_channel(new.short_channel_id)?;
            return self.add_channel(new);
        }
        let features = new.features.to_be_bytes();
        if features.len() > usize::from(u16::MAX) {
            return Err(GraphError::TooLong);
        }
        self.tables.check_room()?;
        let tables = self.edit();
        let (offset, features_len) = tables.store(&[&features]);
        let channel = &mut tables.channels[known.to_usize()];
        tables.garbage += usize::from(channel.features_len);
        channel.features = offset;
        channel.features_len = features_len;
        channel.unknown_even_features = has_unknown_even_bit(&features);
        if let Some(capacity) = new.capacity {
            channel.capacity_sat = capacity.to_sat();
        }
        Ok(())
    }

    /// Sets a policy whatever the time of the one known: for what is signed where the graph has what is not.
    pub fn set_policy(
        &mut self,
        short_channel_id: ShortChannelId,
        direction: Direction,
        policy: Policy,
    ) -> Result<(), GraphError> {
        let index = self.known_channel(short_channel_id)?;
        self.edit().channels[index.to_usize()].policies[direction.to_usize()] = Some(policy);
        Ok(())
    }

    /// Applies a `channel_update` that is newer than the one known.
    pub fn update_policy(
        &mut self,
        short_channel_id: ShortChannelId,
        direction: Direction,
        policy: Policy,
    ) -> Result<(), GraphError> {
        let index = self.known_channel(short_channel_id)?;
        let known = self.tables.channels[index.to_usize()].policies[direction.to_usize()];
        if known.is_some_and(|known| known.timestamp >= policy.timestamp) {
            return Err(GraphError::NotNewer);
        }
        self.edit().channels[index.to_usize()].policies[direction.to_usize()] = Some(policy);
        Ok(())
    }

    /// Applies a `node_announcement` that is newer than the one known.
    pub fn update_node(&mut self, id: &NodeId, new: &NewNodeDetails<'_>) -> Result<(), GraphError> {
        let index = self.tables.find_node(id).ok_or(GraphError::UnknownNode)?;
        if self.tables.nodes[index.to_usize()].timestamp >= new.timestamp {
            return Err(GraphError::NotNewer);
        }
        self.set_node(id, new)
    }

    /// Sets a node's details whatever the time of those known: for what is signed where the graph has what
    /// is not.
    pub fn set_node(&mut self, id: &NodeId, new: &NewNodeDetails<'_>) -> Result<(), GraphError> {
        let index = self.tables.find_node(id).ok_or(GraphError::UnknownNode)?;
        let features = new.features.to_be_bytes();
        if features.len() + new.addresses.len() + 35 > usize::from(u16::MAX) {
            return Err(GraphError::TooLong);
        }
        let features_len = u16::try_from(features.len()).map_err(|_| GraphError::TooLong)?;
        let addresses_len = u16::try_from(new.addresses.len()).map_err(|_| GraphError::TooLong)?;
        self.tables.check_room()?;
        let tables = self.edit();
        tables.forget_details(index);
        let (details, _) = tables.store(&[&features, &new.rgb_color, &new.alias, new.addresses]);
        let node = &mut tables.nodes[index.to_usize()];
        node.timestamp = new.timestamp;
        node.details = details;
        node.features_len = features_len;
        node.addresses_len = addresses_len;
        Ok(())
    }

    /// Notes what the funding output holds.
    pub fn set_capacity(
        &mut self,
        short_channel_id: ShortChannelId,
        capacity: Amount,
    ) -> Result<(), GraphError> {
        let index = self.known_channel(short_channel_id)?;
        if self.tables.channels[index.to_usize()].capacity_sat != capacity.to_sat() {
            self.edit().channels[index.to_usize()].capacity_sat = capacity.to_sat();
        }
        Ok(())
    }

    /// Notes that the funding output was spent at a height, or (after a reorganisation) was not.
    pub fn set_spent(
        &mut self,
        short_channel_id: ShortChannelId,
        spent_at: Option<u32>,
    ) -> Result<(), GraphError> {
        let index = self.known_channel(short_channel_id)?;
        let spent_at = spent_at.unwrap_or(0);
        if self.tables.channels[index.to_usize()].spent_at != spent_at {
            self.edit().channels[index.to_usize()].spent_at = spent_at;
        }
        Ok(())
    }

    /// Forgets a channel, and its nodes when it was their last. The nodes so forgotten are returned.
    pub fn remove_channel(
        &mut self,
        short_channel_id: ShortChannelId,
    ) -> Result<Vec<NodeId>, GraphError> {
        let Ok(position) = self.tables.channel_position(short_channel_id) else {
            return Err(GraphError::UnknownChannel);
        };
        let tables = self.edit();
        let index = tables.channels_by_scid.remove(position);
        let removed = tables.channels.swap_remove(index as usize);
        tables.garbage += usize::from(removed.features_len);
        // The last channel now has the index of the removed one.
        if let Some(moved) = tables.channels.get(index as usize) {
            let scid = moved.short_channel_id;
            let from = u32::try_from(tables.channels.len()).unwrap_or(u32::MAX);
            if let Ok(place) = tables.channels_by_scid.binary_search_by(|i| {
                let at = if *i == from { index } else { *i };
                tables.channels[at as usize].short_channel_id.cmp(&scid)
            }) {
                tables.channels_by_scid[place] = index;
            }
        }
        let mut gone = Vec::new();
        for node in removed.nodes {
            let slot = &mut tables.nodes[node as usize];
            slot.degree -= 1;
            if slot.degree == 0 {
                let id = slot.id;
                gone.push(id);
                tables.forget_details(NodeIndex(node));
                if let Ok(position) = tables.node_position(&id) {
                    tables.nodes_by_id.remove(position);
                }
                tables.free_nodes.push(node);
            }
        }
        tables.collect_garbage();
        Ok(gone)
    }

    /// Forgets many channels in one pass, and the nodes whose last they were, which are returned. Unknown
    /// ones are left out.
    pub fn remove_channels(&mut self, gone: &[ShortChannelId]) -> Vec<NodeId> {
        // One by one each moves half an array.
        if gone.len() < 16 {
            let removed = gone
                .iter()
                .filter_map(|scid| self.remove_channel(*scid).ok());
            return removed.flatten().collect();
        }
        let tables = self.edit();
        let mut is_gone = alloc::vec![false; tables.channels.len()];
        for index in gone.iter().filter_map(|scid| tables.find_channel(*scid)) {
            is_gone[index.to_usize()] = true;
        }
        let known = core::mem::take(&mut tables.channels);
        let mut moved_to = Vec::with_capacity(known.len());
        tables.channels.reserve_exact(known.len());
        for (channel, is_gone) in known.into_iter().zip(&is_gone) {
            moved_to.push(u32::try_from(tables.channels.len()).unwrap_or(u32::MAX));
            if *is_gone {
                tables.garbage += usize::from(channel.features_len);
                for node in channel.nodes {
                    tables.nodes[node as usize].degree -= 1;
                }
            } else {
                tables.channels.push(channel);
            }
        }
        tables
            .channels_by_scid
            .retain(|index| !is_gone[*index as usize]);
        for index in &mut tables.channels_by_scid {
            *index = moved_to[*index as usize];
        }
        let nodes_by_id = core::mem::take(&mut tables.nodes_by_id);
        let (left, free): (Vec<u32>, Vec<u32>) = nodes_by_id
            .into_iter()
            .partition(|node| tables.nodes[*node as usize].degree > 0);
        tables.nodes_by_id = left;
        let mut nodes_gone = Vec::with_capacity(free.len());
        for node in free {
            tables.forget_details(NodeIndex(node));
            nodes_gone.push(tables.nodes[node as usize].id);
            tables.free_nodes.push(node);
        }
        tables.collect_garbage();
        nodes_gone
    }

    /// Channels of which neither end has a policy.
    pub fn speechless(&self) -> impl Iterator<Item = ShortChannelId> + '_ {
        let all = self.tables.channels.iter();
        all.filter(|channel| channel.policies.iter().all(Option::is_none))
            .map(|channel| channel.short_channel_id)
    }

    /// Channels that ought to be forgotten: spent 72 blocks ago, or with an end that sent no update
    /// for two weeks (`stale_before`, seconds since 1970).
    pub fn forgettable(
        &self,
        tip: u32,
        stale_before: u32,
    ) -> impl Iterator<Item = ShortChannelId> + '_ {
        self.tables
            .channels
            .iter()
            .filter(move |channel| {
                // BOLT 7, Pruning the Network View: spent with 72 confirmations.
                let spent = channel.spent_at != 0 && tip.saturating_sub(channel.spent_at) + 1 >= 72;
                // BOLT 7, Pruning Stale Entries: both ends must be alive.
                let stale = channel
                    .policies
                    .iter()
                    .flatten()
                    .any(|policy| policy.timestamp < stale_before);
                spent || stale
            })
            .map(|channel| channel.short_channel_id)
    }

    /// The chain that the channels are on.
    pub fn chain_hash(&self) -> ChainHash {
        self.tables.chain_hash
    }

    /// Up to when snapshots without signatures had heard the network; 0 when none was applied.
    pub fn unsigned_until(&self) -> u32 {
        self.tables.unsigned_until
    }

    pub(super) fn edit(&mut self) -> &mut Tables {
        self.snapshot = None;
        Arc::make_mut(&mut self.tables)
    }
}

impl Tables {
    /// Offsets into the arena have 32 bits.
    pub(super) fn check_room(&self) -> Result<(), GraphError> {
        if self.arena.len() > (u32::MAX / 2) as usize {
            return Err(GraphError::Full);
        }
        Ok(())
    }

    /// Appends bytes to the arena; gives their offset and whole length.
    pub(super) fn store(&mut self, parts: &[&[u8]]) -> (u32, u16) {
        let offset = u32::try_from(self.arena.len()).unwrap_or(u32::MAX);
        for part in parts {
            self.arena.extend_from_slice(part);
        }
        let len = self.arena.len() - offset as usize;
        (offset, u16::try_from(len).unwrap_or(u16::MAX))
    }

    fn node_or_insert(&mut self, id: &NodeId) -> u32 {
        match self.node_position(id) {
            Ok(position) => self.nodes_by_id[position],
            Err(position) => {
                let index = self.place_node(Node::unannounced(*id));
                self.nodes_by_id.insert(position, index);
                index
            }
        }
    }

    /// Gives a node a slot. Its place in the order of ids is up to the caller.
    pub(super) fn place_node(&mut self, node: Node) -> u32 {
        if let Some(index) = self.free_nodes.pop() {
            self.nodes[index as usize] = node;
            index
        } else {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
        }
    }

    pub(super) fn forget_details(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index.to_usize()];
        if node.timestamp != 0 {
            self.garbage += 35 + usize::from(node.features_len) + usize::from(node.addresses_len);
        }
        node.timestamp = 0;
        node.features_len = 0;
        node.addresses_len = 0;
        if self.garbage > 1 << 16 && self.garbage > self.arena.len() / 2 {
            self.collect_garbage();
        }
    }

    /// Rewrites the arena when more than half of it is garbage.
    fn collect_garbage(&mut self) {
        if self.garbage <= 1 << 16 || self.garbage <= self.arena.len() / 2 {
            return;
        }
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage);
        for node in self.nodes.iter_mut().filter(|n| n.timestamp != 0) {
            let len = 35 + usize::from(node.features_len) + usize::from(node.addresses_len);
            let start = node.details as usize;
            node.details = u32::try_from(arena.len()).unwrap_or(u32::MAX);
            arena.extend_from_slice(&self.arena[start..start + len]);
        }
        for channel in &mut self.channels {
            let start = channel.features as usize;
            channel.features = u32::try_from(arena.len()).unwrap_or(u32::MAX);
            arena.extend_from_slice(&self.arena[start..start + usize::from(channel.features_len)]);
        }
        self.arena = arena;
        self.garbage = 0;
    }

    pub(super) fn channel_at(&self, index: ChannelIndex) -> &Channel {
        &self.channels[index.to_usize()]
    }
}
