//! Which transactions are withdrawals: only those may be replaced by ones that pay more.

use std::collections::BTreeMap;

use bitcoin::{Amount, ScriptBuf, Transaction, Txid, hashes::Hash};
use fulmen_persister::{EdgeStore, edge_key};
use fulmen_types::record::WriteBatch;
use serde::{Deserialize, Serialize};

use crate::WalletFault;

const PREFIX: &[u8] = b"withdrawal/";
const VERSION: u8 = 1;

/// What a withdrawal was to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// To where.
    pub(crate) script_pubkey: ScriptBuf,
    /// Whether it was to send everything beyond the reserve.
    pub(crate) is_all: bool,
    /// The id of the command that asked for it.
    pub(crate) id: Option<[u8; 16]>,
}

impl Record {
    /// What arrives by this transaction.
    pub(crate) fn paid_by(&self, transaction: &Transaction) -> Amount {
        let outputs = transaction.output.iter();
        outputs
            .filter(|output| output.script_pubkey == self.script_pubkey)
            .map(|output| output.value)
            .max()
            .unwrap_or(Amount::ZERO)
    }
}

/// Those that are not buried yet.
pub(crate) struct Withdrawals {
    by_txid: BTreeMap<Txid, Record>,
}

impl Withdrawals {
    pub(crate) fn load(edge: EdgeStore) -> Result<Self, WalletFault> {
        let mut by_txid = BTreeMap::new();
        for (key, value) in edge.load_prefix(PREFIX)? {
            let txid = key
                .strip_prefix(PREFIX)
                .and_then(|txid| Txid::from_slice(txid).ok());
            let txid = txid.ok_or_else(|| WalletFault::Corrupt("a withdrawal's key".into()))?;
            let record = match value.split_first() {
                Some((&VERSION, json)) => {
                    serde_json::from_slice(json).map_err(|e| WalletFault::Corrupt(e.to_string()))?
                }
                _ => {
                    return Err(WalletFault::Corrupt(
                        "a withdrawal of a newer version".into(),
                    ));
                }
            };
            by_txid.insert(txid, record);
        }
        Ok(Self { by_txid })
    }

    pub(crate) fn get(&self, txid: &Txid) -> Option<&Record> {
        self.by_txid.get(txid)
    }

    pub(crate) fn by_id(&self, id: [u8; 16]) -> Option<(Txid, &Record)> {
        let mut all = self.by_txid.iter();
        all.find(|(_, record)| record.id == Some(id))
            .map(|(txid, record)| (*txid, record))
    }

    pub(crate) fn txids(&self) -> impl Iterator<Item = Txid> {
        self.by_txid.keys().copied()
    }

    /// Writes one to a batch. Take it over with [`Withdrawals::set`] once that is durable.
    pub(crate) fn write(
        txid: Txid,
        record: &Record,
        batch: &mut WriteBatch,
    ) -> Result<(), WalletFault> {
        let mut value = vec![VERSION];
        serde_json::to_writer(&mut value, record)
            .map_err(|e| WalletFault::Refused(format!("a withdrawal can't be written: {e}")))?;
        batch.put(edge_key(key(txid)), value);
        Ok(())
    }

    /// Writes to a batch that one is over.
    pub(crate) fn write_end(txid: Txid, batch: &mut WriteBatch) {
        batch.delete(edge_key(key(txid)));
    }

    pub(crate) fn set(&mut self, txid: Txid, record: Record) {
        self.by_txid.insert(txid, record);
    }

    pub(crate) fn remove(&mut self, txid: &Txid) {
        self.by_txid.remove(txid);
    }
}

fn key(txid: Txid) -> Vec<u8> {
    [PREFIX, txid.as_byte_array()].concat()
}
