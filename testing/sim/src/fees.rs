//! What transactions pay to miners: how much, who, and whether it is worth it.

use std::collections::BTreeMap;

use bitcoin::{Amount, OutPoint, Sequence, Transaction, TxIn, TxOut, Txid};

use crate::world::World;

/// The greatest share of what is at stake that may go to fees, in percent.
const MOST_PERCENT: u64 = 90;
/// What is as cheap as anything that is relayed is never too dear, in satoshis per 1000 weight units.
const CHEAP: u64 = 253;
/// A replacement pays more by this for its own weight than what it replaces, in satoshis per 1000 weight units.
const INCREMENT: u64 = 250;
/// Change of less is left to the miners.
const CHANGE_SAT: u64 = 600;
/// An output that is there to raise a commitment's fee.
const ANCHOR_SAT: u64 = 330;

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
                    .filter_map(|i| self.output_of(&i.previous_output, &block.txdata))
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
                Some((outpoint, self.output_of(&outpoint, package)?))
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
            let value = out.value.to_sat();
            if out.script_pubkey == wallet {
                continue;
            }
            if value != ANCHOR_SAT {
                stake += value;
            } else if let Some(commitment) = self.parent(outpoint, package) {
                weight += commitment.weight().to_wu();
                let outputs = commitment.output.iter().map(|out| out.value.to_sat());
                stake += outputs.filter(|sat| *sat != ANCHOR_SAT).sum::<u64>();
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

    fn parent(&self, outpoint: &OutPoint, package: &[Transaction]) -> Option<Transaction> {
        let here = package.iter().find(|tx| tx.compute_txid() == outpoint.txid);
        here.cloned().or_else(|| {
            let (tx, _) = self.chain.transaction(&outpoint.txid)?;
            Some(tx)
        })
    }

    fn output_of(&self, outpoint: &OutPoint, package: &[Transaction]) -> Option<TxOut> {
        if let Some(coin) = self.chain.coin(outpoint) {
            return Some(coin.out.clone());
        }
        let vout = usize::try_from(outpoint.vout).ok()?;
        self.parent(outpoint, package)?.output.get(vout).cloned()
    }
}
