//! What transactions pay to miners: how much, who, and whether it is worth it.

use std::collections::BTreeMap;

use bitcoin::{Amount, OutPoint, Sequence, Transaction, TxIn, TxOut, Txid};
use fulmen_devchain::Chain;
use fulmen_tx::ANCHOR_VALUE;

use crate::world::World;

/// The greatest share of what is at stake that may go to fees, in percent.
const MOST_PERCENT: u64 = 90;
/// What is as cheap as anything that is relayed is never too dear, in satoshis per 1000 weight units.
const CHEAP: u64 = 253;
/// A replacement pays more by this for its own weight than what it replaces, in satoshis per 1000 weight units.
const INCREMENT: u64 = 250;
/// Change of less is left to the miners.
const CHANGE_SAT: u64 = 600;

/// What one transaction paid to the miners.
pub(crate) struct Fee {
    /// Who paid it, if it was one alone.
    pub(crate) payer: Option<usize>,
    /// How much.
    pub(crate) sat: u64,
}

impl World {
    /// The fees of everything that was mined since the start.
    pub(crate) fn fees(&self) -> Vec<Fee> {
        let fundings: BTreeMap<OutPoint, usize> = self
            .users
            .channels
            .iter()
            .filter_map(|(id, plan)| Some((*self.users.fundings.get(id)?, plan.from)))
            .collect();
        let mut fees = Vec::new();
        for height in self.first_height + 1..=self.chain.height() {
            let Some(hash) = self.chain.block_hash(height) else {
                continue;
            };
            let Some(block) = self.chain.block(&hash) else {
                continue;
            };
            for tx in block.txdata.iter().skip(1) {
                let inputs: u64 = tx
                    .input
                    .iter()
                    .filter_map(|i| output_of(&self.chain, &block.txdata, &i.previous_output))
                    .map(|out| out.value.to_sat())
                    .sum();
                let outputs: u64 = tx.output.iter().map(|out| out.value.to_sat()).sum();
                let of_funding = self.fundings.get(&tx.compute_txid()).copied();
                let of_close = tx
                    .input
                    .iter()
                    .find_map(|i| fundings.get(&i.previous_output));
                let claim = || self.broadcasters.get(&tx.compute_txid()).copied();
                let payer = of_funding.or(of_close.copied()).or_else(claim);
                fees.push(Fee {
                    payer,
                    sat: inputs.saturating_sub(outputs),
                });
            }
        }
        fees
    }

    /// What a node offers to miners for a claim of its own is not more than the claim is worth.
    pub(crate) fn check_fee(&self, index: usize, package: &[Transaction]) -> Result<(), String> {
        let Some(tx) = package.last() else {
            return Ok(());
        };
        let is_funding = |txid: &Txid| self.fundings.contains_key(txid);
        let mut spends = tx.input.iter().map(|i| &i.previous_output);
        if is_funding(&tx.compute_txid()) || spends.any(|o| is_funding(&o.txid)) {
            // A user has asked for it, or the two ends have agreed on it.
            return Ok(());
        }
        let inputs: Option<Vec<(OutPoint, TxOut)>> = tx
            .input
            .iter()
            .map(|i| {
                let outpoint = i.previous_output;
                Some((outpoint, output_of(&self.chain, package, &outpoint)?))
            })
            .collect();
        let Some(inputs) = inputs else {
            // Who was not told of a reorganisation yet claims what is not there.
            return Ok(());
        };
        let is_presigned = |i: &TxIn| i.sequence == Sequence::ZERO;
        if tx.input.len() == 1 && tx.output.len() == 1 && tx.input.iter().all(is_presigned) {
            return Ok(());
        }
        let value_in: Amount = inputs.iter().map(|(_, out)| out.value).sum();
        let value_out: Amount = tx.output.iter().map(|out| out.value).sum();
        let paid = value_in.to_sat().saturating_sub(value_out.to_sat());
        let mut weight = tx.weight().to_wu();
        let mut stake = 0;
        let wallet = self.hosts[index].wallet.script();
        for (outpoint, out) in &inputs {
            if out.script_pubkey == wallet {
                continue;
            }
            if out.value != ANCHOR_VALUE {
                stake += out.value.to_sat();
            } else if let Some(commitment) = parent(&self.chain, package, outpoint) {
                weight += commitment.weight().to_wu();
                let outputs = commitment.output.iter().map(|out| out.value);
                let sum: Amount = outputs.filter(|value| *value != ANCHOR_VALUE).sum();
                stake += sum.to_sat();
            }
        }
        let most = (stake * MOST_PERCENT / 100 + weight * INCREMENT / 1_000)
            .max(weight * CHEAP / 1_000 + 1)
            + CHANGE_SAT;
        if paid > most {
            return Err(format!(
                "{} would pay {paid} sat for what is worth {stake} sat, and {most} sat are enough",
                tx.compute_txid()
            ));
        }
        Ok(())
    }
}

/// The transaction that has an output: of the package, or in the mempool or the chain.
fn parent(chain: &Chain, package: &[Transaction], outpoint: &OutPoint) -> Option<Transaction> {
    let here = package.iter().find(|tx| tx.compute_txid() == outpoint.txid);
    here.cloned()
        .or_else(|| Some(chain.transaction(&outpoint.txid)?.0))
}

/// An output, spent or not.
pub(crate) fn output_of(
    chain: &Chain,
    package: &[Transaction],
    outpoint: &OutPoint,
) -> Option<TxOut> {
    if let Some(coin) = chain.coin(outpoint) {
        return Some(coin.out.clone());
    }
    let vout = usize::try_from(outpoint.vout).ok()?;
    parent(chain, package, outpoint)?.output.get(vout).cloned()
}
