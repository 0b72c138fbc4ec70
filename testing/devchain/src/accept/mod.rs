//! Acceptance of transactions and packages into the mempool, rule by rule in Bitcoin Core's
//! order, so that a transaction that breaks several rules gets the reason that Core gives.

mod package;
mod replacement;
mod rules;
mod truc;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Transaction, Txid, Wtxid};

use crate::chain::Chain;
use crate::coins::Coin;
use crate::mempool::Entry;
use crate::policy::fee_for;
use crate::reject::{Reject, RejectKind};

/// The sender's own limit, which is no rule of the mempool.
pub(crate) const MAX_FEERATE_EXCEEDED: &str = "max feerate exceeded";

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
}
