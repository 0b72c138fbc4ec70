//! Records: how state machines say what must be durable.
//!
//! A step of the node yields one [`WriteBatch`]; a store applies it whole or not at all. Keys are a
//! [`Space`] and bytes; values are bytes whose first one is a version, so that a newer format is
//! recognised before it is misread.

use alloc::{collections::BTreeMap, vec::Vec};

/// What a record is about: the first part of its key. The numbers are on disk and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// The node itself: network, identity, format version.
    Node = 0,
    /// A channel's state without its HTLCs; the key is its keys id.
    Channel = 1,
    /// One HTLC of a channel: keys id, direction, HTLC id.
    Htlc = 2,
    /// What punishes one commitment of the peer once revoked: keys id, number. Not kept in memory.
    RemoteCommitment = 3,
    /// The on-chain resolution of one channel, and its claims.
    Resolution = 4,
    /// A payment of ours, by payment hash.
    Payment = 5,
    /// An invoice of ours, by payment hash.
    Invoice = 6,
    /// A forwarded payment: from the incoming HTLC to the outgoing one.
    Forward = 7,
    /// An event that nobody has acknowledged yet, by its sequence number.
    Event = 8,
    /// The result of a command, by its id.
    Command = 9,
    /// The chain's tip and its ancestors.
    Chain = 10,
    /// A peer that we keep: address, stored data.
    Peer = 11,
    /// Coins leased from the wallet, by purpose.
    Lease = 12,
    /// Data of the adapters at the edge, for instance the on-chain wallet.
    Edge = 13,
    /// A payment of ours that has ended, by payment hash. Read one by one, so that neither start-up nor
    /// memory grows with the payments ever made.
    PaymentArchive = 14,
    /// An invoice of ours that is paid or expired, by payment hash. Read one by one.
    InvoiceArchive = 15,
    /// A channel that is closed and resolved 100 blocks deep, by keys id: what history shows of it.
    ChannelArchive = 16,
    /// Ended payments in the order of time, newest first; the record itself is in
    /// [`Space::PaymentArchive`]. Read page by page.
    PaymentByTime = 17,
    /// The same of [`Space::InvoiceArchive`].
    InvoiceByTime = 18,
}

impl Space {
    /// Every space.
    pub const ALL: &'static [Self] = &[
        Self::Node,
        Self::Channel,
        Self::Htlc,
        Self::RemoteCommitment,
        Self::Resolution,
        Self::Payment,
        Self::Invoice,
        Self::Forward,
        Self::Event,
        Self::Command,
        Self::Chain,
        Self::Peer,
        Self::Lease,
        Self::Edge,
        Self::PaymentArchive,
        Self::InvoiceArchive,
        Self::ChannelArchive,
        Self::PaymentByTime,
        Self::InvoiceByTime,
    ];

    /// The number on disk.
    pub const fn to_u8(self) -> u8 {
        self as u8
    }

    /// From the number on disk.
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// Whether the node holds such records in memory and wants them at start. The others are asked for
    /// one by one when needed, so that start-up and memory don't grow with a channel's age.
    pub const fn is_loaded_at_start(self) -> bool {
        !matches!(
            self,
            Self::RemoteCommitment
                | Self::Edge
                | Self::PaymentArchive
                | Self::InvoiceArchive
                | Self::ChannelArchive
                | Self::PaymentByTime
                | Self::InvoiceByTime
        )
    }
}

/// A record's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// What the record is about.
    pub space: Space,
    /// Which one of its kind.
    pub key: Vec<u8>,
}

impl RecordKey {
    /// The key `key` in `space`.
    pub fn new(space: Space, key: impl Into<Vec<u8>>) -> Self {
        Self {
            space,
            key: key.into(),
        }
    }
}

/// Records to put and delete, all at once. A later write of a key replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct WriteBatch {
    writes: BTreeMap<RecordKey, Option<Vec<u8>>>,
}

impl WriteBatch {
    /// Nothing to write.
    pub const fn new() -> Self {
        Self {
            writes: BTreeMap::new(),
        }
    }

    /// Puts a record.
    pub fn put(&mut self, key: RecordKey, value: Vec<u8>) {
        self.writes.insert(key, Some(value));
    }

    /// Deletes a record; one that is not there is no error.
    pub fn delete(&mut self, key: RecordKey) {
        self.writes.insert(key, None);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many records are put or deleted.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// The bytes of all keys and values.
    pub fn size(&self) -> usize {
        self.iter()
            .map(|(k, v)| 1 + k.key.len() + v.map_or(0, <[u8]>::len))
            .sum()
    }

    /// Each key with its new value, `None` to delete, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&RecordKey, Option<&[u8]>)> {
        self.writes.iter().map(|(k, v)| (k, v.as_deref()))
    }

    /// Adds another batch's writes, which replace those of the same keys.
    pub fn append(&mut self, later: Self) {
        self.writes.extend(later.writes);
    }
}
