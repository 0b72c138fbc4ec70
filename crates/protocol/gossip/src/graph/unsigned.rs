//! Changes that nobody has signed: what a server of snapshots says of the network (rapid gossip sync).
//!
//! They are worth less than gossip. They never touch our own channels, never take the place of anything
//! with a newer time, and get a time that is a week old, so that what the network signs meanwhile goes
//! before them. Nothing of them can be passed on.

use alloc::{collections::BTreeSet, vec::Vec};

use bitcoin::{Amount, constants::ChainHash};
use fulmen_types::{CltvExpiryDelta, Msat, NodeId, ShortChannelId};

use super::{
    Channel, Direction, GraphError, GraphWriter, Node, NodeIndex, Policy, Tables,
    has_unknown_even_bit,
};

/// Bytes of [`UnsignedGraph::keep`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    start: u32,
    len: u16,
}

/// What a snapshot says, decoded and not yet applied. Lists are in the order of the snapshot: channels and
/// policies by rising short id; what is not in order is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedGraph {
    /// The chain that the channels are on.
    pub chain_hash: ChainHash,
    /// Up to when its maker had heard the network, in seconds since 1970: what to ask for changes since.
    pub seen_until: u32,
    /// The time that all of it gets in the graph, in seconds since 1970.
    pub timestamp: u32,
    /// The nodes that the rest names by their place in this list.
    pub nodes: Vec<NodeId>,
    /// What some nodes say of themselves.
    pub details: Vec<UnsignedNode>,
    /// Channels that the reader may not know.
    pub channels: Vec<UnsignedChannel>,
    /// Policies that are new or have changed.
    pub policies: Vec<UnsignedPolicy>,
    bytes: Vec<u8>,
}

/// What has changed of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsignedNode {
    /// Its place in [`UnsignedGraph::nodes`].
    pub node: u32,
    /// Its features, big-endian, if they have changed.
    pub features: Option<Kept>,
    /// Its address descriptors as on the wire (BOLT 7), if they have changed.
    pub addresses: Option<Kept>,
}

/// A channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsignedChannel {
    /// Its place in the chain.
    pub short_channel_id: ShortChannelId,
    /// The places of the lesser and of the greater key in [`UnsignedGraph::nodes`].
    pub nodes: [u32; 2],
    /// The channel's features, big-endian.
    pub features: Kept,
    /// The funding output's value, where it is said.
    pub capacity: Option<Amount>,
}

/// A policy of one end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsignedPolicy {
    /// The channel.
    pub short_channel_id: ShortChannelId,
    /// Which end.
    pub direction: Direction,
    /// The `disable` bit.
    pub disabled: bool,
    /// What it asks for.
    pub terms: UnsignedTerms,
}

/// What one end asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsignedTerms {
    /// All of it.
    Full(Terms),
    /// What has changed since; of no use to who does not know the rest.
    Changed(ChangedTerms),
}

/// All that one end asks for, with the units of [`Policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Blocks between the incoming and the outgoing expiry.
    pub cltv_expiry_delta: CltvExpiryDelta,
    /// The least that an HTLC may carry.
    pub htlc_minimum: Msat,
    /// Fee for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// Fee in millionths of the forwarded amount.
    pub fee_proportional_millionths: u32,
    /// The most that an HTLC may carry.
    pub htlc_maximum: Msat,
}

impl From<&Policy> for Terms {
    fn from(policy: &Policy) -> Self {
        Self {
            cltv_expiry_delta: policy.cltv_expiry_delta,
            htlc_minimum: policy.htlc_minimum,
            fee_base_msat: policy.fee_base_msat,
            fee_proportional_millionths: policy.fee_proportional_millionths,
            htlc_maximum: policy.htlc_maximum,
        }
    }
}

/// The parts of [`Terms`] that have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangedTerms {
    /// Blocks between the incoming and the outgoing expiry.
    pub cltv_expiry_delta: Option<CltvExpiryDelta>,
    /// The least that an HTLC may carry.
    pub htlc_minimum: Option<Msat>,
    /// Fee for any HTLC, in msat.
    pub fee_base_msat: Option<u32>,
    /// Fee in millionths of the forwarded amount.
    pub fee_proportional_millionths: Option<u32>,
    /// The most that an HTLC may carry.
    pub htlc_maximum: Option<Msat>,
}

impl ChangedTerms {
    /// The terms after the change.
    #[must_use]
    pub fn applied_to(&self, terms: Terms) -> Terms {
        Terms {
            cltv_expiry_delta: self.cltv_expiry_delta.unwrap_or(terms.cltv_expiry_delta),
            htlc_minimum: self.htlc_minimum.unwrap_or(terms.htlc_minimum),
            fee_base_msat: self.fee_base_msat.unwrap_or(terms.fee_base_msat),
            fee_proportional_millionths: self
                .fee_proportional_millionths
                .unwrap_or(terms.fee_proportional_millionths),
            htlc_maximum: self.htlc_maximum.unwrap_or(terms.htlc_maximum),
        }
    }
}

impl UnsignedGraph {
    /// One that says nothing.
    pub const fn new(chain_hash: ChainHash, seen_until: u32, timestamp: u32) -> Self {
        Self {
            chain_hash,
            seen_until,
            timestamp,
            nodes: Vec::new(),
            details: Vec::new(),
            channels: Vec::new(),
            policies: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Keeps features or addresses for the lists. Nothing for no bytes.
    ///
    /// # Errors
    /// [`GraphError::TooLong`] above 65,535 bytes, [`GraphError::Full`] above 4 GiB in all.
    pub fn keep(&mut self, bytes: &[u8]) -> Result<Kept, GraphError> {
        if bytes.is_empty() {
            return Ok(Kept::default());
        }
        let kept = Kept {
            start: u32::try_from(self.bytes.len()).map_err(|_| GraphError::Full)?,
            len: u16::try_from(bytes.len()).map_err(|_| GraphError::TooLong)?,
        };
        self.bytes.extend_from_slice(bytes);
        Ok(kept)
    }

    /// What was kept; nothing for what another one kept.
    pub fn kept(&self, kept: Kept) -> &[u8] {
        let start = kept.start as usize;
        let end = start.saturating_add(usize::from(kept.len));
        self.bytes.get(start..end).unwrap_or(&[])
    }
}

/// What a snapshot can't change.
#[derive(Clone, Copy, Debug)]
pub struct UnsignedRules<'a> {
    /// Our own node: its channels and details are left alone.
    pub us: &'a NodeId,
    /// Names of channels of ours, which nobody else's channel can have.
    pub own_channels: &'a BTreeSet<ShortChannelId>,
    /// No channel is added once there are so many.
    pub max_channels: usize,
}

/// What came of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnsignedApplied {
    /// Channels that were not known.
    pub channels_added: usize,
    /// Channels that there was no room for, or that make no sense.
    pub channels_refused: usize,
    /// Policies that are now in the graph.
    pub policies_set: usize,
    /// Policies of unknown channels, not newer than what is known, or above the channel's capacity.
    pub policies_skipped: usize,
    /// Nodes whose details are now in the graph.
    pub nodes_set: usize,
}

impl GraphWriter {
    /// Applies a snapshot. Never overwrites what is not older than [`UnsignedGraph::timestamp`], nor what the
    /// rules leave out. What makes no sense is skipped and counted. Another chain's is skipped whole.
    pub fn apply_unsigned(
        &mut self,
        changes: &UnsignedGraph,
        rules: &UnsignedRules<'_>,
    ) -> UnsignedApplied {
        let mut applied = UnsignedApplied::default();
        if changes.chain_hash != self.chain_hash() || changes.timestamp == 0 {
            return applied;
        }
        let tables = self.edit();
        let mut places = Places::find(tables, &changes.nodes);
        add_channels(tables, changes, &mut places, rules, &mut applied);
        places.merge_fresh(tables, &changes.nodes);
        set_policies(tables, changes, rules.us, &mut applied);
        set_details(tables, changes, &places, rules.us, &mut applied);
        tables.unsigned_until = tables.unsigned_until.max(changes.seen_until);
        applied
    }
}

const NOWHERE: u32 = u32::MAX;

/// Where the nodes of a snapshot are in the graph.
struct Places {
    /// The snapshot's nodes in the order of their ids, each id once.
    order: Vec<u32>,
    /// For each node of the snapshot the first one of the same id.
    first: Vec<u32>,
    /// For those the place in the graph.
    at: Vec<u32>,
    fresh: Vec<bool>,
}

impl Places {
    fn find(tables: &Tables, nodes: &[NodeId]) -> Self {
        // Eight bytes decide nearly always, and lie in the array that is sorted.
        let mut keys: Vec<(u64, u32)> =
            (0u32..).zip(nodes).map(|(i, id)| (prefix(id), i)).collect();
        keys.sort_unstable_by(|(key_a, a), (key_b, b)| {
            key_a
                .cmp(key_b)
                .then_with(|| nodes[*a as usize].cmp(&nodes[*b as usize]))
                .then_with(|| a.cmp(b))
        });
        let mut places = Self {
            order: Vec::with_capacity(nodes.len()),
            first: alloc::vec![0; nodes.len()],
            at: alloc::vec![NOWHERE; nodes.len()],
            fresh: alloc::vec![false; nodes.len()],
        };
        let mut position = 0;
        for (_, node) in keys {
            let id = &nodes[node as usize];
            if let Some(last) = places.order.last()
                && nodes[*last as usize] == *id
            {
                places.first[node as usize] = *last;
                continue;
            }
            places.first[node as usize] = node;
            places.order.push(node);
            let known = &tables.nodes_by_id;
            position = advance(known.len(), position, |i| {
                tables.nodes[known[i] as usize].id < *id
            });
            if let Some(index) = known.get(position)
                && tables.nodes[*index as usize].id == *id
            {
                places.at[node as usize] = *index;
            }
        }
        places
    }

    /// The place in the graph of a node of the snapshot, [`NOWHERE`] when it has none.
    fn get(&self, node: u32) -> Option<u32> {
        let first = *self.first.get(node as usize)?;
        self.at.get(first as usize).copied()
    }

    fn get_or_add(&mut self, tables: &mut Tables, nodes: &[NodeId], node: u32) -> u32 {
        let first = self.first[node as usize] as usize;
        if self.at[first] == NOWHERE {
            self.at[first] = tables.place_node(Node::unannounced(nodes[first]));
            self.fresh[first] = true;
        }
        self.at[first]
    }

    /// Puts the nodes that were added in their places in the order of ids.
    fn merge_fresh(&self, tables: &mut Tables, nodes: &[NodeId]) {
        if !self.fresh.contains(&true) {
            return;
        }
        let known = core::mem::take(&mut tables.nodes_by_id);
        let mut merged = Vec::with_capacity(known.len() + self.order.len());
        let mut done = 0;
        for node in self.order.iter().filter(|n| self.fresh[**n as usize]) {
            let id = &nodes[*node as usize];
            let to = advance(known.len(), done, |i| {
                tables.nodes[known[i] as usize].id < *id
            });
            merged.extend_from_slice(&known[done..to]);
            merged.push(self.at[*node as usize]);
            done = to;
        }
        merged.extend_from_slice(&known[done..]);
        tables.nodes_by_id = merged;
    }
}

fn prefix(id: &NodeId) -> u64 {
    id.as_bytes()
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn add_channels(
    tables: &mut Tables,
    changes: &UnsignedGraph,
    places: &mut Places,
    rules: &UnsignedRules<'_>,
    applied: &mut UnsignedApplied,
) {
    let nodes = &changes.nodes;
    let known = core::mem::take(&mut tables.channels_by_scid);
    let mut merged = Vec::with_capacity(known.len() + changes.channels.len());
    let room = rules
        .max_channels
        .saturating_sub(tables.channels.len())
        .min(changes.channels.len());
    tables.channels.reserve(room);
    let mut done = 0;
    let mut last = None;
    for new in &changes.channels {
        let scid = new.short_channel_id;
        let is_in_order = last.is_none_or(|last| last < scid);
        if !is_in_order {
            applied.channels_refused += 1;
            continue;
        }
        last = Some(scid);
        let to = advance(known.len(), done, |i| {
            tables.channels[known[i] as usize].short_channel_id < scid
        });
        merged.extend_from_slice(&known[done..to]);
        done = to;
        let next = known
            .get(done)
            .map(|i| tables.channels[*i as usize].short_channel_id);
        if next == Some(scid) {
            continue;
        }
        let ids = new.nodes.map(|node| nodes.get(node as usize));
        let [Some(node_1), Some(node_2)] = ids else {
            applied.channels_refused += 1;
            continue;
        };
        let index = u32::try_from(tables.channels.len()).unwrap_or(u32::MAX);
        let is_full = tables.channels.len() >= rules.max_channels.min(u32::MAX as usize)
            || tables.nodes.len() + 2 >= NOWHERE as usize
            || tables.check_room().is_err();
        let is_ours = [node_1, node_2].contains(&rules.us) || rules.own_channels.contains(&scid);
        if is_full || is_ours || node_1 >= node_2 {
            applied.channels_refused += 1;
            continue;
        }
        let ends = new.nodes.map(|node| places.get_or_add(tables, nodes, node));
        for end in ends {
            tables.nodes[end as usize].degree += 1;
        }
        let features = changes.kept(new.features);
        let (offset, features_len) = tables.store(&[features]);
        tables.channels.push(Channel {
            short_channel_id: scid,
            capacity_sat: new.capacity.map_or(0, Amount::to_sat),
            policies: [None, None],
            nodes: ends,
            features: offset,
            features_len,
            unknown_even_features: has_unknown_even_bit(features),
            spent_at: 0,
        });
        merged.push(index);
        applied.channels_added += 1;
    }
    merged.extend_from_slice(&known[done..]);
    tables.channels_by_scid = merged;
}

fn set_policies(
    tables: &mut Tables,
    changes: &UnsignedGraph,
    us: &NodeId,
    applied: &mut UnsignedApplied,
) {
    let us = tables.find_node(us).map(|index| index.0);
    let mut position = 0;
    let mut last = ShortChannelId::from_u64(0);
    for new in &changes.policies {
        if new.short_channel_id < last {
            position = 0;
        }
        last = new.short_channel_id;
        position = advance(tables.channels_by_scid.len(), position, |i| {
            let index = tables.channels_by_scid[i] as usize;
            tables.channels[index].short_channel_id < last
        });
        let channel = tables
            .channels_by_scid
            .get(position)
            .and_then(|index| tables.channels.get_mut(*index as usize))
            .filter(|channel| channel.short_channel_id == last);
        let set = channel.is_some_and(|channel| {
            let is_ours = us.is_some_and(|us| channel.nodes.contains(&us));
            !is_ours && set_policy(channel, new, changes.timestamp)
        });
        if set {
            applied.policies_set += 1;
        } else {
            applied.policies_skipped += 1;
        }
    }
}

fn set_policy(channel: &mut Channel, new: &UnsignedPolicy, timestamp: u32) -> bool {
    let slot = &mut channel.policies[new.direction.to_usize()];
    if slot.is_some_and(|known| known.timestamp >= timestamp) {
        return false;
    }
    let terms = match (&new.terms, slot.as_ref()) {
        (UnsignedTerms::Full(terms), _) => *terms,
        (UnsignedTerms::Changed(changed), Some(known)) => changed.applied_to(Terms::from(known)),
        (UnsignedTerms::Changed(_), None) => return false,
    };
    let most = match channel.capacity_sat {
        0 => Amount::MAX_MONEY.to_sat(),
        capacity => capacity,
    };
    if terms.htlc_maximum > Msat::from_sat(most) {
        return false;
    }
    *slot = Some(Policy {
        htlc_minimum: terms.htlc_minimum,
        htlc_maximum: terms.htlc_maximum,
        timestamp,
        fee_base_msat: terms.fee_base_msat,
        fee_proportional_millionths: terms.fee_proportional_millionths,
        cltv_expiry_delta: terms.cltv_expiry_delta,
        disabled: new.disabled,
    });
    true
}

fn set_details(
    tables: &mut Tables,
    changes: &UnsignedGraph,
    places: &Places,
    us: &NodeId,
    applied: &mut UnsignedApplied,
) {
    for new in &changes.details {
        let Some(index) = places.get(new.node).filter(|place| *place != NOWHERE) else {
            continue;
        };
        let node = &tables.nodes[index as usize];
        if node.id == *us || node.timestamp >= changes.timestamp {
            continue;
        }
        // What is not said stays as it is.
        let known = tables.node_details(NodeIndex(index));
        let (known_features, rgb_color, alias, known_addresses) = match known {
            Some(known) => (
                known.features.to_be_bytes(),
                known.rgb_color,
                known.alias,
                known.addresses,
            ),
            None => (Vec::new(), [0; 3], [0; 32], Vec::new()),
        };
        let features = new
            .features
            .map_or(&known_features[..], |kept| changes.kept(kept));
        let addresses = new
            .addresses
            .map_or(&known_addresses[..], |kept| changes.kept(kept));
        let (Ok(features_len), Ok(addresses_len)) = (
            u16::try_from(features.len()),
            u16::try_from(addresses.len()),
        ) else {
            continue;
        };
        let is_too_long = features.len() + addresses.len() + 35 > usize::from(u16::MAX);
        if is_too_long || tables.check_room().is_err() {
            continue;
        }
        tables.forget_details(NodeIndex(index));
        let (details, _) = tables.store(&[features, &rgb_color, &alias, addresses]);
        let node = &mut tables.nodes[index as usize];
        node.timestamp = changes.timestamp;
        node.details = details;
        node.features_len = features_len;
        node.addresses_len = addresses_len;
        applied.nodes_set += 1;
    }
}

/// The first position from `from` on where `is_before` no longer holds, near ones first.
fn advance(len: usize, from: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let mut low = from;
    let mut step = 1;
    while low < len && is_before(low) {
        let next = low.saturating_add(step);
        if next >= len || !is_before(next) {
            // Somewhere between the two.
            let (mut low, mut high) = (low + 1, next.min(len));
            while low < high {
                let middle = low + (high - low) / 2;
                if is_before(middle) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            return low;
        }
        low = next;
        step *= 2;
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advance_finds_what_a_plain_search_finds() {
        let sorted: Vec<usize> = (0..50).map(|i| i * 3).collect();
        for from in 0..=sorted.len() {
            for wanted in 0..160 {
                let found = advance(sorted.len(), from, |i| sorted[i] < wanted);
                let plain = (from..sorted.len()).find(|i| sorted[*i] >= wanted);
                assert_eq!(found, plain.unwrap_or(sorted.len()), "{wanted} from {from}");
            }
        }
    }
}
