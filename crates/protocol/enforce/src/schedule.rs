//! How much to pay, and when to pay more.

use bitcoin::Amount;
use fulmen_types::{BlockHeight, FeeratePerKw, Feerates};

/// How deep a block must be before what it says is told upstream: deeper than reorganisations go in
/// practice (BOLT 5 asks for a reasonable depth).
pub(crate) const REASONABLE_DEPTH: u32 = 6;
/// How deep a block must be before the outputs it settles are forgotten (BOLT 5, irrevocably resolved).
pub(crate) const IRREVOCABLE_DEPTH: u32 = 100;
/// How long before its deadline a revoked output gets a transaction of its own (BOLT 5,
/// `security_delay`).
pub(crate) const SECURITY_DELAY: u32 = 18;
/// How long after its expiry an HTLC that we offered should be back, so that the HTLC it was forwarded
/// from can still be failed before it expires in turn.
pub(crate) const TIMEOUT_GRACE: u32 = 12;
/// Our balance on a commitment is not in danger, only late: this much of it, in percent, counts as being at stake.
pub(crate) const LATE_PERCENT: u64 = 10;
/// So many blocks after its child's last attempt a commitment has waited for long enough, and all of our balance counts
/// for an attempt that pays what the estimates ask for.
pub(crate) const LATE: u32 = 144;
/// How long before the expiry of an HTLC that we claim with a preimage our commitment should confirm.
pub(crate) const SUCCESS_MARGIN: u32 = 6;

/// The greatest share of the value at stake that may go to fees, in percent.
pub(crate) const MOST_BUDGET_PERCENT: u64 = 90;

/// What a replacement pays more than what it replaces, per weight of its own: the incremental relay feerate
/// of nodes of all ages.
const INCREMENT: FeeratePerKw = FeeratePerKw::new(250);

/// How soon a claim must confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Urgency {
    /// The feerate to start from.
    pub(crate) target: FeeratePerKw,
    /// Blocks to wait before paying more.
    pub(crate) interval: u32,
    /// Which share of the value at stake may go to fees, in percent.
    pub(crate) budget_percent: u64,
}

/// The urgency of a claim at `tip` that should be in a block by `deadline`.
pub(crate) fn urgency(
    deadline: Option<BlockHeight>,
    tip: BlockHeight,
    feerates: &Feerates,
) -> Urgency {
    let remaining = deadline.map(|d| d.to_u32().saturating_sub(tip.to_u32()));
    let (target, interval, budget_percent) = match remaining {
        Some(0..=6) => (feerates.urgent, 1, MOST_BUDGET_PERCENT),
        Some(7..=18) => (feerates.normal, 3, 50),
        Some(19..=144) => (feerates.normal, 6, 50),
        Some(_) => (feerates.background, 12, 50),
        None => (feerates.background, 24, 50),
    };
    Urgency {
        target: target.max(feerates.floor),
        interval,
        budget_percent,
    }
}

/// The feerate of the next attempt after one at `last`: at least a quarter more, and never less than what
/// lets it replace the last one.
pub(crate) fn raised(last: FeeratePerKw, target: FeeratePerKw) -> FeeratePerKw {
    let last = last.to_sat_per_kw();
    let least = last
        .saturating_add(last / 4)
        .max(last.saturating_add(INCREMENT.to_sat_per_kw()));
    target.max(FeeratePerKw::new(least))
}

/// The least fee that replaces one of `fee` (BIP 125, rules 3 and 4).
pub(crate) fn replacement_fee(fee: Amount, weight: u64) -> Amount {
    fee.checked_add(INCREMENT.fee_ceil(weight))
        .unwrap_or(Amount::MAX_MONEY)
}

/// The highest feerate at which `weight` costs no more than `budget`.
pub(crate) fn feerate_within(budget: Amount, weight: u64) -> FeeratePerKw {
    let feerate = u128::from(budget.to_sat()) * 1_000 / u128::from(weight.max(1));
    FeeratePerKw::new(u32::try_from(feerate).unwrap_or(u32::MAX))
}

/// A share of an amount, rounded down.
pub(crate) fn percent_floor(amount: Amount, percent: u64) -> Amount {
    let share = u128::from(amount.to_sat()) * u128::from(percent) / 100;
    Amount::from_sat(u64::try_from(share).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEERATES: Feerates = Feerates {
        background: FeeratePerKw::new(500),
        normal: FeeratePerKw::new(1_000),
        urgent: FeeratePerKw::new(4_000),
        floor: FeeratePerKw::new(253),
    };

    #[test]
    fn the_nearer_the_deadline_the_higher_the_target() {
        let tip = BlockHeight::new(1_000);
        let mut last = FeeratePerKw::new(u32::MAX);
        for remaining in 0..300 {
            let target = urgency(Some(tip.plus(remaining)), tip, &FEERATES).target;
            assert!(target <= last);
            last = target;
        }
        assert_eq!(urgency(None, tip, &FEERATES).target, FEERATES.background);
        // A deadline that has passed is as urgent as can be.
        assert_eq!(
            urgency(Some(tip.minus(5)), tip, &FEERATES).target,
            FEERATES.urgent
        );
    }

    #[test]
    fn a_raise_always_replaces() {
        for last in [0, 1, 252, 253, 1_000, 10_000, u32::MAX] {
            let next = raised(FeeratePerKw::new(last), FeeratePerKw::FLOOR).to_sat_per_kw();
            assert!(next == u32::MAX || next >= last + 250);
        }
    }

    #[test]
    fn the_budget_holds() {
        for (budget, weight) in [(1_000, 500), (999, 707), (0, 1), (5, 0)] {
            let budget = Amount::from_sat(budget);
            assert!(weight == 0 || feerate_within(budget, weight).fee_floor(weight) <= budget);
        }
    }
}
