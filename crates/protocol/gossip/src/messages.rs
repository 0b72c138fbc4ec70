//! Signed messages as they came, byte for byte, to be passed on.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use fulmen_types::{
    NodeId, ShortChannelId,
    codec::{Decode, DecodeError, Encode, Reader},
};
use fulmen_wire::Message;

use crate::{Direction, GraphFileError, crc32c::crc32c};

const MAGIC: [u8; 4] = *b"FULM";
const VERSION: u8 = 1;
/// Where fields begin in a `channel_update`: type 2, signature 64, chain 32, short id 8.
const UPDATE_BODY: usize = 66;
const UPDATE_TIMESTAMP: usize = UPDATE_BODY + 40;

/// What one channel's ends have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ChannelMessages {
    announcement: Box<[u8]>,
    updates: [Option<Box<[u8]>>; 2],
}

/// The signed messages of the network, with their types. Beside the graph, which does not need them:
/// only who passes gossip on does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedMessages {
    channels: BTreeMap<ShortChannelId, ChannelMessages>,
    nodes: BTreeMap<NodeId, Box<[u8]>>,
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
        let updates = self
            .channels
            .remove(&scid)
            .map_or([None, None], |old| old.updates);
        self.channels.insert(
            scid,
            ChannelMessages {
                announcement: bytes.into_boxed_slice(),
                updates,
            },
        );
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
        for node in gone {
            self.nodes.remove(node);
        }
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
        Message::decode(self.bytes(key)?).ok()
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
        match bytes.get(4) {
            Some(&VERSION) => {}
            Some(&version) if version > VERSION => {
                return Err(GraphFileError::NewerVersion(version));
            }
            _ => return Err(GraphFileError::NotAGraph),
        }
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
            let updates = [take(&mut r)?, take(&mut r)?];
            messages.channels.insert(
                scid,
                ChannelMessages {
                    announcement,
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
