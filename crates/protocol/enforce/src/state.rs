//! What a resolution remembers besides evidence, facts and claims; and its records.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use bitcoin::{OutPoint, Transaction, Txid, hashes::Hash, hashes::sha256};
use fulmen_types::{
    BlockHeight, CommitmentNumber, HtlcId, PaymentHash, PaymentPreimage,
    codec::{Decode, DecodeError, Encode, Reader},
    record::{RecordKey, Space, WriteBatch},
};

use crate::{
    claim::Lease,
    facts::Place,
    input::{ClaimId, WalletCoin},
};

/// Why a resolution begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// We close the channel: our commitment is to be broadcast.
    ForceClose,
    /// The funding output is spent; the block that says so is fed next. Our commitment is not broadcast by
    /// this resolution.
    FundingSpent,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) start: Start,
    pub(crate) preimages: BTreeMap<PaymentHash, PaymentPreimage>,
    /// HTLCs that we offered and that the node was told are fulfilled.
    pub(crate) told_fulfilled: BTreeSet<HtlcId>,
    /// HTLCs that we offered and that the node was told have failed.
    pub(crate) told_failed: BTreeSet<HtlcId>,
    pub(crate) leases: BTreeMap<u32, Lease>,
    /// The number of the next claim or lease.
    pub(crate) next_number: u32,
    /// The funding spend that the user was told of.
    pub(crate) told_spend: Option<Txid>,
    /// Claims that the user was told are in a block.
    pub(crate) told_swept: BTreeSet<Txid>,
    /// Outputs that the user was told cost more than they are worth.
    pub(crate) told_uneconomic: BTreeSet<OutPoint>,
    /// The revoked commitment whose record is not there.
    pub(crate) missing_record: Option<CommitmentNumber>,
    /// Our commitment pays too little to be relayed without a child.
    pub(crate) needs_child: bool,
    /// The last funding spend that a reorganisation threw out.
    pub(crate) thrown_out: Option<Transaction>,
}

impl State {
    pub(crate) fn new(start: Start, preimages: &[PaymentPreimage]) -> Self {
        Self {
            start,
            preimages: preimages.iter().map(|p| (p.payment_hash(), *p)).collect(),
            told_fulfilled: BTreeSet::new(),
            told_failed: BTreeSet::new(),
            leases: BTreeMap::new(),
            next_number: 0,
            told_spend: None,
            told_swept: BTreeSet::new(),
            told_uneconomic: BTreeSet::new(),
            missing_record: None,
            needs_child: false,
            thrown_out: None,
        }
    }

    pub(crate) fn take_number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        number
    }

    pub(crate) fn add_lease(&mut self, number: u32) {
        let coins = Vec::new();
        self.leases.insert(number, Lease { number, coins });
    }

    pub(crate) fn coin(&self, outpoint: &OutPoint) -> Option<&WalletCoin> {
        let mut coins = self.leases.values().flat_map(|l| &l.coins);
        coins.find(|c| c.outpoint == *outpoint)
    }
}

const VERSION: u8 = 1;

impl Encode for Start {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::ForceClose => 0,
            Self::FundingSpent => 1,
        });
    }
}

impl Decode for Start {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(r)? {
            0 => Ok(Self::ForceClose),
            1 => Ok(Self::FundingSpent),
            _ => Err(DecodeError::InvalidValue("unknown start of a resolution")),
        }
    }
}

fn encode_all<'a, T: Encode + 'a>(items: impl ExactSizeIterator<Item = &'a T>, out: &mut Vec<u8>) {
    u32::try_from(items.len()).unwrap_or(u32::MAX).encode(out);
    items.for_each(|item| item.encode(out));
}

fn decode_all<T: Decode>(r: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
    let count = u32::decode(r)?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(T::decode(r)?);
    }
    Ok(items)
}

impl Encode for State {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.start.encode(out);
        encode_all(self.preimages.values(), out);
        encode_all(self.told_fulfilled.iter(), out);
        encode_all(self.told_failed.iter(), out);
        encode_all(self.leases.values(), out);
        self.next_number.encode(out);
        self.told_spend.encode(out);
        encode_all(self.told_swept.iter(), out);
        encode_all(self.told_uneconomic.iter(), out);
        self.missing_record.encode(out);
        self.needs_child.encode(out);
        self.thrown_out.encode(out);
    }
}

impl Decode for State {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u8::decode(r)? != VERSION {
            return Err(DecodeError::InvalidValue("unknown version of a resolution"));
        }
        let start = Start::decode(r)?;
        let preimages: Vec<PaymentPreimage> = decode_all(r)?;
        Ok(Self {
            start,
            preimages: preimages.iter().map(|p| (p.payment_hash(), *p)).collect(),
            told_fulfilled: decode_all(r)?.into_iter().collect(),
            told_failed: decode_all(r)?.into_iter().collect(),
            leases: decode_all::<Lease>(r)?
                .into_iter()
                .map(|l| (l.number, l))
                .collect(),
            next_number: Decode::decode(r)?,
            told_spend: Decode::decode(r)?,
            told_swept: decode_all(r)?.into_iter().collect(),
            told_uneconomic: decode_all(r)?.into_iter().collect(),
            missing_record: Decode::decode(r)?,
            needs_child: Decode::decode(r)?,
            thrown_out: Decode::decode(r)?,
        })
    }
}

/// One record of a resolution; its key is the channel's keys id, then this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Evidence,
    State,
    Claim(ClaimId),
    Fact(Place),
    /// The revoked commitment that was broadcast, once loaded.
    Revoked,
}

impl Part {
    pub(crate) fn key(self, keys_id: &[u8; 32]) -> RecordKey {
        let mut key = keys_id.to_vec();
        match self {
            Self::Evidence => key.push(0),
            Self::State => key.push(1),
            Self::Claim(id) => {
                key.push(2);
                id.0.encode(&mut key);
            }
            Self::Fact(place) => {
                key.push(3);
                place.height.encode(&mut key);
                place.index.encode(&mut key);
            }
            Self::Revoked => key.push(4),
        }
        RecordKey::new(Space::Resolution, key)
    }

    /// The part that a key names, and the channel's keys id.
    pub(crate) fn from_key(key: &[u8]) -> Result<([u8; 32], Self), DecodeError> {
        let mut r = Reader::new(key);
        let keys_id = r.take_array()?;
        let part = match u8::decode(&mut r)? {
            0 => Self::Evidence,
            1 => Self::State,
            2 => Self::Claim(ClaimId(Decode::decode(&mut r)?)),
            3 => Self::Fact(Place {
                height: BlockHeight::decode(&mut r)?,
                index: Decode::decode(&mut r)?,
            }),
            4 => Self::Revoked,
            _ => return Err(DecodeError::InvalidValue("unknown record of a resolution")),
        };
        r.finish()?;
        Ok((keys_id, part))
    }
}

/// What is on disk, as digests: only what changed is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved(BTreeMap<Part, sha256::Hash>);

impl Saved {
    /// Notes a record that was read.
    pub(crate) fn note(&mut self, part: Part, value: &[u8]) {
        self.0.insert(part, sha256::Hash::hash(value));
    }

    /// Writes a record unless it is on disk already.
    pub(crate) fn put(
        &mut self,
        keys_id: &[u8; 32],
        part: Part,
        value: Vec<u8>,
        batch: &mut WriteBatch,
    ) {
        let digest = sha256::Hash::hash(&value);
        if self.0.insert(part, digest) != Some(digest) {
            batch.put(part.key(keys_id), value);
        }
    }

    /// Deletes the records of all parts that `keep` turns down.
    pub(crate) fn retain(
        &mut self,
        keys_id: &[u8; 32],
        batch: &mut WriteBatch,
        keep: impl Fn(&Part) -> bool,
    ) {
        self.0.retain(|part, _| {
            let kept = keep(part);
            if !kept {
                batch.delete(part.key(keys_id));
            }
            kept
        });
    }
}
