//! The graph's file: a cache that one read loads.
//!
//! Big-endian: magic `FULG`, version (u8), chain hash (32), time of the last unsigned
//! snapshot (u32), node count (u32), channel count (u32),
//! nodes in the order of their ids, channels in the order of their short ids, checksum (u64) of all
//! before.

use alloc::vec::Vec;
use core::fmt;

use bitcoin::constants::ChainHash;
use fulmen_types::{
    CltvExpiryDelta, Msat, NodeId, ShortChannelId,
    codec::{Decode, DecodeError, Encode, Reader},
};

use super::{Channel, ChannelIndex, Node, Policy, Tables, has_unknown_even_bit};
use crate::checksum::checksum;

const MAGIC: [u8; 4] = *b"FULG";
const VERSION: u8 = 3;
/// The least bytes of a node and of a channel, which bound what a count can make us allocate.
const NODE_MIN: usize = 33 + 4;
const CHANNEL_MIN: usize = 8 + 8 + 4 + 4 + 4 + 2 + 1;

/// Why a graph file is of no use. The graph is a cache: drop the file and sync again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphFileError {
    /// It does not begin as a graph file does.
    NotAGraph,
    /// It was written by a newer version.
    NewerVersion(u8),
    /// Its checksum is wrong.
    Checksum,
    /// It can't be read.
    Decode(DecodeError),
}

impl fmt::Display for GraphFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAGraph => f.write_str("this is no graph file"),
            Self::NewerVersion(v) => write!(f, "the graph file has version {v}, newer than this"),
            Self::Checksum => f.write_str("the graph file is corrupt: its checksum is wrong"),
            Self::Decode(e) => write!(f, "the graph file is corrupt: {e}"),
        }
    }
}

impl core::error::Error for GraphFileError {}

impl From<DecodeError> for GraphFileError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

pub(super) fn to_bytes(tables: &Tables) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(64 + tables.nodes_by_id.len() * 128 + tables.channels.len() * 104);
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.extend_from_slice(tables.chain_hash.as_ref());
    tables.unsigned_until.encode(&mut out);
    u32::try_from(tables.nodes_by_id.len())
        .unwrap_or(u32::MAX)
        .encode(&mut out);
    u32::try_from(tables.channels.len())
        .unwrap_or(u32::MAX)
        .encode(&mut out);
    // Where each node is in the file, by its index in memory.
    let mut place = alloc::vec![0u32; tables.nodes.len()];
    for (position, index) in (0u32..).zip(&tables.nodes_by_id) {
        place[*index as usize] = position;
        let node = &tables.nodes[*index as usize];
        node.id.encode(&mut out);
        node.timestamp.encode(&mut out);
        if node.timestamp != 0 {
            node.features_len.encode(&mut out);
            node.addresses_len.encode(&mut out);
            let len = 35 + node.features_len + node.addresses_len;
            out.extend_from_slice(tables.slice(node.details, len));
        }
    }
    for index in &tables.channels_by_scid {
        let channel = tables.channel_at(ChannelIndex(*index));
        channel.short_channel_id.encode(&mut out);
        channel.capacity_sat.encode(&mut out);
        for node in channel.nodes {
            place[node as usize].encode(&mut out);
        }
        channel.spent_at.encode(&mut out);
        channel.features_len.encode(&mut out);
        out.extend_from_slice(tables.slice(channel.features, channel.features_len));
        let [a, b] = channel.policies.map(|p| u8::from(p.is_some()));
        out.push(a | b << 1);
        for policy in channel.policies.iter().flatten() {
            encode_policy(policy, &mut out);
        }
    }
    let sum = checksum(&out);
    sum.encode(&mut out);
    out
}

pub(super) fn from_bytes(bytes: &[u8]) -> Result<Tables, GraphFileError> {
    if bytes.get(..4) != Some(&MAGIC) {
        return Err(GraphFileError::NotAGraph);
    }
    match bytes.get(4) {
        Some(&VERSION) => {}
        Some(&version) if version > VERSION => return Err(GraphFileError::NewerVersion(version)),
        _ => return Err(GraphFileError::NotAGraph),
    }
    let (body, sum) = bytes
        .split_last_chunk::<8>()
        .ok_or(DecodeError::UnexpectedEnd)?;
    if checksum(body) != u64::from_be_bytes(*sum) {
        return Err(GraphFileError::Checksum);
    }
    let mut r = Reader::new(body.get(5..).ok_or(DecodeError::UnexpectedEnd)?);
    let mut tables = Tables::new(ChainHash::from(r.take_array::<32>()?));
    tables.unsigned_until = u32::decode(&mut r)?;
    let nodes = u32::decode(&mut r)?;
    let channels = u32::decode(&mut r)?;
    let least = (nodes as usize)
        .saturating_mul(NODE_MIN)
        .saturating_add((channels as usize).saturating_mul(CHANNEL_MIN));
    if least > r.remaining().len() {
        return Err(DecodeError::UnexpectedEnd.into());
    }
    tables.nodes.reserve_exact(nodes as usize);
    tables.channels.reserve_exact(channels as usize);
    tables.nodes_by_id = (0..nodes).collect();
    tables.channels_by_scid = (0..channels).collect();
    for _ in 0..nodes {
        read_node(&mut r, &mut tables)?;
    }
    for _ in 0..channels {
        read_channel(&mut r, &mut tables)?;
    }
    r.finish()?;
    if tables.nodes.iter().any(|node| node.degree == 0) {
        return Err(DecodeError::InvalidValue("a node without channels").into());
    }
    Ok(tables)
}

fn read_node(r: &mut Reader<'_>, tables: &mut Tables) -> Result<(), DecodeError> {
    let id = NodeId::decode(r)?;
    if tables.nodes.last().is_some_and(|last| last.id >= id) {
        return Err(DecodeError::InvalidValue("nodes out of order"));
    }
    let mut node = Node {
        id,
        degree: 0,
        timestamp: u32::decode(r)?,
        details: u32::try_from(tables.arena.len())
            .map_err(|_| DecodeError::InvalidValue("too many details"))?,
        features_len: 0,
        addresses_len: 0,
    };
    if node.timestamp != 0 {
        node.features_len = u16::decode(r)?;
        node.addresses_len = u16::decode(r)?;
        let len = 35 + usize::from(node.features_len) + usize::from(node.addresses_len);
        if len > usize::from(u16::MAX) {
            return Err(DecodeError::InvalidValue("details longer than a message"));
        }
        tables.arena.extend_from_slice(r.take(len)?);
    }
    tables.nodes.push(node);
    Ok(())
}

fn read_channel(r: &mut Reader<'_>, tables: &mut Tables) -> Result<(), DecodeError> {
    let short_channel_id = ShortChannelId::decode(r)?;
    if tables
        .channels
        .last()
        .is_some_and(|last| last.short_channel_id >= short_channel_id)
    {
        return Err(DecodeError::InvalidValue("channels out of order"));
    }
    let capacity_sat = u64::decode(r)?;
    let nodes = [u32::decode(r)?, u32::decode(r)?];
    if nodes[0] >= nodes[1] {
        return Err(DecodeError::InvalidValue("nodes of a channel out of order"));
    }
    for node in nodes {
        let node = tables
            .nodes
            .get_mut(node as usize)
            .ok_or(DecodeError::InvalidValue("a channel of a missing node"))?;
        node.degree += 1;
    }
    let spent_at = u32::decode(r)?;
    let features_len = u16::decode(r)?;
    let features = r.take(usize::from(features_len))?;
    let offset = u32::try_from(tables.arena.len())
        .map_err(|_| DecodeError::InvalidValue("too many features"))?;
    tables.arena.extend_from_slice(features);
    let present = u8::decode(r)?;
    if present > 3 {
        return Err(DecodeError::InvalidValue("policies of a channel"));
    }
    let mut policies = [None, None];
    for (bit, policy) in policies.iter_mut().enumerate() {
        if present >> bit & 1 == 1 {
            *policy = Some(decode_policy(r)?);
        }
    }
    tables.channels.push(Channel {
        short_channel_id,
        capacity_sat,
        policies,
        nodes,
        features: offset,
        features_len,
        unknown_even_features: has_unknown_even_bit(features),
        spent_at,
    });
    Ok(())
}

/// The bytes of a policy.
const POLICY: usize = 31;

fn encode_policy(policy: &Policy, out: &mut Vec<u8>) {
    let mut bytes = [0; POLICY];
    bytes[..8].copy_from_slice(&policy.htlc_minimum.to_msat().to_be_bytes());
    bytes[8..16].copy_from_slice(&policy.htlc_maximum.to_msat().to_be_bytes());
    bytes[16..20].copy_from_slice(&policy.timestamp.to_be_bytes());
    bytes[20..24].copy_from_slice(&policy.fee_base_msat.to_be_bytes());
    bytes[24..28].copy_from_slice(&policy.fee_proportional_millionths.to_be_bytes());
    bytes[28..30].copy_from_slice(&policy.cltv_expiry_delta.to_u16().to_be_bytes());
    bytes[30] = u8::from(policy.disabled);
    out.extend_from_slice(&bytes);
}

fn decode_policy(r: &mut Reader<'_>) -> Result<Policy, DecodeError> {
    // One look at what is left for all of it.
    let bytes = r.take_array::<POLICY>()?;
    let mut r = Reader::new(&bytes);
    Ok(Policy {
        htlc_minimum: Msat::decode(&mut r)?,
        htlc_maximum: Msat::decode(&mut r)?,
        timestamp: u32::decode(&mut r)?,
        fee_base_msat: u32::decode(&mut r)?,
        fee_proportional_millionths: u32::decode(&mut r)?,
        cltv_expiry_delta: CltvExpiryDelta::decode(&mut r)?,
        disabled: bool::decode(&mut r)?,
    })
}
