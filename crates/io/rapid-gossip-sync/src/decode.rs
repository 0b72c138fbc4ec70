//! Reading a snapshot, without IO: bytes in, a batch of changes out.

use bitcoin::{Amount, constants::ChainHash};
use fulmen_gossip::{
    ChangedTerms, Direction, Kept, Terms, UnsignedChannel, UnsignedGraph, UnsignedNode,
    UnsignedPolicy, UnsignedTerms,
};
use fulmen_types::{
    NodeId, ShortChannelId, Timestamp,
    codec::{self, BigSize, Decode, Reader},
};
use fulmen_wire::NetAddress;

use crate::{
    error::{DecodeError, Field, Problem},
    format::{
        BACKDATE_SECS, CHANNEL_EXTRA, DAY_SECS, MAX_DEFAULT_FEATURES, MAX_DEFAULT_FEATURES_LEN,
        PREFIX, STALE_SECS, node, update,
    },
};

/// The most nodes, channels and updates of a snapshot: ten times the main network, and room.
const MAX_NODES: usize = 400_000;
const MAX_CHANNELS: usize = 1_000_000;
const MAX_UPDATES: usize = 2_000_000;
/// The least bytes of each.
const NODE_MIN: usize = 33;
const CHANNEL_MIN: usize = 5;
const UPDATE_MIN: usize = 2;

/// Reads a snapshot of version 1 or 2 for a node on `chain`.
///
/// The whole of it is read before anything can be applied, and what it makes us hold is at most about
/// forty times its length. What follows the last update is ignored, as data of later versions is.
///
/// # Errors
/// What is wrong with which field. Data of another chain, older than two weeks or from the future is
/// refused too.
pub fn decode(
    bytes: &[u8],
    chain: ChainHash,
    now: Timestamp,
) -> Result<UnsignedGraph, DecodeError> {
    let mut r = Input(Reader::new(bytes));
    if r.array::<3>(Field::Prefix)? != PREFIX {
        return Err(wrong(Field::Prefix, Problem::NotASnapshot));
    }
    let version = r.value::<u8>(Field::Version)?;
    let has_details = match version {
        1 => false,
        2 => true,
        unknown => return Err(wrong(Field::Version, Problem::UnknownVersion(unknown))),
    };
    if ChainHash::from(r.array::<32>(Field::ChainHash)?) != chain {
        return Err(wrong(Field::ChainHash, Problem::OtherChain));
    }
    let seen_until = r.value::<u32>(Field::LatestSeen)?;
    let now = now.to_secs_floor();
    if u64::from(seen_until) < now.saturating_sub(u64::from(STALE_SECS)) {
        return Err(wrong(Field::LatestSeen, Problem::TooOld));
    }
    // It would keep out what the network signs.
    if u64::from(seen_until) > now.saturating_add(u64::from(DAY_SECS)) {
        return Err(wrong(Field::LatestSeen, Problem::FromTheFuture));
    }
    let timestamp = seen_until.saturating_sub(BACKDATE_SECS);
    let mut graph = UnsignedGraph::new(chain, seen_until, timestamp);
    let defaults = if has_details {
        default_features(&mut r, &mut graph)?
    } else {
        Vec::new()
    };
    let nodes = r.count(Field::NodeCount, NODE_MIN, MAX_NODES)?;
    graph.nodes.reserve_exact(nodes as usize);
    for index in 0..nodes {
        if has_details {
            read_node(&mut r, &mut graph, index, &defaults)?;
        } else {
            let id = r.array::<33>(Field::NodeId)?;
            graph.nodes.push(key(id)?);
        }
    }
    let channels = r.count(Field::ChannelCount, CHANNEL_MIN, MAX_CHANNELS)?;
    graph.channels.reserve_exact(channels as usize);
    let mut last = None;
    for _ in 0..channels {
        let channel = read_channel(&mut r, &mut graph, has_details, last)?;
        last = Some(channel.short_channel_id);
        graph.channels.push(channel);
    }
    let updates = r.count(Field::UpdateCount, UPDATE_MIN, MAX_UPDATES)?;
    if updates > 0 {
        read_updates(&mut r, &mut graph, updates, has_details)?;
    }
    Ok(graph)
}

/// A reader whose errors name the field.
struct Input<'a>(Reader<'a>);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize, field: Field) -> Result<&'a [u8], DecodeError> {
        self.0.take(len).map_err(at(field))
    }

    fn array<const N: usize>(&mut self, field: Field) -> Result<[u8; N], DecodeError> {
        self.0.take_array().map_err(at(field))
    }

    fn value<T: Decode>(&mut self, field: Field) -> Result<T, DecodeError> {
        T::decode(&mut self.0).map_err(at(field))
    }

    fn optional<T: Decode>(
        &mut self,
        is_there: bool,
        field: Field,
    ) -> Result<Option<T>, DecodeError> {
        is_there.then(|| self.value(field)).transpose()
    }

    fn big_size(&mut self, field: Field) -> Result<u64, DecodeError> {
        Ok(self.value::<BigSize>(field)?.0)
    }

    /// Bytes behind a `u16` length.
    fn bytes(&mut self, field: Field) -> Result<&'a [u8], DecodeError> {
        self.0.take_u16_prefixed().map_err(at(field))
    }

    /// A number of items, which the data that is left can hold.
    fn count(&mut self, field: Field, item: usize, most: usize) -> Result<u32, DecodeError> {
        let count = self.value::<u32>(field)?;
        let there = self.0.remaining().len() / item;
        if count as usize > there.min(most) {
            return Err(wrong(field, Problem::TooMany));
        }
        Ok(count)
    }
}

const fn wrong(field: Field, problem: Problem) -> DecodeError {
    DecodeError { field, problem }
}

fn at(field: Field) -> impl Fn(codec::DecodeError) -> DecodeError {
    move |error| {
        let problem = match error {
            codec::DecodeError::NonMinimal => Problem::NonMinimal,
            codec::DecodeError::TrailingBytes => Problem::LeftOver,
            codec::DecodeError::UnexpectedEnd
            | codec::DecodeError::TlvOutOfOrder
            | codec::DecodeError::UnknownEvenTlv(_)
            | codec::DecodeError::Missing(_)
            | codec::DecodeError::InvalidValue(_) => Problem::Truncated,
        };
        wrong(field, problem)
    }
}

fn key(id: [u8; 33]) -> Result<NodeId, DecodeError> {
    // Whether it is on the curve is found out when it is used: nothing is verified with it before.
    if matches!(id[0], 2 | 3) {
        Ok(NodeId::new(id))
    } else {
        Err(wrong(Field::NodeId, Problem::NoKey))
    }
}

fn keep(graph: &mut UnsignedGraph, bytes: &[u8], field: Field) -> Result<Kept, DecodeError> {
    graph
        .keep(bytes)
        .map_err(|_| wrong(field, Problem::TooLong))
}

fn default_features(
    r: &mut Input<'_>,
    graph: &mut UnsignedGraph,
) -> Result<Vec<Kept>, DecodeError> {
    let field = Field::DefaultFeatures;
    let count = r.value::<u8>(field)?;
    if usize::from(count) > MAX_DEFAULT_FEATURES {
        return Err(wrong(field, Problem::TooMany));
    }
    let mut defaults = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let features = r.bytes(field)?;
        if features.len() > MAX_DEFAULT_FEATURES_LEN {
            return Err(wrong(field, Problem::TooLong));
        }
        defaults.push(keep(graph, features, field)?);
    }
    Ok(defaults)
}

/// A node of version 2.
fn read_node(
    r: &mut Input<'_>,
    graph: &mut UnsignedGraph,
    index: u32,
    defaults: &[Kept],
) -> Result<(), DecodeError> {
    let mut id = r.array::<33>(Field::NodeId)?;
    let flags = id[0];
    id[0] = flags & node::PARITY;
    graph.nodes.push(key(id)?);
    let addresses = if flags & node::ADDRESSES != 0 {
        Some(read_addresses(r, graph)?)
    } else {
        None
    };
    let features = match flags >> node::FEATURES_SHIFT & node::FEATURES_MASK {
        0 => None,
        node::FEATURES_INLINE => {
            let features = r.bytes(Field::NodeFeatures)?;
            Some(keep(graph, features, Field::NodeFeatures)?)
        }
        default => {
            let kept = defaults.get(usize::from(default) - 1);
            Some(*kept.ok_or(wrong(Field::NodeFeatures, Problem::OutOfRange))?)
        }
    };
    if flags & node::EXTRA != 0 {
        r.bytes(Field::NodeExtra)?;
    }
    if addresses.is_some() || features.is_some() || flags & node::REMINDER != 0 {
        graph.details.push(UnsignedNode {
            node: index,
            features,
            addresses,
        });
    }
    Ok(())
}

/// Addresses one behind the other, as on the wire. Those of a kind that is not known are left out: on the
/// wire nobody could tell where they end.
fn read_addresses(r: &mut Input<'_>, graph: &mut UnsignedGraph) -> Result<Kept, DecodeError> {
    let field = Field::NodeAddresses;
    let count = r.value::<u8>(field)?;
    let mut known = Vec::new();
    for _ in 0..count {
        let len = r.value::<u8>(field)?;
        let descriptor = r.take(usize::from(len), field)?;
        match NetAddress::from_bytes(descriptor) {
            Ok(NetAddress::Unknown(_)) => {}
            Ok(
                NetAddress::Ipv4 { .. }
                | NetAddress::Ipv6 { .. }
                | NetAddress::TorV3 { .. }
                | NetAddress::DnsHostname { .. },
            ) => known.extend_from_slice(descriptor),
            Err(codec::DecodeError::TrailingBytes) => {
                return Err(wrong(field, Problem::LeftOver));
            }
            // A known kind in a form of its future.
            Err(_) => {}
        }
    }
    keep(graph, &known, field)
}

fn read_channel(
    r: &mut Input<'_>,
    graph: &mut UnsignedGraph,
    has_details: bool,
    last: Option<ShortChannelId>,
) -> Result<UnsignedChannel, DecodeError> {
    let features = r.bytes(Field::ChannelFeatures)?;
    let features = keep(graph, features, Field::ChannelFeatures)?;
    let delta = r.big_size(Field::ChannelId)?;
    let short_channel_id = next_id(last, delta, Field::ChannelId)?;
    if last == Some(short_channel_id) {
        return Err(wrong(
            Field::ChannelId,
            Problem::Duplicate(short_channel_id),
        ));
    }
    let node_1 = r.big_size(Field::ChannelNodes)?;
    let node_2 = r.big_size(Field::ChannelNodes)?;
    // Version 1 knows no such bit: the index is out of range there.
    let has_extra = has_details && node_2 & CHANNEL_EXTRA != 0;
    let node_2 = if has_extra {
        node_2 & !CHANNEL_EXTRA
    } else {
        node_2
    };
    let out_of_range = wrong(Field::ChannelNodes, Problem::OutOfRange);
    let place = |index: u64| -> Result<(u32, &NodeId), DecodeError> {
        let index = u32::try_from(index).map_err(|_| out_of_range)?;
        let id = graph.nodes.get(index as usize).ok_or(out_of_range)?;
        Ok((index, id))
    };
    let ((node_1, id_1), (node_2, id_2)) = (place(node_1)?, place(node_2)?);
    // BOLT 7, channel_announcement: node_id_1 is the lesser of the two.
    if id_1 >= id_2 {
        return Err(wrong(Field::ChannelNodes, Problem::NotOrdered));
    }
    let capacity = if has_extra {
        let extra = r.bytes(Field::ChannelExtra)?;
        let sat = BigSize::decode(&mut Reader::new(extra)).map_err(at(Field::ChannelExtra))?;
        let capacity = Amount::from_sat(sat.0);
        if capacity > Amount::MAX_MONEY {
            return Err(wrong(Field::ChannelExtra, Problem::TooMuch));
        }
        Some(capacity)
    } else {
        None
    };
    Ok(UnsignedChannel {
        short_channel_id,
        nodes: [node_1, node_2],
        features,
        capacity,
    })
}

fn next_id(
    last: Option<ShortChannelId>,
    delta: u64,
    field: Field,
) -> Result<ShortChannelId, DecodeError> {
    last.map_or(0, ShortChannelId::to_u64)
        .checked_add(delta)
        .map(ShortChannelId::from_u64)
        .ok_or(wrong(field, Problem::Overflow))
}

fn read_updates(
    r: &mut Input<'_>,
    graph: &mut UnsignedGraph,
    count: u32,
    has_extras: bool,
) -> Result<(), DecodeError> {
    let field = Field::UpdateDefaults;
    let defaults = Terms {
        cltv_expiry_delta: r.value(field)?,
        htlc_minimum: r.value(field)?,
        fee_base_msat: r.value(field)?,
        fee_proportional_millionths: r.value(field)?,
        htlc_maximum: r.value(field)?,
    };
    graph.policies.reserve_exact(count as usize);
    let mut last: Option<(ShortChannelId, Direction)> = None;
    // Of which ends of the channel at hand there were updates.
    let mut seen = [false; 2];
    for _ in 0..count {
        let delta = r.big_size(Field::UpdateId)?;
        let scid = next_id(last.map(|(scid, _)| scid), delta, Field::UpdateId)?;
        let flags = r.value::<u8>(Field::UpdateFlags)?;
        let direction = Direction::from_channel_flags(flags);
        if has_extras && last == Some((scid, direction)) {
            r.bytes(Field::UpdateExtra)?;
            continue;
        }
        if last.is_none_or(|(last, _)| last != scid) {
            seen = [false; 2];
        }
        last = Some((scid, direction));
        if core::mem::replace(&mut seen[usize::from(direction.to_bit())], true) {
            return Err(wrong(Field::UpdateId, Problem::Duplicate(scid)));
        }
        let has = |flag: u8| flags & flag != 0;
        let field = Field::UpdateTerms;
        let changed = ChangedTerms {
            cltv_expiry_delta: r.optional(has(update::CLTV), field)?,
            htlc_minimum: r.optional(has(update::HTLC_MINIMUM), field)?,
            fee_base_msat: r.optional(has(update::FEE_BASE), field)?,
            fee_proportional_millionths: r.optional(has(update::FEE_PROPORTIONAL), field)?,
            htlc_maximum: r.optional(has(update::HTLC_MAXIMUM), field)?,
        };
        let terms = if has(update::INCREMENTAL) {
            UnsignedTerms::Changed(changed)
        } else {
            UnsignedTerms::Full(changed.applied_to(defaults))
        };
        graph.policies.push(UnsignedPolicy {
            short_channel_id: scid,
            direction,
            disabled: has(update::DISABLED),
            terms,
        });
    }
    Ok(())
}
