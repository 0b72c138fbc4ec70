//! Packages: several transactions judged together.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction, TxOut, Txid, Wtxid};

use super::{Candidate, Context, PackageResult, PackageTx};
use crate::chain::Chain;
use crate::reject::{Reject, RejectKind};

/// A package has at most this many transactions.
const MAX_PACKAGE_COUNT: usize = 25;
/// And at most this weight.
const MAX_PACKAGE_WEIGHT: u64 = 404_000;

impl Chain {
    /// Says what would become of several transactions, parents first, each at its own feerate
    /// and without replacements, as `testmempoolaccept` does for more than one.
    pub fn test_accept_all(&self, txs: &[Transaction]) -> PackageResult {
        if let Err(error) = check_well_formed(txs) {
            return PackageResult {
                error: Some(error),
                txs: Vec::new(),
            };
        }
        match self.judge_package(txs, Context::PACKAGE_TEST) {
            Ok((candidates, replaced, _)) => PackageResult {
                error: None,
                txs: candidates
                    .iter()
                    .map(|c| (c.wtxid, PackageTx::Accepted(c.accepted(&replaced))))
                    .collect(),
            },
            Err(failure) => failure.into_result(),
        }
    }

    /// Offers a child with its parents to the mempool, as `submitpackage` does: each on its own
    /// first, then those that failed only for their fee together.
    pub fn submit_package(&mut self, txs: &[Transaction]) -> PackageResult {
        let refused = |error| PackageResult {
            error: Some(error),
            txs: Vec::new(),
        };
        if txs.len() > 1 && !is_child_with_parents(txs) {
            return refused(Reject::policy("package-not-child-with-parents"));
        }
        if let Err(error) = check_well_formed(txs) {
            return refused(error);
        }
        let mut results: BTreeMap<Wtxid, PackageTx> = BTreeMap::new();
        let mut retry: Vec<Transaction> = Vec::new();
        let mut hopeless = false;
        for tx in txs {
            let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
            if let Some(entry) = self.mempool.get(&txid) {
                let known = if entry.wtxid == wtxid {
                    PackageTx::AlreadyKnown {
                        vsize: entry.vsize,
                        fee: entry.fee,
                    }
                } else {
                    PackageTx::DifferentWitness(entry.wtxid)
                };
                results.insert(wtxid, known);
                continue;
            }
            match self.send(tx) {
                Ok(accepted) => {
                    results.insert(wtxid, PackageTx::Accepted(accepted));
                }
                Err(reject) => {
                    let fee_matters = matches!(
                        reject.kind,
                        RejectKind::Reconsiderable | RejectKind::MissingInputs
                    );
                    if txs.len() > 1 && fee_matters {
                        retry.push(tx.clone());
                    } else {
                        hopeless = true;
                    }
                    results.insert(wtxid, PackageTx::Refused(reject));
                }
            }
        }
        let mut error = hopeless.then(|| Reject::policy("transaction failed"));
        if !hopeless && !retry.is_empty() {
            error = self.submit_retries(&retry, &mut results);
        }
        let in_order = txs.iter().filter_map(|tx| {
            let wtxid = tx.compute_wtxid();
            results.remove(&wtxid).map(|result| (wtxid, result))
        });
        let txs = in_order.collect();
        PackageResult { error, txs }
    }

    /// Judges the transactions that failed alone for their fee as a package of their own.
    fn submit_retries(
        &mut self,
        retry: &[Transaction],
        results: &mut BTreeMap<Wtxid, PackageTx>,
    ) -> Option<Reject> {
        if let [single] = retry {
            return match self.send(single) {
                Ok(accepted) => {
                    results.insert(accepted.wtxid, PackageTx::Accepted(accepted));
                    None
                }
                Err(reject) => {
                    results.insert(single.compute_wtxid(), PackageTx::Refused(reject));
                    Some(Reject::policy("transaction failed"))
                }
            };
        }
        match self.judge_package(retry, Context::PACKAGE) {
            Ok((candidates, replaced, feerate)) => {
                let includes: Vec<Wtxid> = candidates.iter().map(|c| c.wtxid).collect();
                for (i, candidate) in candidates.iter().enumerate() {
                    // Core reports the replaced transactions with the first of the package.
                    let mut accepted =
                        candidate.accepted(if i == 0 { replaced.as_slice() } else { &[] });
                    accepted.effective_feerate = feerate;
                    accepted.effective_includes.clone_from(&includes);
                    results.insert(candidate.wtxid, PackageTx::Accepted(accepted));
                }
                self.apply(&replaced, candidates);
                None
            }
            Err(failure) => {
                let result = failure.into_result();
                results.extend(result.txs);
                result.error
            }
        }
    }

    #[allow(clippy::type_complexity)]
    fn judge_package(
        &self,
        txs: &[Transaction],
        context: Context,
    ) -> Result<(Vec<Candidate>, Vec<Txid>, u64), PackageFailure> {
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut coins: BTreeMap<OutPoint, TxOut> = BTreeMap::new();
        for tx in txs {
            let candidate = self
                .pre_check(tx, context, &coins)
                .map_err(|reject| PackageFailure::of_tx(tx.compute_wtxid(), reject))?;
            for (vout, out) in (0u32..).zip(&tx.output) {
                coins.insert(
                    OutPoint {
                        txid: candidate.txid,
                        vout,
                    },
                    out.clone(),
                );
            }
            candidates.push(candidate);
        }
        let all: Vec<&Candidate> = candidates.iter().collect();
        for candidate in &all {
            self.check_truc_in_package(candidate, &all)
                .map_err(PackageFailure::of_package)?;
        }
        let vsize: u64 = all.iter().map(|c| c.vsize).sum();
        let fee: u64 = all.iter().map(|c| c.fee).sum();
        let last = all.last().map(|c| c.wtxid);
        if let (true, Some(last)) = (context.package_feerates, last) {
            self.check_feerate(fee, vsize)
                .map_err(|reject| PackageFailure::of_tx(last, reject))?;
        }
        let mut removed = BTreeSet::new();
        if all.iter().any(|c| !c.conflicts.is_empty()) {
            removed = self
                .check_package_replacement(&all, fee, vsize)
                .map_err(PackageFailure::of_package)?;
        }
        if !self.within_cluster_limits(&removed, &all) {
            return Err(PackageFailure::of_package(Reject::policy(
                "too-large-cluster",
            )));
        }
        if self.policy.require_standard {
            self.check_ephemeral_spends(&all)
                .map_err(|(wtxid, reject)| PackageFailure {
                    error: Reject::policy("unspent-dust"),
                    tx: Some((wtxid, reject)),
                })?;
        }
        for candidate in &all {
            self.check_scripts(candidate, context)
                .map_err(|reject| PackageFailure::of_tx(candidate.wtxid, reject))?;
        }
        Ok((
            candidates,
            removed.into_iter().collect(),
            fee * 1000 / vsize.max(1),
        ))
    }
}

/// Why a package was refused: the package's reason and, if one transaction is to blame, its own.
struct PackageFailure {
    error: Reject,
    tx: Option<(Wtxid, Reject)>,
}

impl PackageFailure {
    fn of_tx(wtxid: Wtxid, reject: Reject) -> Self {
        Self {
            error: Reject::policy("transaction failed"),
            tx: Some((wtxid, reject)),
        }
    }

    fn of_package(error: Reject) -> Self {
        Self { error, tx: None }
    }

    fn into_result(self) -> PackageResult {
        let txs = self
            .tx
            .into_iter()
            .map(|(wtxid, reject)| (wtxid, PackageTx::Refused(reject)));
        PackageResult {
            error: Some(self.error),
            txs: txs.collect(),
        }
    }
}

/// Package rules that need no chain.
fn check_well_formed(txs: &[Transaction]) -> Result<(), Reject> {
    if txs.len() > MAX_PACKAGE_COUNT {
        return Err(Reject::policy("package-too-many-transactions"));
    }
    let weight: u64 = txs.iter().map(|tx| tx.weight().to_wu()).sum();
    if txs.len() > 1 && weight > MAX_PACKAGE_WEIGHT {
        return Err(Reject::policy("package-too-large"));
    }
    let txids: Vec<Txid> = txs.iter().map(Transaction::compute_txid).collect();
    if txids.iter().collect::<BTreeSet<_>>().len() != txs.len() {
        return Err(Reject::policy("package-contains-duplicates"));
    }
    let mut later: BTreeSet<Txid> = txids.iter().copied().collect();
    for (tx, txid) in txs.iter().zip(&txids) {
        if tx
            .input
            .iter()
            .any(|i| later.contains(&i.previous_output.txid))
        {
            return Err(Reject::policy("package-not-sorted"));
        }
        later.remove(txid);
    }
    let mut spent = BTreeSet::new();
    for tx in txs {
        let own: BTreeSet<OutPoint> = tx.input.iter().map(|i| i.previous_output).collect();
        if own.is_empty() || own.iter().any(|outpoint| !spent.insert(*outpoint)) {
            return Err(Reject::policy("conflict-in-package"));
        }
    }
    Ok(())
}

/// Whether the last transaction spends an output of each other one, and these have nothing to do
/// with each other.
fn is_child_with_parents(txs: &[Transaction]) -> bool {
    let Some((child, parents)) = txs.split_last() else {
        return false;
    };
    let spends =
        |tx: &Transaction, txid: &Txid| tx.input.iter().any(|i| i.previous_output.txid == *txid);
    let txids: Vec<Txid> = parents.iter().map(Transaction::compute_txid).collect();
    txids
        .iter()
        .all(|txid| spends(child, txid) && !parents.iter().any(|p| spends(p, txid)))
}
