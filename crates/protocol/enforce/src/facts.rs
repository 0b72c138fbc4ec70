//! What the chain says: the confirmed transactions that matter to the channel, by their place.

use alloc::{collections::BTreeMap, vec::Vec};

use bitcoin::{OutPoint, Transaction, Txid};
use fulmen_types::BlockHeight;

/// Where a transaction is: its block's height and its index in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) height: BlockHeight,
    pub(crate) index: u32,
}

/// A confirmed transaction.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) txid: Txid,
    pub(crate) tx: Transaction,
}

/// How an output was spent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent<'a> {
    pub(crate) place: Place,
    pub(crate) fact: &'a Fact,
}

/// The confirmed transactions of one channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    by_place: BTreeMap<Place, Fact>,
    spenders: BTreeMap<OutPoint, Place>,
}

impl Facts {
    /// Records a transaction; one that is there already changes nothing.
    pub(crate) fn insert(&mut self, place: Place, tx: Transaction) -> bool {
        if self.by_place.contains_key(&place) {
            return false;
        }
        for input in &tx.input {
            self.spenders.insert(input.previous_output, place);
        }
        let txid = tx.compute_txid();
        self.by_place.insert(place, Fact { txid, tx });
        true
    }

    /// Whether a transaction is recorded at this place.
    pub(crate) fn contains(&self, place: Place) -> bool {
        self.by_place.contains_key(&place)
    }

    /// What spent an output.
    pub(crate) fn spender(&self, outpoint: &OutPoint) -> Option<Spent<'_>> {
        let place = *self.spenders.get(outpoint)?;
        let fact = self.by_place.get(&place)?;
        Some(Spent { place, fact })
    }

    /// The facts in the chain's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Place, &Fact)> {
        self.by_place.iter()
    }

    /// Forgets the blocks from this height on, and returns what was in them.
    pub(crate) fn remove_from(&mut self, height: BlockHeight) -> Vec<(Place, Fact)> {
        let gone = self.by_place.split_off(&Place { height, index: 0 });
        for fact in gone.values() {
            for input in &fact.tx.input {
                self.spenders.remove(&input.previous_output);
            }
        }
        gone.into_iter().collect()
    }
}
