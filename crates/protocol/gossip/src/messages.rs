//! Signed messages as they came, byte for byte, to be passed on.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use bitcoin::{OutPoint, Txid, hashes::Hash};
use fulmen_types::{
    NodeId, ShortChannelId,
    codec::{Decode, DecodeError, Encode, Reader},
};
use fulmen_wire::{Message, NetAddress};

use crate::{Direction, GraphFileError, crc32c::crc32c};

const MAGIC: [u8; 4] = *b"FULM";
/// Version 1 did not name the funding outputs.
const VERSION: u8 = 2;
/// Where fields begin in a `channel_update`: type 2, signature 64, chain 32, short id 8.
const UPDATE_BODY: usize = 66;
const UPDATE_TIMESTAMP: usize = UPDATE_BODY + 40;
/// And in a `node_announcement`: type 2, signature 64.
const NODE_FEATURES: usize = 66;

/// What one channel's ends have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ChannelMessages {
    announcement: Box<[u8]>,
    /// The output that the chain showed for it: with it a spend is noticed after a restart, too, without
    /// asking for the output again.
    funding: Option<OutPoint>,
    updates: [Option<Box<[u8]>>; 2],
}

/// The signed messages of the network, with their types. Beside the graph, which does not need them:
/// only who passes gossip on does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedMessages {
    channels: BTreeMap<ShortChannelId, ChannelMessages>,
    nodes: BTreeMap<NodeId, Box<[u8]>>,
}

/// When what was signed: what is in the graph with another time is not (rapid gossip sync).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedTimes {
    channels: Vec<(ShortChannelId, [u32; 2])>,
    nodes: Vec<(NodeId, u32)>,
}

impl SignedTimes {
    /// The times of the updates of both ends of an announced channel, 0 for none, in seconds since 1970.
    pub fn channel(&self, scid: ShortChannelId) -> Option<[u32; 2]> {
        let at = self.channels.binary_search_by_key(&scid, |(scid, _)| *scid);
        Some(self.channels.get(at.ok()?)?.1)
    }

    /// The time of a node's announcement, in seconds since 1970.
    pub fn node(&self, id: &NodeId) -> Option<u32> {
        let at = self.nodes.binary_search_by_key(id, |(id, _)| *id);
        Some(self.nodes.get(at.ok()?)?.1)
    }
}

/// Which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MessageKey {
    Announcement(ShortChannelId),
    Update(ShortChannelId, Direction),
    Node(NodeId),
}

impl SignedMessages {
    /// No messages.
    pub const fn new() -> Self {
        Self {
            channels: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// How many channels there are announcements of.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    pub(crate) fn put_announcement(&mut self, scid: ShortChannelId, bytes: Vec<u8>) {
        let announcement = bytes.into_boxed_slice();
        match self.channels.get_mut(&scid) {
            Some(channel) => channel.announcement = announcement,
            None => {
                self.channels.insert(
                    scid,
                    ChannelMessages {
                        announcement,
                        funding: None,
                        updates: [None, None],
                    },
                );
            }
        }
    }

    pub(crate) fn put_funding(&mut self, scid: ShortChannelId, outpoint: OutPoint) {
        if let Some(channel) = self.channels.get_mut(&scid) {
            channel.funding = Some(outpoint);
        }
    }

    /// The funding output of a channel, as far as the chain was asked.
    pub(crate) fn funding(&self, scid: ShortChannelId) -> Option<OutPoint> {
        self.channels.get(&scid)?.funding
    }

    pub(crate) fn put_update(
        &mut self,
        scid: ShortChannelId,
        direction: Direction,
        bytes: Vec<u8>,
    ) {
        if let Some(channel) = self.channels.get_mut(&scid) {
            channel.updates[direction.to_usize()] = Some(bytes.into_boxed_slice());
        }
    }

    pub(crate) fn put_node(&mut self, id: NodeId, bytes: Vec<u8>) {
        self.nodes.insert(id, bytes.into_boxed_slice());
    }

    pub(crate) fn remove_channel(&mut self, scid: ShortChannelId, gone: &[NodeId]) {
        self.channels.remove(&scid);
        self.remove_nodes(gone);
    }

    pub(crate) fn remove_nodes(&mut self, gone: &[NodeId]) {
        for node in gone {
            self.nodes.remove(node);
        }
    }

    /// Whether there is an announcement of a channel: without one nothing of it can be passed on.
    pub(crate) fn has_announcement(&self, scid: ShortChannelId) -> bool {
        self.channels.contains_key(&scid)
    }

    /// The times of what is signed.
    pub fn times(&self) -> SignedTimes {
        SignedTimes {
            channels: self
                .channels
                .iter()
                .map(|(scid, channel)| {
                    let times = channel.updates.each_ref();
                    let times =
                        times.map(|u| u.as_deref().map_or(0, |u| time_at(u, UPDATE_TIMESTAMP)));
                    (*scid, times)
                })
                .collect(),
            nodes: self
                .nodes
                .iter()
                .map(|(id, bytes)| (*id, node_time(bytes)))
                .collect(),
        }
    }

    /// The time of the last signed update of one end; 0 for none.
    pub(crate) fn update_time(&self, scid: ShortChannelId, direction: Direction) -> u32 {
        self.bytes(&MessageKey::Update(scid, direction))
            .map_or(0, |bytes| time_at(bytes, UPDATE_TIMESTAMP))
    }

    /// The time of the last signed announcement of a node; 0 for none.
    pub(crate) fn node_time(&self, id: &NodeId) -> u32 {
        self.bytes(&MessageKey::Node(*id)).map_or(0, node_time)
    }

    /// The bytes of a message.
    pub(crate) fn bytes(&self, key: &MessageKey) -> Option<&[u8]> {
        match key {
            MessageKey::Announcement(scid) => {
                self.channels.get(scid).map(|c| c.announcement.as_ref())
            }
            MessageKey::Update(scid, direction) => {
                self.channels.get(scid)?.updates[direction.to_usize()].as_deref()
            }
            MessageKey::Node(id) => self.nodes.get(id).map(AsRef::as_ref),
        }
    }

    /// A message to be sent.
    pub(crate) fn message(&self, key: &MessageKey) -> Option<Message> {
        let message = Message::decode(self.bytes(key)?).ok()?;
        // BOLT 7, node_announcement: with more than one DNS name it MUST NOT be forwarded.
        if let Message::NodeAnnouncement(node) = &message {
            let is_name = |address: &&NetAddress| matches!(address, NetAddress::DnsHostname { .. });
            if node.addresses.iter().filter(is_name).count() > 1 {
                return None;
            }
        }
        Some(message)
    }

    /// The nodes after one, in order.
    pub(crate) fn nodes_after(&self, after: Option<NodeId>) -> impl Iterator<Item = NodeId> + '_ {
        use core::ops::Bound;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.nodes
            .range((start, Bound::Unbounded))
            .map(|(id, _)| *id)
    }

    /// The checksum of an update for `checksums_tlv` (BOLT 7), 0 for none: all but signature and
    /// timestamp.
    pub(crate) fn update_checksum(&self, scid: ShortChannelId, direction: Direction) -> u32 {
        let key = MessageKey::Update(scid, direction);
        let Some(bytes) = self.bytes(&key) else {
            return 0;
        };
        match (
            bytes.get(UPDATE_BODY..UPDATE_TIMESTAMP),
            bytes.get(UPDATE_TIMESTAMP + 4..),
        ) {
            (Some(before), Some(after)) => crate::crc32c::Crc32c::new()
                .update(before)
                .update(after)
                .finish(),
            _ => 0,
        }
    }

    /// The bytes of the file: version, messages, checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        put_count(self.channels.len(), &mut out);
        put_count(self.nodes.len(), &mut out);
        for (scid, channel) in &self.channels {
            scid.encode(&mut out);
            put(&channel.announcement, &mut out);
            // An outpoint that nothing has stands for none.
            let funding = channel.funding.unwrap_or_else(OutPoint::null);
            out.extend_from_slice(funding.txid.as_byte_array());
            funding.vout.encode(&mut out);
            for update in &channel.updates {
                put(update.as_deref().unwrap_or(&[]), &mut out);
            }
        }
        for (id, bytes) in &self.nodes {
            id.encode(&mut out);
            put(bytes, &mut out);
        }
        let checksum = crc32c(&out);
        checksum.encode(&mut out);
        out
    }

    /// Reads the file. Corrupt bytes are an error and allocate no more than they are long.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GraphFileError> {
        if bytes.get(..4) != Some(&MAGIC) {
            return Err(GraphFileError::NotAGraph);
        }
        let has_fundings = match bytes.get(4) {
            Some(1) => false,
            Some(&VERSION) => true,
            Some(&version) if version > VERSION => {
                return Err(GraphFileError::NewerVersion(version));
            }
            _ => return Err(GraphFileError::NotAGraph),
        };
        let (body, checksum) = bytes
            .split_last_chunk::<4>()
            .ok_or(DecodeError::UnexpectedEnd)?;
        if crc32c(body) != u32::from_be_bytes(*checksum) {
            return Err(GraphFileError::Checksum);
        }
        let mut r = Reader::new(body.get(5..).ok_or(DecodeError::UnexpectedEnd)?);
        let channels = u32::decode(&mut r)?;
        let nodes = u32::decode(&mut r)?;
        let mut messages = Self::new();
        for _ in 0..channels {
            let scid = ShortChannelId::decode(&mut r)?;
            let announcement = take(&mut r)?.ok_or(DecodeError::Missing("channel_announcement"))?;
            let funding = if has_fundings {
                let txid = Txid::from_byte_array(r.take_array()?);
                let vout = u32::decode(&mut r)?;
                Some(OutPoint::new(txid, vout)).filter(|funding| !funding.is_null())
            } else {
                None
            };
            let updates = [take(&mut r)?, take(&mut r)?];
            messages.channels.insert(
                scid,
                ChannelMessages {
                    announcement,
                    funding,
                    updates,
                },
            );
        }
        for _ in 0..nodes {
            let id = NodeId::decode(&mut r)?;
            let bytes = take(&mut r)?.ok_or(DecodeError::Missing("node_announcement"))?;
            messages.nodes.insert(id, bytes);
        }
        r.finish()?;
        Ok(messages)
    }
}

/// The `timestamp` of a `node_announcement`: behind its features.
fn node_time(bytes: &[u8]) -> u32 {
    let features = bytes
        .get(NODE_FEATURES..)
        .and_then(|rest| rest.first_chunk::<2>())
        .map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
    time_at(bytes, NODE_FEATURES + 2 + features)
}

fn time_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<4>())
        .map_or(0, |time| u32::from_be_bytes(*time))
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    u32::try_from(count).unwrap_or(u32::MAX).encode(out);
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(bytes.len()).unwrap_or(0);
    len.encode(out);
    out.extend_from_slice(&bytes[..usize::from(len)]);
}

fn take(r: &mut Reader<'_>) -> Result<Option<Box<[u8]>>, DecodeError> {
    let bytes = r.take_u16_prefixed()?;
    Ok((!bytes.is_empty()).then(|| bytes.into()))
}
