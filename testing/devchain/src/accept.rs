//! Acceptance of transactions and packages into the mempool, rule by rule in Bitcoin Core's
//! order, so that a transaction that breaks several rules gets the reason that Core gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, TxOut, Txid, Wtxid};

use crate::chain::Chain;
use crate::coins::Coin;
use crate::consensus::{
    check_transaction, check_tx_inputs, is_final, sequence_locks_met, sigop_cost,
};
use crate::linearize::improves;
use crate::mempool::{Entry, MempoolChunk, linearize};
use crate::policy::{self, adjusted_weight, fee_for};
use crate::reject::{Reject, RejectKind};
use crate::script;

/// The sender's own limit, which is no rule of the mempool.
pub(crate) const MAX_FEERATE_EXCEEDED: &str = "max feerate exceeded";

/// A replacement may conflict with at most this many clusters.
const MAX_REPLACEMENT_CLUSTERS: usize = 100;
/// A package has at most this many transactions.
const MAX_PACKAGE_COUNT: usize = 25;
/// And at most this weight.
const MAX_PACKAGE_WEIGHT: u64 = 404_000;

/// What the mempool says of a transaction that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The transaction.
    pub txid: Txid,
    /// Its hash with witnesses.
    pub wtxid: Wtxid,
    /// Its size in virtual bytes, adjusted for signature operations.
    pub vsize: u64,
    /// Its own fee in satoshi.
    pub fee: u64,
    /// The feerate by which it was judged, in satoshi per 1000 virtual bytes: its own, or that of
    /// the package.
    pub effective_feerate: u64,
    /// The transactions whose fees and sizes make up that feerate.
    pub effective_includes: Vec<Wtxid>,
    /// The transactions that it removed from the mempool.
    pub replaced: Vec<Txid>,
}

/// What became of one transaction of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageTx {
    /// It is new in the mempool.
    Accepted(Accepted),
    /// It was in the mempool before.
    AlreadyKnown {
        /// Its size in virtual bytes.
        vsize: u64,
        /// Its fee in satoshi.
        fee: u64,
    },
    /// The mempool holds it with another witness and keeps that.
    DifferentWitness(Wtxid),
    /// It was refused.
    Refused(Reject),
}

/// What became of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageResult {
    /// The refusal of the package as a whole, if there was one.
    pub error: Option<Reject>,
    /// Per transaction, as far as it was looked at, in the package's order.
    pub txs: Vec<(Wtxid, PackageTx)>,
}

impl PackageResult {
    /// Whether every transaction of the package is in the mempool now.
    pub fn is_ok(&self) -> bool {
        self.error.is_none()
            && !self
                .txs
                .iter()
                .any(|(_, r)| matches!(r, PackageTx::Refused(_)))
    }

    /// The first reason that helps to understand a refusal: a transaction's, else the package's.
    pub fn reason(&self) -> Option<&str> {
        let of_tx = self.txs.iter().find_map(|(_, r)| match r {
            PackageTx::Refused(reject) => Some(reject.reason.as_str()),
            _ => None,
        });
        match &self.error {
            Some(error) if error.reason != "transaction failed" => Some(&error.reason),
            error => of_tx.or(error.as_ref().map(|e| e.reason.as_str())),
        }
    }
}

/// In which situation a transaction is judged.
#[derive(Clone, Copy, Debug)]
struct Context {
    replacement: bool,
    sibling_eviction: bool,
    package_feerates: bool,
    /// For transactions of disconnected blocks: no fee and no TRUC checks.
    bypass_limits: bool,
    /// The scripts were verified before.
    scripts_known: bool,
}

impl Context {
    const SINGLE: Self = Self {
        replacement: true,
        sibling_eviction: true,
        package_feerates: false,
        bypass_limits: false,
        scripts_known: false,
    };
    const PACKAGE: Self = Self {
        sibling_eviction: false,
        package_feerates: true,
        ..Self::SINGLE
    };
    const PACKAGE_TEST: Self = Self {
        replacement: false,
        sibling_eviction: false,
        ..Self::SINGLE
    };
    const REORG: Self = Self {
        bypass_limits: true,
        ..Self::SINGLE
    };
}

/// One transaction under judgement.
struct Candidate {
    tx: Arc<Transaction>,
    txid: Txid,
    wtxid: Wtxid,
    spent: Vec<Coin>,
    fee: u64,
    vsize: u64,
    adjusted_weight: u64,
    conflicts: BTreeSet<Txid>,
    parents: BTreeSet<Txid>,
    evicts_sibling: bool,
}

impl Candidate {
    fn accepted(&self, replaced: &[Txid]) -> Accepted {
        Accepted {
            txid: self.txid,
            wtxid: self.wtxid,
            vsize: self.vsize,
            fee: self.fee,
            effective_feerate: self.fee * 1000 / self.vsize.max(1),
            effective_includes: vec![self.wtxid],
            replaced: replaced.to_vec(),
        }
    }
}

impl Chain {
    /// Offers a transaction to the mempool, as `sendrawtransaction` does.
    pub fn send(&mut self, tx: &Transaction) -> Result<Accepted, Reject> {
        let (candidate, replaced) = self.judge_single(tx, Context::SINGLE)?;
        let accepted = candidate.accepted(&replaced);
        self.apply(&replaced, [candidate]);
        Ok(accepted)
    }

    /// Like [`Chain::send`], but refuses what pays more than so many satoshi per 1000 virtual
    /// bytes.
    pub fn send_with_max_feerate(
        &mut self,
        tx: &Transaction,
        max_feerate: u64,
    ) -> Result<Accepted, Reject> {
        let (candidate, replaced) = self.judge_single(tx, Context::SINGLE)?;
        if candidate.fee > fee_for(max_feerate, candidate.vsize) {
            return Err(Reject::policy(MAX_FEERATE_EXCEEDED));
        }
        let accepted = candidate.accepted(&replaced);
        self.apply(&replaced, [candidate]);
        Ok(accepted)
    }

    /// Says what [`Chain::send`] would say, and changes nothing.
    pub fn test_accept(&self, tx: &Transaction) -> Result<Accepted, Reject> {
        let (candidate, replaced) = self.judge_single(tx, Context::SINGLE)?;
        Ok(candidate.accepted(&replaced))
    }

    /// Takes a transaction of a disconnected block, or of the mempool before a reorg, back.
    pub(crate) fn accept_after_reorg(
        &mut self,
        tx: &Transaction,
        scripts_known: bool,
    ) -> Result<(), Reject> {
        let context = Context {
            scripts_known,
            ..Context::REORG
        };
        let (candidate, replaced) = self.judge_single(tx, context)?;
        self.apply(&replaced, [candidate]);
        Ok(())
    }

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

    fn apply(&mut self, replaced: &[Txid], candidates: impl IntoIterator<Item = Candidate>) {
        for txid in replaced {
            self.mempool.remove(txid);
        }
        let (time, height) = (self.time(), self.height());
        for candidate in candidates {
            self.remember_verified(candidate.wtxid);
            let entry = self.entry_of(&candidate, time, height);
            self.mempool.insert(candidate.txid, entry);
        }
    }

    fn entry_of(&self, candidate: &Candidate, time: u32, height: u32) -> Entry {
        Entry {
            tx: Arc::clone(&candidate.tx),
            wtxid: candidate.wtxid,
            fee: candidate.fee,
            weight: candidate.tx.weight().to_wu(),
            vsize: candidate.vsize,
            time,
            height,
            adjusted_weight: candidate.adjusted_weight,
            sequence: 0,
        }
    }

    fn judge_single(
        &self,
        tx: &Transaction,
        context: Context,
    ) -> Result<(Candidate, Vec<Txid>), Reject> {
        let candidate = self.pre_check(tx, context, &BTreeMap::new())?;
        let mut removed = BTreeSet::new();
        if !candidate.conflicts.is_empty() {
            removed = self.check_replacement(&candidate)?;
        }
        let new = [&candidate];
        if !self.within_cluster_limits(&removed, &new) {
            return Err(Reject::policy("too-large-cluster"));
        }
        if candidate.parents.iter().any(|parent| {
            self.mempool
                .ancestors_of(parent)
                .iter()
                .any(|a| candidate.conflicts.contains(a))
        }) {
            return Err(Reject::with(
                RejectKind::Consensus,
                "bad-txns-spends-conflicting-tx",
                format!("{} spends conflicting transaction", candidate.txid),
            ));
        }
        if self.policy.require_standard {
            self.check_ephemeral_spends(&new)
                .map_err(|(_, reject)| reject)?;
        }
        self.check_scripts(&candidate, context)?;
        Ok((candidate, removed.into_iter().collect()))
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

    /// Everything about one transaction that needs neither replacement rules nor scripts.
    fn pre_check(
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

    fn check_feerate(&self, fee: u64, vsize: u64) -> Result<(), Reject> {
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

    /// The rules of version 3 transactions (TRUC, BIP 431) against the mempool.
    fn check_truc(&self, candidate: &mut Candidate, may_evict: bool) -> Result<(), Reject> {
        let violation = |detail: String| Reject::with(RejectKind::Policy, "TRUC-violation", detail);
        let name = |txid: Txid, wtxid: Wtxid| format!("tx {txid} (wtxid={wtxid})");
        let is_truc = candidate.tx.version.0 == policy::TRUC_VERSION;
        let me = name(candidate.txid, candidate.wtxid);
        for parent in candidate
            .parents
            .iter()
            .filter_map(|txid| self.mempool.get(txid))
        {
            let parent_is_truc = parent.tx.version.0 == policy::TRUC_VERSION;
            if parent_is_truc != is_truc {
                let parent = name(parent.tx.compute_txid(), parent.wtxid);
                return Err(violation(wrong_inheritance(is_truc, &me, &parent)));
            }
        }
        if !is_truc {
            return Ok(());
        }
        if candidate.vsize > policy::TRUC_MAX_VSIZE {
            return Err(violation(format!(
                "version=3 {me} is too big: {} > {} virtual bytes",
                candidate.vsize,
                policy::TRUC_MAX_VSIZE
            )));
        }
        let Some(parent) = candidate.parents.first().copied() else {
            return Ok(());
        };
        if candidate.parents.len() > 1 || self.mempool.ancestors_of(&parent).len() > 1 {
            return Err(violation(format!("{me} would have too many ancestors")));
        }
        if candidate.vsize > policy::TRUC_CHILD_MAX_VSIZE {
            return Err(violation(format!(
                "version=3 child {me} is too big: {} > {} virtual bytes",
                candidate.vsize,
                policy::TRUC_CHILD_MAX_VSIZE
            )));
        }
        let mut siblings = self.mempool.descendants_of(&parent);
        siblings.remove(&parent);
        let replaces_sibling = siblings.iter().any(|s| candidate.conflicts.contains(s));
        if siblings.is_empty() || replaces_sibling {
            return Ok(());
        }
        // One sibling without further ancestors may be evicted by the rules of replacement.
        match siblings.first() {
            Some(sibling)
                if may_evict
                    && siblings.len() == 1
                    && self.mempool.ancestors_of(sibling).len() == 2 =>
            {
                candidate.conflicts.insert(*sibling);
                candidate.evicts_sibling = true;
                Ok(())
            }
            _ => {
                let wtxid = self.mempool.get(&parent).map(|e| e.wtxid.to_string());
                Err(violation(format!(
                    "tx {parent} (wtxid={}) would exceed descendant count limit",
                    wtxid.unwrap_or_default()
                )))
            }
        }
    }

    /// The rules of version 3 transactions within a package.
    fn check_truc_in_package(
        &self,
        candidate: &Candidate,
        package: &[&Candidate],
    ) -> Result<(), Reject> {
        let violation = |detail: String| Reject::with(RejectKind::Policy, "TRUC-violation", detail);
        let name = |c: &Candidate| format!("tx {} (wtxid={})", c.txid, c.wtxid);
        let spends = |tx: &Transaction, txid: &Txid| {
            tx.input.iter().any(|i| i.previous_output.txid == *txid)
        };
        let in_package: Vec<&&Candidate> = package
            .iter()
            .filter(|p| spends(&candidate.tx, &p.txid))
            .collect();
        let is_truc = candidate.tx.version.0 == policy::TRUC_VERSION;
        let me = name(candidate);
        if !is_truc {
            return match in_package
                .iter()
                .find(|p| p.tx.version.0 == policy::TRUC_VERSION)
            {
                Some(parent) => Err(violation(wrong_inheritance(false, &me, &name(parent)))),
                None => Ok(()),
            };
        }
        let too_many = || violation(format!("{me} would have too many ancestors"));
        if candidate.parents.len() + in_package.len() > 1 {
            return Err(too_many());
        }
        let mempool_parent = candidate.parents.first();
        if mempool_parent.is_some_and(|p| self.mempool.ancestors_of(p).len() > 1) {
            return Err(too_many());
        }
        let (parent, version, has_child) = match (mempool_parent, in_package.first()) {
            (Some(txid), _) => {
                let version = self.mempool.get(txid).map_or(0, |e| e.tx.version.0);
                (*txid, version, !self.mempool.children_of(txid).is_empty())
            }
            (None, Some(parent)) => (parent.txid, parent.tx.version.0, false),
            (None, None) => return Ok(()),
        };
        if candidate.vsize > policy::TRUC_CHILD_MAX_VSIZE {
            return Err(violation(format!(
                "version=3 child {me} is too big: {} > {} virtual bytes",
                candidate.vsize,
                policy::TRUC_CHILD_MAX_VSIZE
            )));
        }
        if version != policy::TRUC_VERSION {
            return Err(violation(wrong_inheritance(
                true,
                &me,
                &format!("tx {parent}"),
            )));
        }
        for other in package.iter().filter(|other| other.txid != candidate.txid) {
            if spends(&other.tx, &parent) {
                return Err(violation(format!(
                    "tx {parent} would exceed descendant count limit"
                )));
            }
            if spends(&other.tx, &candidate.txid) {
                return Err(violation(format!(
                    "{} would have too many ancestors",
                    name(other)
                )));
            }
        }
        if has_child {
            return Err(violation(format!(
                "tx {parent} would exceed descendant count limit"
            )));
        }
        Ok(())
    }

    /// The rules for one transaction that replaces others; returns what it would remove.
    fn check_replacement(&self, candidate: &Candidate) -> Result<BTreeSet<Txid>, Reject> {
        let suffix = if candidate.evicts_sibling {
            " (including sibling eviction)"
        } else {
            ""
        };
        let removed = self
            .conflict_closure(&candidate.conflicts)
            .map_err(|detail| {
                Reject::with(
                    RejectKind::Policy,
                    format!("too many potential replacements{suffix}"),
                    format!("rejecting replacement {}; {detail}", candidate.txid),
                )
            })?;
        self.pays_for_replacement(&removed, candidate.fee, candidate.vsize, &candidate.txid)
            .map_err(|detail| {
                Reject::with(
                    RejectKind::Reconsiderable,
                    format!("insufficient fee{suffix}"),
                    detail,
                )
            })?;
        if !self.within_cluster_limits(&removed, &[candidate]) {
            return Err(Reject::policy("too-large-cluster"));
        }
        if !self.improves_diagram(&removed, &[candidate]) {
            return Err(Reject::with(
                RejectKind::Reconsiderable,
                "replacement-failed",
                "insufficient feerate: does not improve feerate diagram".to_owned(),
            ));
        }
        Ok(removed)
    }

    /// The rules for a package of two that replaces others; returns what it would remove.
    fn check_package_replacement(
        &self,
        package: &[&Candidate],
        fee: u64,
        vsize: u64,
    ) -> Result<BTreeSet<Txid>, Reject> {
        let failed = |what: &str, detail: String| {
            Reject::with(
                RejectKind::Policy,
                format!("package RBF failed: {what}"),
                detail,
            )
        };
        let [parent, child] = package else {
            return Err(failed("package must be 1-parent-1-child", String::new()));
        };
        if package.iter().any(|c| !c.parents.is_empty()) {
            return Err(failed(
                "new transaction cannot have mempool ancestors",
                String::new(),
            ));
        }
        let direct: BTreeSet<Txid> = package
            .iter()
            .flat_map(|c| c.conflicts.iter().copied())
            .collect();
        let removed = self
            .conflict_closure(&direct)
            .map_err(|detail| failed("too many potential replacements", detail))?;
        self.pays_for_replacement(&removed, fee, vsize, &child.txid)
            .map_err(|detail| failed("insufficient anti-DoS fees", detail))?;
        // The child must lift its parent, not only pay for the replacement.
        let lifted = u128::from(fee) * u128::from(parent.vsize);
        if lifted <= u128::from(parent.fee) * u128::from(vsize) {
            return Err(failed(
                "package feerate is less than or equal to parent feerate",
                String::new(),
            ));
        }
        if !self.within_cluster_limits(&removed, package) {
            return Err(Reject::policy("too-large-cluster"));
        }
        if !self.improves_diagram(&removed, package) {
            return Err(failed(
                "insufficient feerate: does not improve feerate diagram",
                String::new(),
            ));
        }
        Ok(removed)
    }

    /// The conflicting transactions with all their descendants.
    fn conflict_closure(&self, direct: &BTreeSet<Txid>) -> Result<BTreeSet<Txid>, String> {
        let clusters: BTreeSet<Option<Txid>> = direct
            .iter()
            .map(|txid| self.mempool.cluster_of(txid).first().copied())
            .collect();
        if clusters.len() > MAX_REPLACEMENT_CLUSTERS {
            return Err(format!(
                "too many conflicting clusters ({} > {MAX_REPLACEMENT_CLUSTERS})",
                clusters.len()
            ));
        }
        Ok(direct
            .iter()
            .flat_map(|txid| self.mempool.descendants_of(txid))
            .collect())
    }

    fn pays_for_replacement(
        &self,
        removed: &BTreeSet<Txid>,
        fee: u64,
        vsize: u64,
        txid: &Txid,
    ) -> Result<(), String> {
        let old: u64 = removed
            .iter()
            .filter_map(|t| self.mempool.get(t))
            .map(|e| e.fee)
            .sum();
        let relay = fee_for(self.policy.incremental_relay_feerate, vsize);
        match fee.checked_sub(old) {
            None => Err(format!(
                "rejecting replacement {txid}, less fees than conflicting txs; {} < {}",
                crate::consensus::btc(fee),
                crate::consensus::btc(old)
            )),
            Some(more) if more < relay => Err(format!(
                "rejecting replacement {txid}, not enough additional fees to relay; {} < {}",
                crate::consensus::btc(more),
                crate::consensus::btc(relay)
            )),
            Some(_) => Ok(()),
        }
    }

    /// The clusters that would hold the new transactions, as entries.
    fn new_clusters(
        &self,
        removed: &BTreeSet<Txid>,
        new: &[&Candidate],
        also: &BTreeSet<Txid>,
    ) -> Vec<Vec<Entry>> {
        let mut new_entries: BTreeMap<Txid, Entry> = BTreeMap::new();
        let mut new_near: BTreeMap<Txid, BTreeSet<Txid>> = BTreeMap::new();
        for candidate in new {
            new_entries.insert(candidate.txid, self.entry_of(candidate, 0, 0));
            for input in &candidate.tx.input {
                let parent = input.previous_output.txid;
                new_near.entry(candidate.txid).or_default().insert(parent);
                new_near.entry(parent).or_default().insert(candidate.txid);
            }
        }
        let exists = |txid: &Txid| {
            new_entries.contains_key(txid)
                || (self.mempool.contains(txid) && !removed.contains(txid))
        };
        let mut seen: BTreeSet<Txid> = BTreeSet::new();
        let mut clusters = Vec::new();
        let starts = new.iter().map(|c| c.txid).chain(also.iter().copied());
        for start in starts.filter(|txid| exists(txid)) {
            if !seen.insert(start) {
                continue;
            }
            let mut members = vec![start];
            let mut at = 0;
            while let Some(txid) = members.get(at).copied() {
                at += 1;
                let mut near = self.mempool.neighbours(&txid);
                near.extend(new_near.get(&txid).into_iter().flatten());
                for next in near {
                    if exists(&next) && seen.insert(next) {
                        members.push(next);
                    }
                }
            }
            let entries = members.iter().filter_map(|txid| {
                new_entries
                    .get(txid)
                    .or_else(|| self.mempool.get(txid))
                    .cloned()
            });
            clusters.push(entries.collect());
        }
        clusters
    }

    fn within_cluster_limits(&self, removed: &BTreeSet<Txid>, new: &[&Candidate]) -> bool {
        self.new_clusters(removed, new, &BTreeSet::new())
            .iter()
            .all(|cluster| {
                let weight: u64 = cluster.iter().map(|e| e.adjusted_weight).sum();
                cluster.len() <= self.policy.cluster_count && weight <= self.policy.cluster_weight
            })
    }

    fn improves_diagram(&self, removed: &BTreeSet<Txid>, new: &[&Candidate]) -> bool {
        let mut touched: BTreeSet<Txid> = removed.clone();
        touched.extend(new.iter().flat_map(|c| c.parents.iter().copied()));
        let mut old_members: BTreeSet<Txid> = BTreeSet::new();
        let mut old = Vec::new();
        for txid in &touched {
            if old_members.contains(txid) {
                continue;
            }
            let cluster = self.mempool.cluster_of(txid);
            let entries: Vec<&Entry> = cluster
                .iter()
                .filter_map(|txid| self.mempool.get(txid))
                .collect();
            old.extend(diagram(&linearize(&entries)));
            old_members.extend(cluster);
        }
        let mut after = Vec::new();
        for cluster in self.new_clusters(removed, new, &old_members) {
            after.extend(diagram(&linearize(&cluster.iter().collect::<Vec<_>>())));
        }
        improves(old, after)
    }

    /// A child must spend all dust of its unconfirmed parents.
    fn check_ephemeral_spends(&self, package: &[&Candidate]) -> Result<(), (Wtxid, Reject)> {
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

    fn check_scripts(&self, candidate: &Candidate, context: Context) -> Result<(), Reject> {
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

fn wrong_inheritance(child_is_truc: bool, child: &str, parent: &str) -> String {
    if child_is_truc {
        format!("version=3 {child} cannot spend from non-version=3 {parent}")
    } else {
        format!("non-version=3 {child} cannot spend from version=3 {parent}")
    }
}

fn diagram(chunks: &[MempoolChunk]) -> Vec<(u64, u64)> {
    chunks
        .iter()
        .map(|chunk| (chunk.fee, chunk.weight))
        .collect()
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
