//! The wallet's changes, appended one by one and folded together now and then.

use std::collections::BTreeSet;

use bdk_wallet::{ChangeSet, Wallet, chain::Merge};
use fulmen_persister::{EdgeStore, edge_key, number_of, numbered};
use fulmen_types::record::WriteBatch;

use crate::WalletFault;

const PREFIX: &[u8] = b"wallet/";
/// So many changes are folded into one record.
const FOLD_AT: u64 = 1_000;
/// Blocks behind the tip that are remembered besides those with transactions of ours.
const KEPT_BLOCKS: usize = 150;
const VERSION: u8 = 1;

pub(crate) struct Journal {
    edge: EdgeStore,
    next: u64,
    records: u64,
}

impl Journal {
    pub(crate) const fn open(edge: EdgeStore) -> Self {
        Self {
            edge,
            next: 1,
            records: 0,
        }
    }

    /// All changes together; `None` when there are none.
    pub(crate) fn load(&mut self) -> Result<Option<ChangeSet>, WalletFault> {
        let (all, keys) = self.read()?;
        self.next = keys.last().map_or(1, |last| last.saturating_add(1));
        self.records = keys.len() as u64;
        if self.records >= FOLD_AT {
            self.fold()?;
        }
        Ok(all)
    }

    /// Appends what the wallet has staged. What is staged stays so until it is durable.
    pub(crate) fn write(
        &mut self,
        wallet: &mut Wallet,
        mut batch: WriteBatch,
    ) -> Result<(), WalletFault> {
        if let Some(staged) = wallet.staged() {
            batch.put(edge_key(numbered(PREFIX, self.next)), encode(staged)?);
        } else if batch.is_empty() {
            return Ok(());
        }
        self.edge.write(batch)?;
        if wallet.take_staged().is_some() {
            self.next += 1;
            self.records += 1;
        }
        if self.records >= FOLD_AT {
            self.fold()?;
        }
        Ok(())
    }

    fn read(&self) -> Result<(Option<ChangeSet>, Vec<u64>), WalletFault> {
        let mut all: Option<ChangeSet> = None;
        let mut keys = Vec::new();
        for (key, value) in self.edge.load_prefix(PREFIX)? {
            let number = number_of(PREFIX, &key)
                .ok_or_else(|| WalletFault::Corrupt("a key of the wallet".into()))?;
            keys.push(number);
            let changes = decode(&value)?;
            match &mut all {
                Some(all) => all.merge(changes),
                None => all = Some(changes),
            }
        }
        Ok((all, keys))
    }

    /// One record in the place of all.
    fn fold(&mut self) -> Result<(), WalletFault> {
        let (all, keys) = self.read()?;
        let Some(mut all) = all else { return Ok(()) };
        forget_blocks(&mut all);
        let mut batch = WriteBatch::new();
        for number in keys {
            batch.delete(edge_key(numbered(PREFIX, number)));
        }
        batch.put(edge_key(numbered(PREFIX, self.next)), encode(&all)?);
        self.edge.write(batch)?;
        self.next += 1;
        self.records = 1;
        Ok(())
    }
}

/// Drops the blocks that nothing refers to, so that the record does not grow with the chain.
fn forget_blocks(changes: &mut ChangeSet) {
    let anchors: BTreeSet<u32> = changes
        .tx_graph
        .anchors
        .iter()
        .map(|(anchor, _)| anchor.block_id.height)
        .collect();
    let blocks = &mut changes.local_chain.blocks;
    blocks.retain(|_, hash| hash.is_some());
    let recent = blocks.keys().rev().nth(KEPT_BLOCKS).copied().unwrap_or(0);
    blocks.retain(|height, _| *height == 0 || *height >= recent || anchors.contains(height));
}

fn encode(changes: &ChangeSet) -> Result<Vec<u8>, WalletFault> {
    let mut value = vec![VERSION];
    serde_json::to_writer(&mut value, changes)
        .map_err(|e| WalletFault::Refused(format!("the wallet's changes can't be written: {e}")))?;
    Ok(value)
}

fn decode(value: &[u8]) -> Result<ChangeSet, WalletFault> {
    match value.split_first() {
        Some((&VERSION, json)) => {
            serde_json::from_slice(json).map_err(|e| WalletFault::Corrupt(e.to_string()))
        }
        Some(_) => Err(WalletFault::Corrupt("a record of a newer version".into())),
        None => Err(WalletFault::Corrupt("an empty record".into())),
    }
}
