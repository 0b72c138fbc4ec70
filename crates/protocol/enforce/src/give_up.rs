//! Small HTLCs that a channel upstream is not to be closed for.
//!
//! An HTLC of ours that nobody can afford to claim may lie on chain, or wait with a commitment that pays too
//! little, for longer than the HTLC that it was forwarded from lives. Then either that one is failed upstream,
//! and the amount is at risk until ours is decided; or the channel upstream is closed by force, and both
//! HTLCs wait on chain. The second is better only where the amount is worth the fight: a commitment and
//! an HTLC transaction in blocks in time, at the urgent feerate.
//!
//! So what is given up is worth less than the HTLC transaction alone would cost there. A peer that holds
//! preimages back until then gains what a close would not have saved; and whatever is worth more waits for the
//! chain.

use alloc::vec::Vec;

use bitcoin::Amount;
use fulmen_tx::{CommitmentFormat, HtlcKind, htlc_transaction_weight};
use fulmen_types::{Feerates, HtlcId, Msat};

use crate::{
    input::EnforceContext,
    output::{EnforceEvent, EnforceOutput},
    plan::COIN_AND_CHANGE_WEIGHT,
    resolution::Resolution,
    schedule::{MOST_BUDGET_PERCENT, percent_floor},
};

/// Whether claiming an HTLC in time, in a transaction of its own and at the urgent feerate, takes no more
/// than the share of it that may go to fees.
fn is_worth_a_fight(amount: Msat, feerates: &Feerates) -> bool {
    let format = CommitmentFormat::AnchorsZeroFeeHtlc;
    let weight = htlc_transaction_weight(format, HtlcKind::Offered) + COIN_AND_CHANGE_WEIGHT;
    let feerate = feerates.urgent.max(feerates.floor);
    feerate.fee_ceil(weight)
        <= percent_floor(Amount::from_sat(amount.to_sat_floor()), MOST_BUDGET_PERCENT)
}

impl Resolution {
    /// The HTLC that this one was forwarded from can't wait any longer.
    pub(crate) fn give_up(
        &mut self,
        id: HtlcId,
        ctx: &EnforceContext<'_>,
        out: &mut Vec<EnforceOutput>,
    ) {
        let offered = self.offered();
        let Some(htlc) = offered.iter().find(|htlc| htlc.id == id) else {
            return;
        };
        let told = self.state.told_fulfilled.contains(&id) || self.state.told_failed.contains(&id);
        let fulfilled = self.state.preimages.contains_key(&htlc.payment_hash);
        let has_expired = htlc.cltv_expiry.to_height() <= ctx.tip;
        // While blocks are missing, one of them may have the preimage.
        let may_end = self.run.caught_up && has_expired && !told && !fulfilled;
        if !may_end || is_worth_a_fight(htlc.amount, &ctx.feerates) {
            return;
        }
        self.state.told_failed.insert(id);
        let payment_hash = htlc.payment_hash;
        out.push(EnforceOutput::HtlcFailed { id, payment_hash });
        out.push(EnforceOutput::Event(EnforceEvent::GivenUp {
            id,
            payment_hash,
            amount: htlc.amount,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulmen_types::FeeratePerKw;

    fn feerates(urgent: u32) -> Feerates {
        Feerates {
            background: FeeratePerKw::FLOOR,
            normal: FeeratePerKw::FLOOR,
            urgent: FeeratePerKw::new(urgent),
            floor: FeeratePerKw::FLOOR,
        }
    }

    #[test]
    fn the_border_is_what_a_claim_of_its_own_costs() {
        // 666 for the transaction and 486 for a coin and change: 1,152 sat at 1,000 sat per kw, and a tenth on top.
        let worth = |sat| is_worth_a_fight(Msat::from_sat(sat), &feerates(1_000));
        assert!(!worth(1_279));
        assert!(worth(1_280));
        // A fight costs the least that is relayed at any rate.
        assert!(!is_worth_a_fight(Msat::from_sat(300), &feerates(1)));
        assert!(!is_worth_a_fight(Msat::ZERO, &feerates(1)));
        assert!(is_worth_a_fight(Msat::MAX_MONEY, &feerates(100_000)));
    }
}
