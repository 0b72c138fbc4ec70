//! Making snapshots from a graph, without IO.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use fulmen_gossip::{ChannelInfo, Direction, NetworkGraph, NodeDetails, SignedTimes, Terms};
use fulmen_types::{
    CltvExpiryDelta, Msat, NodeId, ShortChannelId, Timestamp,
    codec::{BigSize, Decode, Encode, Reader},
};
use fulmen_wire::NetAddress;

use crate::format::{
    CHANNEL_EXTRA, DAY_SECS, MAX_DEFAULT_FEATURES, MAX_DEFAULT_FEATURES_LEN, PREFIX, STALE_SECS,
    node, update,
};

/// An update may have taken this long to us, or have a time that is behind by as much: changes since a
/// time are those since so much before it.
const LATE_SECS: u32 = DAY_SECS / 2;
/// What does not change is repeated so often, before it gets stale with a reader: that is a week after it
/// was last said, and the reader may be a day late.
const REMIND_SECS: u32 = 5 * DAY_SECS;

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// Channels and policies.
    V1,
    /// Capacities, and features and addresses of nodes, too.
    V2,
}

impl Version {
    const fn byte(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    const fn has_details(self) -> bool {
        match self {
            Self::V1 => false,
            Self::V2 => true,
        }
    }
}

/// From when on changes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Everything, for who knows nothing.
    Beginning,
    /// For who has applied a snapshot with this `latest_seen`, in seconds since 1970.
    Seen(u32),
}

/// Writes a snapshot of what `graph` knows at `now`: channels that are not spent and have a policy that
/// is not stale, their nodes and policies.
///
/// A graph does not know when it learned something; what changes since a time are is found out from the
/// times of policies and announcements. A channel that we learned of late, none of whose ends has said
/// anything since, is in no incremental snapshot until one does; the next full one has it.
///
/// With `signed` only what the network has signed is told: who uses snapshots of others does not pass
/// them on.
pub fn encode(
    graph: &NetworkGraph,
    signed: Option<&SignedTimes>,
    version: Version,
    since: Since,
    now: Timestamp,
) -> Vec<u8> {
    let now = u32::try_from(now.to_secs_floor()).unwrap_or(u32::MAX);
    let said = Said::collect(graph, signed, version, since, now);
    let mut out = PREFIX.to_vec();
    out.push(version.byte());
    out.extend_from_slice(graph.chain_hash().as_ref());
    now.encode(&mut out);
    let places = write_nodes(&said, version, &mut out);
    write_channels(&said, version, &places, &mut out);
    write_updates(&said, &mut out);
    out
}

/// What a snapshot says.
struct Said {
    channels: Vec<ChannelInfo>,
    updates: Vec<Update>,
    details: BTreeMap<NodeId, NodeDetails>,
}

struct Update {
    short_channel_id: ShortChannelId,
    direction: Direction,
    disabled: bool,
    /// `None` for a reminder: nothing has changed.
    terms: Option<Terms>,
}

impl Said {
    fn collect(
        graph: &NetworkGraph,
        signed: Option<&SignedTimes>,
        version: Version,
        since: Since,
        now: u32,
    ) -> Self {
        let alive_from = now.saturating_sub(STALE_SECS);
        let changed_from = match since {
            Since::Beginning => 0,
            Since::Seen(seen) => seen.saturating_sub(LATE_SECS),
        };
        let mut said = Self {
            channels: Vec::new(),
            updates: Vec::new(),
            details: BTreeMap::new(),
        };
        let mut nodes = BTreeSet::new();
        for channel in graph.channels() {
            let scid = channel.short_channel_id;
            let times = signed.map(|signed| signed.channel(scid));
            // Not one word of the network about it.
            if channel.spent_at.is_some() || times == Some(None) {
                continue;
            }
            let mut is_new = false;
            for direction in [Direction::Forward, Direction::Backward] {
                let Some(policy) = channel.policy(direction) else {
                    continue;
                };
                let time = policy.timestamp;
                let is_signed = times.flatten().is_none_or(|times| match direction {
                    Direction::Forward => times[0] == time,
                    Direction::Backward => times[1] == time,
                });
                if time < alive_from || !is_signed {
                    continue;
                }
                let has_changed = time >= changed_from;
                is_new |= has_changed;
                let is_due = match since {
                    Since::Beginning => false,
                    Since::Seen(seen) => {
                        age(time, seen) / REMIND_SECS != age(time, now) / REMIND_SECS
                    }
                };
                if has_changed || is_due {
                    said.updates.push(Update {
                        short_channel_id: scid,
                        direction,
                        disabled: policy.disabled,
                        terms: has_changed.then(|| Terms::from(policy)),
                    });
                }
            }
            nodes.extend([channel.node_1, channel.node_2]);
            if is_new {
                said.channels.push(channel);
            }
        }
        if version.has_details() {
            for id in nodes {
                let Some(details) = graph.node_details(&id) else {
                    continue;
                };
                let is_signed =
                    signed.is_none_or(|signed| signed.node(&id) == Some(details.timestamp));
                if details.timestamp >= changed_from && is_signed {
                    said.details.insert(id, details);
                }
            }
        }
        said
    }
}

const fn age(time: u32, now: u32) -> u32 {
    now.saturating_sub(time)
}

/// Writes the nodes; gives the place of each. Those with the most channels go first: their places take
/// fewer bytes.
fn write_nodes(said: &Said, version: Version, out: &mut Vec<u8>) -> BTreeMap<NodeId, u32> {
    let mut uses: BTreeMap<NodeId, u32> = said.details.keys().map(|id| (*id, 0)).collect();
    for channel in &said.channels {
        for id in [channel.node_1, channel.node_2] {
            *uses.entry(id).or_insert(0) += 1;
        }
    }
    let mut nodes: Vec<(NodeId, u32)> = uses.into_iter().collect();
    nodes.sort_by_key(|(id, uses)| (Reverse(*uses), *id));
    let features: BTreeMap<NodeId, Vec<u8>> = said
        .details
        .iter()
        .map(|(id, details)| (*id, details.features.to_be_bytes()))
        .collect();
    let defaults = most_common(features.values());
    if version.has_details() {
        // At most six.
        out.push(u8::try_from(defaults.len()).unwrap_or(0));
        for default in &defaults {
            write_bytes(default, out);
        }
    }
    count(nodes.len()).encode(out);
    let mut places = BTreeMap::new();
    for (place, (id, _)) in (0u32..).zip(nodes) {
        places.insert(id, place);
        match (said.details.get(&id), features.get(&id)) {
            (Some(details), Some(features)) => {
                write_details(&id, &details.addresses, features, &defaults, out);
            }
            _ => id.encode(out),
        }
    }
    places
}

/// The feature vectors that save the most bytes when they are said once.
fn most_common<'a>(all: impl Iterator<Item = &'a Vec<u8>>) -> Vec<&'a [u8]> {
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    for features in all.filter(|features| features.len() <= MAX_DEFAULT_FEATURES_LEN) {
        *counts.entry(features).or_insert(0) += 1;
    }
    let mut counts: Vec<(&[u8], usize)> = counts.into_iter().filter(|(_, n)| *n > 1).collect();
    counts.sort_by_key(|(features, count)| (Reverse(count * (features.len() + 2)), *features));
    counts.truncate(MAX_DEFAULT_FEATURES);
    counts.into_iter().map(|(features, _)| features).collect()
}

fn write_details(
    id: &NodeId,
    addresses: &[u8],
    features: &[u8],
    defaults: &[&[u8]],
    out: &mut Vec<u8>,
) {
    let default = (1u8..).zip(defaults).find(|(_, known)| **known == features);
    let marker = default.map_or(node::FEATURES_INLINE, |(marker, _)| marker);
    let mut id = id.to_byte_array();
    id[0] |= node::ADDRESSES | marker << node::FEATURES_SHIFT;
    out.extend_from_slice(&id);
    let addresses = descriptors(addresses);
    // At most 255.
    out.push(u8::try_from(addresses.len()).unwrap_or(0));
    for address in addresses {
        out.push(u8::try_from(address.len()).unwrap_or(0));
        out.extend_from_slice(&address);
    }
    if default.is_none() {
        write_bytes(features, out);
    }
}

/// The descriptors of known kinds, those that fit the format, each on its own.
fn descriptors(addresses: &[u8]) -> Vec<Vec<u8>> {
    let mut r = Reader::new(addresses);
    let mut found = Vec::new();
    while !r.is_empty() && found.len() < usize::from(u8::MAX) {
        match NetAddress::decode(&mut r) {
            Ok(NetAddress::Unknown(_)) => {}
            Ok(address) => {
                let bytes = address.to_bytes();
                if bytes.len() <= usize::from(u8::MAX) {
                    found.push(bytes);
                }
            }
            Err(_) => break,
        }
    }
    found
}

fn write_channels(
    said: &Said,
    version: Version,
    places: &BTreeMap<NodeId, u32>,
    out: &mut Vec<u8>,
) {
    count(said.channels.len()).encode(out);
    let mut last = 0;
    for channel in &said.channels {
        write_bytes(&channel.features.to_be_bytes(), out);
        last = write_delta(last, channel.short_channel_id, out);
        // Every node of a channel has its place.
        let place = |id: &NodeId| u64::from(places.get(id).copied().unwrap_or(u32::MAX));
        BigSize(place(&channel.node_1)).encode(out);
        let node_2 = place(&channel.node_2);
        match channel.capacity.filter(|_| version.has_details()) {
            Some(capacity) => {
                BigSize(node_2 | CHANNEL_EXTRA).encode(out);
                write_bytes(&BigSize(capacity.to_sat()).to_bytes(), out);
            }
            None => BigSize(node_2).encode(out),
        }
    }
}

fn write_updates(said: &Said, out: &mut Vec<u8>) {
    count(said.updates.len()).encode(out);
    if said.updates.is_empty() {
        return;
    }
    let all = || said.updates.iter().filter_map(|update| update.terms);
    let defaults = Terms {
        cltv_expiry_delta: CltvExpiryDelta::new(mode(all().map(|t| t.cltv_expiry_delta.to_u16()))),
        htlc_minimum: Msat::new(mode(all().map(|t| t.htlc_minimum.to_msat()))),
        fee_base_msat: mode(all().map(|t| t.fee_base_msat)),
        fee_proportional_millionths: mode(all().map(|t| t.fee_proportional_millionths)),
        htlc_maximum: Msat::new(mode(all().map(|t| t.htlc_maximum.to_msat()))),
    };
    defaults.cltv_expiry_delta.encode(out);
    defaults.htlc_minimum.encode(out);
    defaults.fee_base_msat.encode(out);
    defaults.fee_proportional_millionths.encode(out);
    defaults.htlc_maximum.encode(out);
    let mut last = 0;
    for said in &said.updates {
        last = write_delta(last, said.short_channel_id, out);
        let flags_at = out.len();
        let mut flags = said.direction.to_bit();
        if said.disabled {
            flags |= update::DISABLED;
        }
        out.push(flags);
        let Some(terms) = said.terms else {
            out[flags_at] = flags | update::INCREMENTAL;
            continue;
        };
        if terms.cltv_expiry_delta != defaults.cltv_expiry_delta {
            flags |= update::CLTV;
            terms.cltv_expiry_delta.encode(out);
        }
        if terms.htlc_minimum != defaults.htlc_minimum {
            flags |= update::HTLC_MINIMUM;
            terms.htlc_minimum.encode(out);
        }
        if terms.fee_base_msat != defaults.fee_base_msat {
            flags |= update::FEE_BASE;
            terms.fee_base_msat.encode(out);
        }
        if terms.fee_proportional_millionths != defaults.fee_proportional_millionths {
            flags |= update::FEE_PROPORTIONAL;
            terms.fee_proportional_millionths.encode(out);
        }
        if terms.htlc_maximum != defaults.htlc_maximum {
            flags |= update::HTLC_MAXIMUM;
            terms.htlc_maximum.encode(out);
        }
        out[flags_at] = flags;
    }
}

/// The most frequent value; the least of several, zero of none.
fn mode<T: Ord + Copy + Default>(values: impl Iterator<Item = T>) -> T {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    let most = counts
        .into_iter()
        .max_by_key(|(value, count)| (*count, Reverse(*value)));
    most.map_or(T::default(), |(value, _)| value)
}

fn write_delta(last: u64, scid: ShortChannelId, out: &mut Vec<u8>) -> u64 {
    let scid = scid.to_u64();
    BigSize(scid.saturating_sub(last)).encode(out);
    scid
}

/// Bytes behind a `u16` length; what is longer than that is in no message and in no graph.
fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    u16::try_from(bytes.len()).unwrap_or(0).encode(out);
    if bytes.len() <= usize::from(u16::MAX) {
        out.extend_from_slice(bytes);
    }
}

/// A graph has less than 2^32 of anything.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
