//! A disk that forgets what was not committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fulmen_node::Records;
use fulmen_types::record::{RecordKey, Space, WriteBatch};

/// The durable records of a node, and batches on their way to them, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    durable: BTreeMap<RecordKey, Vec<u8>>,
    pending: VecDeque<(u64, WriteBatch)>,
}

impl Disk {
    /// Hands a step's batch to the disk.
    pub(crate) fn append(&mut self, seq: u64, batch: WriteBatch) {
        self.pending.push_back((seq, batch));
    }

    /// Makes every batch up to step `seq` durable; how many those are.
    pub(crate) fn commit(&mut self, seq: u64) -> usize {
        let mut count = 0;
        while self.pending.front().is_some_and(|(first, _)| *first <= seq) {
            self.apply_first();
            count += 1;
        }
        count
    }

    /// A crash: the first `kept` batches that nobody was told about made it all the same, the others are
    /// gone. How many are gone.
    pub(crate) fn crash(&mut self, kept: usize) -> usize {
        for _ in 0..kept {
            self.apply_first();
        }
        let lost = self.pending.len();
        self.pending.clear();
        lost
    }

    fn apply_first(&mut self) {
        let Some((_, batch)) = self.pending.pop_front() else {
            return;
        };
        for (key, value) in batch.iter() {
            match value {
                Some(value) => self.durable.insert(key.clone(), value.to_vec()),
                None => self.durable.remove(key),
            };
        }
    }

    /// What is durable, as a disk of its own.
    pub(crate) fn durable_copy(&self) -> Self {
        Self {
            durable: self.durable.clone(),
            pending: VecDeque::new(),
        }
    }

    /// What kinds of records the batches hold that are not durable, oldest first.
    pub(crate) fn pending_kinds(&self) -> Vec<String> {
        self.pending.iter().map(|(_, batch)| kind(batch)).collect()
    }

    /// How many batches are not durable.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What a node is restored from.
    pub(crate) fn records(&self) -> Records {
        self.durable
            .iter()
            .filter(|(key, _)| key.space.is_loaded_at_start())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// A durable record.
    pub(crate) fn durable(&self, key: &RecordKey) -> Option<&[u8]> {
        self.durable.get(key).map(Vec::as_slice)
    }

    /// The durable records whose keys begin so.
    pub(crate) fn durable_with_prefix<'a>(
        &'a self,
        prefix: &'a RecordKey,
    ) -> impl Iterator<Item = &'a [u8]> {
        self.range(prefix).map(|(_, value)| value.as_slice())
    }

    /// The durable records' keys that begin so.
    pub(crate) fn durable_keys<'a>(
        &'a self,
        prefix: &'a RecordKey,
    ) -> impl Iterator<Item = &'a RecordKey> {
        self.range(prefix).map(|(key, _)| key)
    }

    fn range<'a>(
        &'a self,
        prefix: &'a RecordKey,
    ) -> impl Iterator<Item = (&'a RecordKey, &'a Vec<u8>)> {
        self.durable
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.space == prefix.space && key.key.starts_with(&prefix.key))
    }

    /// A record as the node that wrote it sees it: with what is on its way.
    pub(crate) fn read(&self, key: &RecordKey) -> Option<Vec<u8>> {
        let pending = self.pending.iter().rev().find_map(|(_, batch)| {
            batch
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, value)| value.map(<[u8]>::to_vec))
        });
        pending.unwrap_or_else(|| self.durable.get(key).cloned())
    }
}

/// The spaces that a batch writes to.
fn kind(batch: &WriteBatch) -> String {
    let spaces: BTreeSet<u8> = batch.iter().map(|(key, _)| key.space as u8).collect();
    let names: Vec<String> = Space::ALL
        .iter()
        .filter(|space| spaces.contains(&(**space as u8)))
        .map(|space| format!("{space:?}"))
        .collect();
    names.join("+")
}
