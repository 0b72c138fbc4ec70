//! Coins that are put aside, by what for, durably.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, ScriptBuf, Transaction};
use fulmen_persister::{EdgeStore, edge_key};
use fulmen_types::record::WriteBatch;
use serde::{Deserialize, Serialize};

use crate::WalletFault;

const PREFIX: &[u8] = b"lease/";
const VERSION: u8 = 1;

/// What is put aside for one purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The coins.
    pub(crate) coins: Vec<OutPoint>,
    /// What they were signed away with, for a funding.
    pub(crate) funding: Option<Funding>,
}

/// A signed funding transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Funding {
    /// What it pays to.
    pub(crate) script_pubkey: ScriptBuf,
    /// What it pays, in satoshi.
    pub(crate) value_sat: u64,
    /// It.
    pub(crate) transaction: Transaction,
}

/// All leases.
pub(crate) struct Leases {
    by_purpose: BTreeMap<Vec<u8>, Lease>,
}

impl Leases {
    pub(crate) fn load(edge: EdgeStore) -> Result<Self, WalletFault> {
        let mut by_purpose = BTreeMap::new();
        for (key, value) in edge.load_prefix(PREFIX)? {
            let lease = match value.split_first() {
                Some((&VERSION, json)) => {
                    serde_json::from_slice(json).map_err(|e| WalletFault::Corrupt(e.to_string()))?
                }
                _ => return Err(WalletFault::Corrupt("a lease of a newer version".into())),
            };
            by_purpose.insert(key.split_at(PREFIX.len()).1.to_vec(), lease);
        }
        Ok(Self { by_purpose })
    }

    pub(crate) fn get(&self, purpose: &[u8]) -> Option<&Lease> {
        self.by_purpose.get(purpose)
    }

    /// What coins are put aside for, fundings excepted.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.by_purpose
            .iter()
            .filter(|(_, lease)| lease.funding.is_none())
            .map(|(key, _)| key)
    }

    /// The fundings.
    pub(crate) fn fundings(&self) -> impl Iterator<Item = (&Vec<u8>, &Funding)> {
        self.by_purpose
            .iter()
            .filter_map(|(key, lease)| Some((key, lease.funding.as_ref()?)))
    }

    /// Whether a coin is put aside, for whatever.
    pub(crate) fn holds(&self, coin: &OutPoint) -> bool {
        self.by_purpose
            .values()
            .any(|lease| lease.coins.contains(coin))
    }

    /// Writes a lease to a batch. Take it over with [`Leases::set`] once that is durable.
    pub(crate) fn write(
        purpose: &[u8],
        lease: &Lease,
        batch: &mut WriteBatch,
    ) -> Result<(), WalletFault> {
        let mut value = vec![VERSION];
        serde_json::to_writer(&mut value, lease)
            .map_err(|e| WalletFault::Refused(format!("a lease can't be written: {e}")))?;
        batch.put(edge_key([PREFIX, purpose].concat()), value);
        Ok(())
    }

    /// Writes to a batch that a lease is over.
    pub(crate) fn write_end(purpose: &[u8], batch: &mut WriteBatch) {
        batch.delete(edge_key([PREFIX, purpose].concat()));
    }

    pub(crate) fn set(&mut self, purpose: Vec<u8>, lease: Lease) {
        self.by_purpose.insert(purpose, lease);
    }

    pub(crate) fn remove(&mut self, purpose: &[u8]) {
        self.by_purpose.remove(purpose);
    }
}
