//! Replacement of transactions in the mempool, and the limits of clusters.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::Txid;

use super::Candidate;
use crate::chain::Chain;
use crate::linearize::improves;
use crate::mempool::{Entry, MempoolChunk, linearize};
use crate::policy::fee_for;
use crate::reject::{Reject, RejectKind};

/// A replacement may conflict with at most this many clusters.
const MAX_REPLACEMENT_CLUSTERS: usize = 100;

impl Chain {
    /// The rules for one transaction that replaces others; returns what it would remove.
    pub(super) fn check_replacement(
        &self,
        candidate: &Candidate,
    ) -> Result<BTreeSet<Txid>, Reject> {
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
    pub(super) fn check_package_replacement(
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

    pub(super) fn within_cluster_limits(
        &self,
        removed: &BTreeSet<Txid>,
        new: &[&Candidate],
    ) -> bool {
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
}

fn diagram(chunks: &[MempoolChunk]) -> Vec<(u64, u64)> {
    chunks
        .iter()
        .map(|chunk| (chunk.fee, chunk.weight))
        .collect()
}
