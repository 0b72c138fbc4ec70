//! The set of unspent outputs.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Script, TxOut};

/// An unspent output with what the consensus rules need to know about its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// The output itself.
    pub out: TxOut,
    /// The height of the block that created it; for a coin of the mempool, the next height.
    pub height: u32,
    /// Whether a coinbase created it, so that it matures only after 100 blocks.
    pub coinbase: bool,
}

/// One change to the coin set, so that it can be taken back.
#[derive(Clone, Debug)]
enum Change {
    Added(OutPoint),
    Spent(OutPoint, Coin),
}

/// All that one block did to the coin set, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(Vec<Change>);

impl Journal {
    /// The coins that the block spent, in the order of its inputs.
    pub(crate) fn spent(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.0.iter().filter_map(|change| match change {
            Change::Spent(outpoint, coin) => Some((outpoint, coin)),
            Change::Added(_) => None,
        })
    }
}

/// The coins of the active chain.
#[derive(Clone, Debug, Default)]
pub(crate) struct CoinSet(BTreeMap<OutPoint, Coin>);

impl CoinSet {
    pub(crate) fn get(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.0.get(outpoint)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn add(&mut self, outpoint: OutPoint, coin: Coin, journal: &mut Journal) {
        if is_unspendable(&coin.out.script_pubkey) {
            return;
        }
        self.0.insert(outpoint, coin);
        journal.0.push(Change::Added(outpoint));
    }

    pub(crate) fn spend(&mut self, outpoint: &OutPoint, journal: &mut Journal) -> Option<Coin> {
        let coin = self.0.remove(outpoint)?;
        journal.0.push(Change::Spent(*outpoint, coin.clone()));
        Some(coin)
    }

    /// Takes back everything that the journal holds.
    pub(crate) fn revert(&mut self, journal: &Journal) {
        for change in journal.0.iter().rev() {
            match change {
                Change::Added(outpoint) => {
                    self.0.remove(outpoint);
                }
                Change::Spent(outpoint, coin) => {
                    self.0.insert(*outpoint, coin.clone());
                }
            }
        }
    }
}

/// Whether no input can ever spend such an output, so that it never becomes a coin.
pub(crate) fn is_unspendable(script: &Script) -> bool {
    script.as_bytes().first() == Some(&0x6a) || script.len() > 10_000
}
