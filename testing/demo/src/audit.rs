//! Follows the nodes' coins through the blocks: where they went, and what the miners got.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use bitcoin::{Block, OutPoint, Transaction, Txid};

/// A transaction that spent coins of the nodes.
#[derive(Clone, Debug)]
pub(crate) struct Spend {
    pub(crate) txid: Txid,
    pub(crate) height: u32,
    pub(crate) tx: Transaction,
    /// What went in, less what came out.
    pub(crate) fee_sat: u64,
}

/// All outputs that descend from the deposits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audit {
    coins: BTreeMap<OutPoint, u64>,
    deposits: BTreeSet<OutPoint>,
    spends: Vec<Spend>,
}

impl Audit {
    /// Follows these coins from their creation on.
    pub(crate) fn new(deposits: impl IntoIterator<Item = OutPoint>) -> Self {
        Self {
            deposits: deposits.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The next block.
    pub(crate) fn add_block(&mut self, height: u32, block: &Block) -> Result<()> {
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            for (vout, output) in (0u32..).zip(&tx.output) {
                let outpoint = OutPoint { txid, vout };
                if self.deposits.contains(&outpoint) {
                    self.coins.insert(outpoint, output.value.to_sat());
                }
            }
            let known = tx
                .input
                .iter()
                .filter(|i| self.coins.contains_key(&i.previous_output))
                .count();
            if known == 0 {
                continue;
            }
            ensure!(
                known == tx.input.len(),
                "transaction {txid} at height {height} mixes coins of the nodes with others"
            );
            let spent = tx
                .input
                .iter()
                .filter_map(|input| self.coins.remove(&input.previous_output));
            let value_in: u64 = spent.sum();
            let mut value_out = 0;
            for (vout, output) in (0u32..).zip(&tx.output) {
                let value = output.value.to_sat();
                value_out += value;
                self.coins.insert(OutPoint { txid, vout }, value);
            }
            let fee_sat = value_in.saturating_sub(value_out);
            self.spends.push(Spend {
                txid,
                height,
                tx: tx.clone(),
                fee_sat,
            });
        }
        Ok(())
    }

    /// Everything that was spent, in order.
    pub(crate) fn spends(&self) -> &[Spend] {
        &self.spends
    }

    /// The transaction that spent this coin.
    pub(crate) fn spender(&self, outpoint: &OutPoint) -> Option<&Spend> {
        self.spends.iter().find(|spend| {
            spend
                .tx
                .input
                .iter()
                .any(|i| i.previous_output == *outpoint)
        })
    }

    /// The value of a coin that is not spent.
    pub(crate) fn unspent(&self, outpoint: &OutPoint) -> Option<u64> {
        self.coins.get(outpoint).copied()
    }

    /// All that is not spent.
    pub(crate) fn unspent_total(&self) -> u64 {
        self.coins.values().sum()
    }

    /// All that the miners got.
    pub(crate) fn fees_total(&self) -> u64 {
        self.spends.iter().map(|spend| spend.fee_sat).sum()
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, ScriptBuf};
    use fulmen_devchain::{Chain, Faucet};

    use super::*;

    #[test]
    fn follows_coins_and_counts_fees() {
        let mut chain = Chain::default();
        let faucet = Faucet::default();
        let coin = chain
            .fund(&faucet.script(), Amount::from_sat(100_000))
            .expect("the faucet has coins");
        let mut audit = Audit::new([coin]);
        let deposit_height = chain.height();
        let outputs = vec![bitcoin::TxOut {
            value: Amount::from_sat(60_000),
            script_pubkey: ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_raw_hash(
                bitcoin::hashes::Hash::all_zeros(),
            )),
        }];
        let tx = faucet
            .pay(&[(coin, Amount::from_sat(100_000))], outputs)
            .expect("there is enough");
        chain
            .mine(core::slice::from_ref(&tx))
            .expect("the payment is valid");
        for height in deposit_height..=chain.height() {
            let hash = chain.block_hash(height).expect("the chain has it");
            let block = chain.block(&hash).expect("the chain has it").clone();
            audit.add_block(height, &block).expect("nothing is mixed");
        }
        assert_eq!(audit.spends().len(), 1);
        assert!(audit.fees_total() > 0);
        assert_eq!(audit.unspent_total() + audit.fees_total(), 100_000);
        let spend = audit.spender(&coin).expect("it is spent");
        assert_eq!(
            (spend.txid, spend.fee_sat),
            (tx.compute_txid(), audit.fees_total())
        );
        assert_eq!(
            audit.unspent(&OutPoint {
                txid: spend.txid,
                vout: 0
            }),
            Some(60_000)
        );
        assert_eq!(audit.unspent(&coin), None);
    }
}
