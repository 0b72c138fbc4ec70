//! What is weighed against what.

use fulmen_types::Msat;

use crate::nats::{self, Nats};

/// How a route's properties count beside its fee.
///
/// The cost of a way is its fee, what locking up the money costs, and the risk: minus the logarithm of
/// the probability that it succeeds, times what a nat of it is worth. Half a chance is 0.69 nats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostModel {
    /// What a block of expiry costs, in billionths of the amount.
    pub lock_ppb_per_block: u32,
    /// What one nat of improbability costs, for any amount.
    pub risk_base: Msat,
    /// The same, in millionths of the amount on top.
    pub risk_ppm: u32,
}

impl CostModel {
    /// Nothing but the fee.
    pub const FEE_ONLY: Self = Self {
        lock_ppb_per_block: 0,
        risk_base: Msat::ZERO,
        risk_ppm: 0,
    };

    /// Money costs 5% a year; a chance of one in ten is worth 10 sat and 0.12% to avoid.
    pub const BALANCED: Self = Self {
        lock_ppb_per_block: 1_000,
        risk_base: Msat::new(4_343),
        risk_ppm: 518,
    };
}

/// A model for one amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    /// Msat per nat.
    per_nat: u64,
    /// Msat per block, in 65,536ths.
    per_block: u64,
}

/// Keeps products of weights below 2^64.
const MOST: u64 = 1 << 42;

impl Weights {
    pub(crate) fn new(model: &CostModel, amount: Msat) -> Self {
        let amount = u128::from(amount.to_msat());
        let per_nat =
            amount * u128::from(model.risk_ppm) / 1_000_000 + u128::from(model.risk_base.to_msat());
        let per_block = ((amount * u128::from(model.lock_ppb_per_block)) << 16) / 1_000_000_000;
        let bounded = |value: u128| u64::try_from(value).unwrap_or(MOST).min(MOST);
        Self {
            per_nat: bounded(per_nat),
            per_block: bounded(per_block),
        }
    }

    pub(crate) const fn is_fee_only(&self) -> bool {
        self.per_nat == 0 && self.per_block == 0
    }

    /// The same with a nat worth a part of what it was.
    pub(crate) const fn with_less_risk(self, shift: u32) -> Self {
        Self {
            per_nat: self.per_nat >> shift,
            ..self
        }
    }

    pub(crate) fn lock(&self, blocks: u32) -> u64 {
        (self.per_block.saturating_mul(u64::from(blocks))) >> 16
    }

    /// Of a part of the amount.
    pub(crate) fn lock_part(&self, blocks: u32, part: u64, of: u64) -> u64 {
        let whole = u128::from(self.per_block) * u128::from(blocks) * u128::from(part);
        u64::try_from((whole / u128::from(of.max(1))) >> 16).unwrap_or(u64::MAX)
    }

    pub(crate) fn risk(&self, nats: Nats) -> u64 {
        (self.per_nat * u64::from(nats)) >> 16
    }

    pub(crate) fn risk_of(&self, nats: u64) -> u64 {
        u64::try_from((u128::from(self.per_nat) * u128::from(nats)) >> 16).unwrap_or(u64::MAX)
    }
}

/// What a way costs, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// What the forwarders get.
    pub fee: Msat,
    /// What the time until the expiry costs.
    pub lock: Msat,
    /// What the risk of failure costs.
    pub risk: Msat,
    /// What the user's layers and past failures add.
    pub bias: Msat,
}

impl Cost {
    /// All of it.
    pub const fn total(&self) -> Msat {
        self.fee
            .saturating_add(self.lock)
            .saturating_add(self.risk)
            .saturating_add(self.bias)
    }
}

/// The chance that something succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability {
    nats: u64,
}

impl Probability {
    pub(crate) const fn from_nats(nats: u64) -> Self {
        Self { nats }
    }

    pub(crate) const fn nats(self) -> u64 {
        self.nats
    }

    /// In millionths.
    pub fn to_ppm(self) -> u32 {
        nats::to_ppm(self.nats)
    }
}
