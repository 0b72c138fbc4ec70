//! The ledger: what everybody should have once all is quiet, and once all is back on chain.

use fulmen_types::Msat;

use crate::{
    plan::{PaymentPlan, Trick},
    user::{Again, Stage},
    world::World,
};

impl World {
    /// What each host was given and gave away in channels, in msat.
    fn earned(&self, host: usize) -> i128 {
        let mut sum = i128::from(self.users.earned.get(&host).copied().unwrap_or(0));
        for plan in self.users.channels.values() {
            let push = i128::from(plan.push_sat) * 1_000;
            if plan.from == host {
                sum -= push;
            }
            if plan.to == host {
                sum += push;
            }
        }
        for payment in self.users.payments.values() {
            if let Some(amount) = payment.received.filter(|_| payment.ends.1 == host) {
                sum += i128::from(amount);
            }
            if let (Some(Ok(fee)), true) = (&payment.sent, payment.ends.0 == host) {
                sum -= i128::from(payment.amount_msat) + i128::from(*fee);
            }
            if let Some(Again {
                host: payer,
                sent: Some(Ok(fee)),
                ..
            }) = &payment.again
                && *payer == host
            {
                sum -= i128::from(payment.amount_msat) + i128::from(*fee);
            }
        }
        sum
    }

    /// Nothing is in flight: payments ended the same at both ends, and every msat is where it should be.
    pub(crate) fn check_lightning_ledger(&mut self) {
        for (hash, payment) in self.users.payments.clone() {
            let again = payment.again.as_ref().and_then(|again| again.sent.as_ref());
            let told = [payment.sent.as_ref(), again];
            let paid = told.iter().flatten().filter(|sent| sent.is_ok()).count();
            let ends = [payment.ends.0, payment.ends.1];
            let third = payment.again.as_ref().map(|again| again.host);
            if ends
                .into_iter()
                .chain(third)
                .any(|end| self.is_villain(end))
            {
                continue;
            }
            // Parts of two payers that were there together are one payment, of more than was asked. And a node on
            // the way that knows the preimage of the one keeps the money of the other where the channel that it
            // had forwarded it to is closed by force: it could lose it otherwise.
            let mixed = payment
                .received
                .is_some_and(|received| received > payment.amount_msat);
            if paid > 1 && !mixed && self.forced.is_empty() {
                self.fail(format!("payment {hash} was paid by two: {told:?}"));
            }
            match (&payment.sent, payment.received) {
                (Some(_), Some(_)) if paid >= 1 => {}
                (Some(_), None) if paid == 0 => {}
                // Somebody on the way kept the preimage to itself and lost by it.
                (Some(_), Some(_)) if self.villainy.on => {}
                // An HTLC without an output, or one that is not worth its claim, is lost to whom has it, when its
                // channel is closed by force.
                (_, _) if self.may_be_trimmed(payment.amount_msat) => {}
                (_, _) if self.waits_for_the_market(payment.amount_msat) => {}
                (_, _) if self.users.given_up_hashes.contains(&hash) => {}
                (sent, received) => {
                    self.fail(format!(
                        "payment {hash}: sent {sent:?}, received {received:?}"
                    ));
                }
            }
        }
        let failed = self.users.tasks.iter().find_map(|task| match &task.stage {
            Stage::Failed(why) => Some(why.clone()),
            _ => None,
        });
        if let Some(why) = failed {
            self.fail(format!("a user got nothing: {why}"));
        }
        // What was in channels that are closed is looked for on the chain.
        if !self.forced.is_empty() || !self.closed_early.is_empty() {
            return;
        }
        for index in 0..self.hosts.len() {
            let mut expected = self.earned(index);
            for plan in self.users.channels.values() {
                if plan.from == index {
                    expected += i128::from(plan.amount_sat) * 1_000;
                }
            }
            let ids = &self.users.channels;
            let own = self.hosts[index].channels();
            let balances = own.iter().filter(|c| ids.contains_key(&c.channel_id));
            let held = Msat::checked_sum(balances.map(|c| c.balances.0)).unwrap_or(Msat::MAX);
            if expected != i128::from(held.to_msat()) {
                self.fail(format!(
                    "n{index} has {} msat in its channels and should have {expected}",
                    held.to_msat()
                ));
            }
        }
    }

    /// Whether an HTLC of so much may have had no output in a channel that was closed by force.
    pub(crate) fn may_be_trimmed(&self, amount_msat: u64) -> bool {
        !self.forced.is_empty() && self.is_near_dust(amount_msat)
    }

    /// Whether an HTLC of so much has no output on a commitment at the highest feerate of the run.
    pub(crate) fn is_near_dust(&self, amount_msat: u64) -> bool {
        let second_stage = u64::from(self.highest_feerate) * 703;
        amount_msat < self.plan.limits.dust_sat * 1_000 + second_stage
    }

    /// Everything is back on chain: wallets have what they began with, what lightning made of it, and what
    /// fees took.
    pub(crate) fn check_chain_ledger(&mut self) {
        let fees = self.fees();
        let mut held_in_all = 0;
        let mut initial_in_all = 0;
        for index in 0..self.hosts.len() {
            let initial = self.hosts[index].initial_sat;
            let held = self.hosts[index].wallet.total_sat(&self.chain);
            initial_in_all += initial;
            held_in_all += held;
            let expected = i128::from(initial) * 1_000 + self.earned(index);
            let lost = expected - i128::from(held) * 1_000;
            let paid: u64 = fees
                .iter()
                .filter(|fee| fee.payer == Some(index))
                .map(|f| f.sat)
                .sum();
            let channels = self.users.channels.len();
            let rounding = 1_000 * i128::try_from(channels).unwrap_or(0);
            let anchors = if self.forced.is_empty() {
                0
            } else {
                660 * i128::try_from(channels).unwrap_or(0)
            };
            let least = i128::from(paid) * 1_000 - rounding;
            let most = (i128::from(paid) + anchors) * 1_000 + rounding;
            let exact = self.forced.is_empty();
            let trimmed: u64 = self
                .users
                .payments
                .values()
                .map(|payment| payment.amount_msat)
                .filter(|amount| self.may_be_trimmed(*amount))
                .map(|amount| amount + (amount / 100).max(5_000))
                .sum();
            let given_up = self.users.given_up.get(&index).copied().unwrap_or(0);
            let most = most + i128::from(trimmed) + i128::from(given_up);
            if self.is_villain(index) {
                self.say(format!(
                    "n{index} had {expected} msat to expect and has lost {lost}"
                ));
                self.check_bad_luck(index, lost, most);
                continue;
            }
            self.say(format!(
                "n{index} began with {initial} sat, lightning made {} msat, has {held} sat; fees {paid} sat",
                self.earned(index)
            ));
            if lost > most || (exact && lost < least) {
                self.fail(format!(
                    "n{index} lost {lost} msat on chain, and fees explain {least} to {most}"
                ));
            }
        }
        let fees: u64 = fees.iter().map(|fee| fee.sat).sum();
        let left = i128::from(initial_in_all) - i128::from(held_in_all) - i128::from(fees);
        let bound = 660 * i128::try_from(self.users.channels.len()).unwrap_or(0);
        let bound = if self.forced.is_empty() { 0 } else { bound };
        let bound = bound + i128::from(self.left_behind_sat() + self.unswept_sat());
        if left < 0 || (left > bound && !self.villainy.on) {
            self.fail(format!(
                "{left} sat are with nobody; {bound} may be in anchors"
            ));
        }
    }

    /// What may lie on chain for ever, as its claim was left behind by the market.
    fn left_behind_sat(&self) -> u64 {
        if !self.plan.market_rises {
            return 0;
        }
        let payments = self.users.payments.values().map(|p| p.amount_msat);
        let msat: u64 = payments.filter(|msat| self.may_be_trimmed(*msat)).sum();
        msat.div_ceil(1_000)
    }

    /// What nodes have not swept yet: little, or the run would not be over.
    fn unswept_sat(&self) -> u64 {
        let nodes = self.hosts.iter().filter_map(|host| host.node.as_ref());
        nodes
            .flat_map(|node| node.balance_info().sweeps)
            .map(|(_, sweep)| sweep.amount.to_sat())
            .sum()
    }

    /// Who has more bad luck than the budget allows, and a state that is not old, loses no more than what was
    /// in flight.
    fn check_bad_luck(&mut self, index: usize, lost: i128, most: i128) {
        let exposed = match self.plan.villain.map(|v| v.trick) {
            Some(Trick::LongOutage { .. } | Trick::AbsentSigner { .. }) => true,
            Some(_) | None => false,
        };
        let in_flight = |plan: &PaymentPlan| 2 * plan.amount_msat;
        let payments: u64 = self.plan.payments.iter().map(in_flight).sum();
        if exposed && lost > most + i128::from(payments) {
            self.fail(format!(
                "n{index} had bad luck and lost {lost} msat, more than was ever in flight"
            ));
        }
    }
}
