//! Version 3 transactions: topologically restricted until confirmation (TRUC, BIP 431).

use bitcoin::{Transaction, Txid, Wtxid};

use super::Candidate;
use crate::chain::Chain;
use crate::policy;
use crate::reject::{Reject, RejectKind};

impl Chain {
    /// The rules of version 3 transactions (TRUC, BIP 431) against the mempool.
    pub(super) fn check_truc(
        &self,
        candidate: &mut Candidate,
        may_evict: bool,
    ) -> Result<(), Reject> {
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
    pub(super) fn check_truc_in_package(
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
}

fn wrong_inheritance(child_is_truc: bool, child: &str, parent: &str) -> String {
    if child_is_truc {
        format!("version=3 {child} cannot spend from non-version=3 {parent}")
    } else {
        format!("non-version=3 {child} cannot spend from version=3 {parent}")
    }
}
