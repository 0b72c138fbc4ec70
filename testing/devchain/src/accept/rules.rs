//! The rules for one transaction that need neither the mempool's graph nor a replacement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, TxOut, Txid, Wtxid};

use super::{Candidate, Context};
use crate::chain::Chain;
use crate::coins::Coin;
use crate::consensus::{
    check_transaction, check_tx_inputs, is_final, sequence_locks_met, sigop_cost,
};
use crate::policy::{self, adjusted_weight, fee_for};
use crate::reject::{Reject, RejectKind};
use crate::script;

impl Chain {
    /// Everything about one transaction that needs neither replacement rules nor scripts.
    pub(super) fn pre_check(
        &self,
        tx: &Transaction,
        context: Context,
        package_coins: &BTreeMap<OutPoint, TxOut>,
    ) -> Result<Candidate, Reject> {
        let policy = &self.policy;
        check_transaction(tx)?;
        if tx.is_coinbase() {
            return Err(Reject::consensus("coinbase"));
        }
        if policy.require_standard {
            policy::check_standard_tx(tx, policy)?;
        }
        if tx.base_size() < policy::MIN_STANDARD_TX_NONWITNESS_SIZE {
            return Err(Reject::policy("tx-size-small"));
        }
        let next_height = self.height() + 1;
        let median_time = self.median_time_past();
        if !is_final(tx, next_height, median_time) {
            return Err(Reject::new(RejectKind::Premature, "non-final"));
        }
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        if let Some(entry) = self.mempool.get(&txid) {
            let reason = if entry.wtxid == wtxid {
                "txn-already-in-mempool"
            } else {
                "txn-same-nonwitness-data-in-mempool"
            };
            return Err(Reject::new(RejectKind::Conflict, reason));
        }
        let mut conflicts = BTreeSet::new();
        for input in &tx.input {
            if let Some(spender) = self.mempool.spender(&input.previous_output) {
                if !context.replacement {
                    return Err(Reject::policy("bip125-replacement-disallowed"));
                }
                conflicts.insert(spender);
            }
        }
        let spent = self.look_up_coins(tx, &txid, package_coins)?;
        if !sequence_locks_met(tx, &spent, next_height, median_time, |h| self.mtp_at(h)) {
            return Err(Reject::new(RejectKind::Premature, "non-BIP68-final"));
        }
        let fee = check_tx_inputs(tx, &spent, next_height)?;
        if policy.require_standard && !policy::are_inputs_standard(tx, &spent) {
            return Err(Reject::policy("bad-txns-nonstandard-inputs"));
        }
        if policy.require_standard && !policy::is_witness_standard(tx, &spent) {
            return Err(Reject::policy("bad-witness-nonstandard"));
        }
        let sigops = sigop_cost(tx, &spent);
        let adjusted = adjusted_weight(tx.weight().to_wu(), sigops);
        let vsize = adjusted.div_ceil(4);
        if policy.require_standard
            && fee != 0
            && !policy::dust_outputs(tx, policy.dust_relay_feerate).is_empty()
        {
            return Err(Reject::with(
                RejectKind::Policy,
                "dust",
                "tx with dust output must be 0-fee".to_owned(),
            ));
        }
        if sigops > policy::MAX_STANDARD_TX_SIGOPS_COST {
            return Err(Reject::with(
                RejectKind::Policy,
                "bad-txns-too-many-sigops",
                sigops.to_string(),
            ));
        }
        if !context.bypass_limits && !context.package_feerates {
            self.check_feerate(fee, vsize)?;
        }
        let mut candidate = Candidate {
            tx: Arc::new(tx.clone()),
            txid,
            wtxid,
            spent,
            fee,
            vsize,
            adjusted_weight: adjusted,
            conflicts,
            parents: self.mempool.parents_of(tx),
            evicts_sibling: false,
        };
        if !context.bypass_limits {
            self.check_truc(&mut candidate, context.sibling_eviction)?;
        }
        Ok(candidate)
    }

    fn look_up_coins(
        &self,
        tx: &Transaction,
        txid: &Txid,
        package_coins: &BTreeMap<OutPoint, TxOut>,
    ) -> Result<Vec<Coin>, Reject> {
        let unconfirmed = |out: &TxOut| Coin {
            out: out.clone(),
            height: self.height() + 1,
            coinbase: false,
        };
        let mut spent = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let outpoint = &input.previous_output;
            let found = self
                .coin(outpoint)
                .cloned()
                .or_else(|| self.mempool.output(outpoint).map(unconfirmed))
                .or_else(|| package_coins.get(outpoint).map(unconfirmed));
            let Some(coin) = found else {
                let known = (0u32..)
                    .zip(&tx.output)
                    .any(|(vout, _)| self.coin(&OutPoint { txid: *txid, vout }).is_some());
                return Err(if known {
                    Reject::new(RejectKind::Conflict, "txn-already-known")
                } else {
                    Reject::new(RejectKind::MissingInputs, "bad-txns-inputs-missingorspent")
                });
            };
            spent.push(coin);
        }
        Ok(spent)
    }

    pub(super) fn check_feerate(&self, fee: u64, vsize: u64) -> Result<(), Reject> {
        let floors = [
            (self.policy.mempool_min_feerate, "mempool min fee not met"),
            (self.policy.min_relay_feerate, "min relay fee not met"),
        ];
        for (feerate, reason) in floors {
            let needed = fee_for(feerate, vsize);
            if fee < needed {
                return Err(Reject::with(
                    RejectKind::Reconsiderable,
                    reason,
                    format!("{fee} < {needed}"),
                ));
            }
        }
        Ok(())
    }

    /// A child must spend all dust of its unconfirmed parents.
    pub(super) fn check_ephemeral_spends(
        &self,
        package: &[&Candidate],
    ) -> Result<(), (Wtxid, Reject)> {
        for candidate in package {
            let spent: BTreeSet<OutPoint> = candidate
                .tx
                .input
                .iter()
                .map(|i| i.previous_output)
                .collect();
            let parents: BTreeSet<Txid> = spent.iter().map(|o| o.txid).collect();
            for txid in parents {
                let in_package = package.iter().find(|c| c.txid == txid).map(|c| &c.tx);
                let Some(parent) = in_package.or(self.mempool.get(&txid).map(|e| &e.tx)) else {
                    continue;
                };
                for vout in policy::dust_outputs(parent, self.policy.dust_relay_feerate) {
                    if !spent.contains(&OutPoint { txid, vout }) {
                        return Err((
                            candidate.wtxid,
                            Reject::with(
                                RejectKind::Policy,
                                "missing-ephemeral-spends",
                                format!(
                                    "tx {} (wtxid={}) did not spend parent's ephemeral dust",
                                    candidate.txid, candidate.wtxid
                                ),
                            ),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_scripts(
        &self,
        candidate: &Candidate,
        context: Context,
    ) -> Result<(), Reject> {
        if context.scripts_known && self.is_verified(&candidate.wtxid) {
            return Ok(());
        }
        let spent: Vec<TxOut> = candidate
            .spent
            .iter()
            .map(|coin| coin.out.clone())
            .collect();
        script::verify_policy(&candidate.tx, &spent)
    }
}
