//! Why a transaction, package or block was refused, in the words of Bitcoin Core.

use core::fmt;

/// Which family of rules refused a transaction or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectKind {
    /// A consensus rule: it can never be mined as it stands.
    Consensus,
    /// A relay rule of this node: a miner could still include it.
    Policy,
    /// It is valid, but not yet (`nLockTime`, relative locks, coinbase maturity).
    Premature,
    /// An input is unknown or already spent in the chain.
    MissingInputs,
    /// It is already in the mempool, or its outputs are already in the chain.
    Conflict,
    /// The fee is too low on its own; as part of a package it may pass.
    Reconsiderable,
}

/// A refusal: Bitcoin Core's reject reason, and what Core calls the debug message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reject {
    /// The family of rules.
    pub kind: RejectKind,
    /// Bitcoin Core's reject reason, for instance `min relay fee not met`.
    pub reason: String,
    /// Further detail, possibly empty, for instance `0 < 11`.
    pub detail: String,
}

impl Reject {
    pub(crate) fn new(kind: RejectKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            detail: String::new(),
        }
    }

    pub(crate) fn with(kind: RejectKind, reason: impl Into<String>, detail: String) -> Self {
        Self {
            kind,
            reason: reason.into(),
            detail,
        }
    }

    pub(crate) fn consensus(reason: impl Into<String>) -> Self {
        Self::new(RejectKind::Consensus, reason)
    }

    pub(crate) fn policy(reason: impl Into<String>) -> Self {
        Self::new(RejectKind::Policy, reason)
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.detail.is_empty() {
            write!(f, ", {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Reject {}
