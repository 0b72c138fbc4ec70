//! The set of unconfirmed transactions and how they depend on each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, TxOut, Txid, Wtxid};

use crate::linearize::{Chunk, Item, chunks};

/// One unconfirmed transaction.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Its hash with witnesses.
    pub wtxid: Wtxid,
    /// Its fee in satoshi.
    pub fee: u64,
    /// Its weight.
    pub weight: u64,
    /// Its size in virtual bytes, adjusted for signature operations.
    pub vsize: u64,
    /// When it came in, in the chain's time.
    pub time: u32,
    /// The height of the tip when it came in.
    pub height: u32,
    pub(crate) adjusted_weight: u64,
    pub(crate) sequence: u64,
}

/// The unconfirmed transactions.
#[derive(Clone, Debug, Default)]
pub struct Mempool {
    entries: BTreeMap<Txid, Entry>,
    spends: BTreeMap<OutPoint, Txid>,
    sequence: u64,
}

impl Mempool {
    /// How many transactions there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether this transaction is here.
    pub fn contains(&self, txid: &Txid) -> bool {
        self.entries.contains_key(txid)
    }

    /// The entry of a transaction.
    pub fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    /// All entries by transaction id.
    pub fn iter(&self) -> impl Iterator<Item = (&Txid, &Entry)> {
        self.entries.iter()
    }

    /// The transaction here that spends an output.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spends.get(outpoint).copied()
    }

    /// An output of a transaction here.
    pub fn output(&self, outpoint: &OutPoint) -> Option<&TxOut> {
        let entry = self.entries.get(&outpoint.txid)?;
        entry.tx.output.get(usize::try_from(outpoint.vout).ok()?)
    }

    /// The unconfirmed transactions whose outputs `tx` spends.
    pub fn parents_of(&self, tx: &Transaction) -> BTreeSet<Txid> {
        tx.input
            .iter()
            .map(|i| i.previous_output.txid)
            .filter(|txid| self.entries.contains_key(txid))
            .collect()
    }

    /// The transactions that spend an output of `txid`.
    pub fn children_of(&self, txid: &Txid) -> BTreeSet<Txid> {
        let from = OutPoint {
            txid: *txid,
            vout: 0,
        };
        let to = OutPoint {
            txid: *txid,
            vout: u32::MAX,
        };
        self.spends
            .range(from..=to)
            .map(|(_, spender)| *spender)
            .collect()
    }

    /// A transaction's unconfirmed ancestors, itself included.
    pub fn ancestors_of(&self, txid: &Txid) -> BTreeSet<Txid> {
        self.walk(*txid, |at| match self.entries.get(at) {
            Some(entry) => self.parents_of(&entry.tx),
            None => BTreeSet::new(),
        })
    }

    /// A transaction's unconfirmed descendants, itself included.
    pub fn descendants_of(&self, txid: &Txid) -> BTreeSet<Txid> {
        self.walk(*txid, |at| self.children_of(at))
    }

    /// All transactions connected with this one, itself included.
    pub fn cluster_of(&self, txid: &Txid) -> BTreeSet<Txid> {
        self.walk(*txid, |at| self.neighbours(at))
    }

    /// Parents and children.
    pub(crate) fn neighbours(&self, txid: &Txid) -> BTreeSet<Txid> {
        let mut near = self.children_of(txid);
        if let Some(entry) = self.entries.get(txid) {
            near.extend(self.parents_of(&entry.tx));
        }
        near
    }

    /// All clusters, each in the best order to mine: chunks of falling feerate.
    pub fn linearized(&self) -> Vec<Vec<MempoolChunk>> {
        let mut seen = BTreeSet::new();
        let mut clusters = Vec::new();
        for txid in self.entries.keys() {
            if seen.contains(txid) {
                continue;
            }
            let cluster = self.cluster_of(txid);
            seen.extend(cluster.iter().copied());
            let members: Vec<&Entry> = cluster
                .iter()
                .filter_map(|txid| self.entries.get(txid))
                .collect();
            clusters.push(linearize(&members));
        }
        clusters
    }

    pub(crate) fn insert(&mut self, txid: Txid, mut entry: Entry) {
        self.sequence += 1;
        entry.sequence = self.sequence;
        for input in &entry.tx.input {
            self.spends.insert(input.previous_output, txid);
        }
        self.entries.insert(txid, entry);
    }

    /// Removes one transaction, leaving its descendants.
    pub(crate) fn remove(&mut self, txid: &Txid) -> Option<Entry> {
        let entry = self.entries.remove(txid)?;
        for input in &entry.tx.input {
            self.spends.remove(&input.previous_output);
        }
        Some(entry)
    }

    /// Removes a transaction and all that depend on it.
    pub(crate) fn remove_with_descendants(&mut self, txid: &Txid) -> Vec<Entry> {
        let descendants = self.descendants_of(txid);
        descendants
            .iter()
            .filter_map(|txid| self.remove(txid))
            .collect()
    }

    /// Takes everything out, in the order in which it came in.
    pub(crate) fn drain(&mut self) -> Vec<Entry> {
        self.spends.clear();
        let mut entries: Vec<Entry> = core::mem::take(&mut self.entries).into_values().collect();
        entries.sort_by_key(|entry| entry.sequence);
        entries
    }

    fn walk(&self, from: Txid, near: impl Fn(&Txid) -> BTreeSet<Txid>) -> BTreeSet<Txid> {
        let mut seen = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for next in near(&at) {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    }
}

/// Transactions that are mined together, with their fee and adjusted weight.
#[derive(Clone, Debug)]
pub struct MempoolChunk {
    /// The transactions, parents first.
    pub txs: Vec<Arc<Transaction>>,
    /// Their fees together, in satoshi.
    pub fee: u64,
    /// Their weights together, adjusted for signature operations.
    pub weight: u64,
}

/// Puts the members of one cluster into the best order to mine.
pub(crate) fn linearize(members: &[&Entry]) -> Vec<MempoolChunk> {
    let position: BTreeMap<Txid, usize> = members
        .iter()
        .enumerate()
        .map(|(i, e)| (e.tx.compute_txid(), i))
        .collect();
    let items: Vec<Item> = members
        .iter()
        .map(|entry| Item {
            fee: entry.fee,
            size: entry.adjusted_weight,
            parents: entry
                .tx
                .input
                .iter()
                .filter_map(|i| position.get(&i.previous_output.txid).copied())
                .collect::<BTreeSet<usize>>()
                .into_iter()
                .collect(),
        })
        .collect();
    chunks(&items)
        .into_iter()
        .map(
            |Chunk {
                 members: at,
                 fee,
                 size,
             }| MempoolChunk {
                txs: at.into_iter().map(|i| Arc::clone(&members[i].tx)).collect(),
                fee,
                weight: size,
            },
        )
        .collect()
}
