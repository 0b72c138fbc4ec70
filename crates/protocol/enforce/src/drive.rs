//! Making attempts at claims, paying more for them, and sending them.

use alloc::vec::Vec;

use bitcoin::{Amount, OutPoint, TxOut};
use fulmen_tx::BuiltCommitment;
use fulmen_types::FeeratePerKw;

use crate::{
    build::{self, Draft, Parent, Shortfall, Source},
    claim::{Attempt, Claim, Group},
    input::{BroadcastId, ClaimId, EnforceContext, WalletCoin},
    output::{BroadcastClass, EnforceEvent, EnforceOutput},
    resolution::{CoinsAsked, Resolution},
    schedule::{
        LATE, LATE_PERCENT, Urgency, feerate_within, percent_floor, raised, replacement_fee,
        urgency,
    },
    state::Start,
    view::{Role, Tracked, View},
};

/// The greatest weight of a funding output's witness with its two signatures, and of the segwit marker.
const FUNDING_WITNESS_WEIGHT: u64 = 2 + 1 + 1 + 2 * 73 + 1 + 71;

/// One claim with its outputs.
struct Work<'v> {
    inputs: Vec<&'v Tracked>,
    urgency: Urgency,
    has_deadline: bool,
    /// The value that fees are weighed against.
    stake: Amount,
    /// The same for an attempt that pays no more than `late_feerate`.
    late_stake: Amount,
    late_feerate: FeeratePerKw,
    sources: Vec<Source>,
    parent: Parent,
}

impl Resolution {
    /// Brings every claim in play forward.
    pub(crate) fn drive(
        &mut self,
        view: &View,
        ctx: &EnforceContext<'_>,
        out: &mut Vec<EnforceOutput>,
    ) {
        let owners = self.owners(view);
        let mut ids: Vec<ClaimId> = owners.values().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        if view.spend.is_none() && !self.child_is_live(&ids) {
            self.send_funding_spend(out);
        }
        for id in ids {
            self.drop_dead_attempts(id);
            let Some(work) = self.work(id, view, ctx) else {
                continue;
            };
            let before = self.claims.get(&id).and_then(|c| c.live.clone());
            if self.is_due(id, &work, ctx) {
                self.attempt(id, &work, ctx, out);
            }
            self.ask_signature(id, &work, out);
            let live = self.claims.get(&id).and_then(|c| c.live.clone());
            if live != before || self.run.rebroadcast {
                self.send(id, &work, self.run.rebroadcast && live == before, out);
            }
        }
    }

    /// What is out, and what the wallet has to sign, again.
    pub(crate) fn repeat(
        &mut self,
        view: &View,
        ctx: &EnforceContext<'_>,
        out: &mut Vec<EnforceOutput>,
    ) {
        let owners = self.owners(view);
        let mut ids: Vec<ClaimId> = owners.values().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        if view.spend.is_none() && !self.child_is_live(&ids) {
            self.send_funding_spend(out);
        }
        for id in ids {
            if let Some(work) = self.work(id, view, ctx) {
                self.ask_signature(id, &work, out);
                self.send(id, &work, true, out);
            }
        }
    }

    /// Weight and fee of our commitment as a child sees it.
    pub(crate) fn parent_of_child(&self, built: &BuiltCommitment) -> Parent {
        Parent {
            weight: built.tx.weight().to_wu() + FUNDING_WITNESS_WEIGHT,
            fee: built.fee,
        }
    }

    fn child_is_live(&self, ids: &[ClaimId]) -> bool {
        let claims = ids.iter().filter_map(|id| self.claims.get(id));
        let mut children = claims.filter(|c| c.group == Group::Child);
        children.any(|c| c.live.is_some()) && self.state.thrown_out.is_none()
    }

    fn send_funding_spend(&self, out: &mut Vec<EnforceOutput>) {
        if !self.run.rebroadcast {
            return;
        }
        let holder = self.evidence.holder.as_ref();
        let package = match (&self.state.thrown_out, self.state.start, holder) {
            // What was in a block once is the quickest to be in one again.
            (Some(tx), _, _) => alloc::vec![crate::kinds::ready(tx.clone())],
            (None, Start::ForceClose, Some(holder)) => {
                alloc::vec![crate::kinds::commitment(&self.evidence.params, holder)]
            }
            (None, Start::ForceClose, None) | (None, Start::FundingSpent, _) => return,
        };
        out.push(EnforceOutput::Broadcast {
            id: BroadcastId::FundingSpend,
            package,
            class: BroadcastClass::Primary,
        });
    }

    fn work<'v>(&self, id: ClaimId, view: &'v View, ctx: &EnforceContext<'_>) -> Option<Work<'v>> {
        let claim = self.claims.get(&id)?;
        let find = |outpoint: &OutPoint| view.outputs.iter().find(|t| t.outpoint == *outpoint);
        let inputs: Vec<&Tracked> = claim.inputs.iter().filter_map(find).collect();
        if inputs.len() != claim.inputs.len() {
            return None;
        }
        // After a reorganisation what was ripe may have to ripen again.
        let unripe = |t: &&Tracked| self.claimable_at(t).is_none_or(|h| h > ctx.tip.plus(1));
        if claim.group != Group::Child && inputs.iter().any(unripe) {
            return None;
        }
        let deadline = inputs.iter().filter_map(|t| self.deadline(t)).min();
        let params = &self.evidence.params;
        let source = |t: &&Tracked| {
            let kind = self.claim_kind(t)?;
            Some(Source {
                outpoint: t.outpoint,
                output: t.output.clone(),
                sequence: kind.sequence(params),
                witness_weight: kind.max_witness_weight(params).to_wu(),
                paired: self.paired_output(t),
            })
        };
        let sources = inputs.iter().map(source).collect::<Option<Vec<Source>>>()?;
        let (stake, late_stake, parent) = match (claim.group, &self.known.holder) {
            (Group::Child, Some(built)) => (
                self.commitment_stake(LATE_PERCENT),
                self.commitment_stake(100),
                self.parent_of_child(built),
            ),
            _ => {
                let value = build::sum(inputs.iter().map(|t| t.output.value));
                (value, value, Parent::default())
            }
        };
        let urgency = urgency(deadline, ctx.tip, &ctx.feerates);
        let is_late = claim.live.is_some() && ctx.tip >= claim.bumped_at.plus(LATE);
        // What was tried once may be tried again.
        let late_feerate = if is_late {
            urgency.target.max(claim.feerate)
        } else {
            claim.feerate
        };
        Some(Work {
            inputs,
            urgency,
            has_deadline: deadline.is_some(),
            stake,
            late_stake,
            late_feerate,
            sources,
            parent,
        })
    }

    /// The output of an HTLC transaction of ours.
    fn paired_output(&self, tracked: &Tracked) -> Option<TxOut> {
        match (&tracked.role, &self.known.holder) {
            (Role::HolderHtlc { htlc, .. }, Some(built)) => Some(built.htlc_tx_output(htlc)),
            _ => None,
        }
    }

    /// Attempts whose coins are spent by something else can't confirm any more.
    fn drop_dead_attempts(&mut self, id: ClaimId) {
        let Some(claim) = self.claims.get_mut(&id) else {
            return;
        };
        let facts = &self.facts;
        let dead = |a: &mut Attempt| {
            let mut coins = a.tx.input.iter().map(|i| &i.previous_output);
            coins.any(|o| facts.spender(o).is_some())
        };
        let live = claim.live.take_if(dead);
        let pending = claim.pending.take_if(dead);
        if live.or(pending).is_some() && claim.lease.is_some() {
            // The wallet may still count what is spent into the lease: start another.
            self.renew_lease(id);
        }
    }

    fn is_due(&self, id: ClaimId, work: &Work<'_>, ctx: &EnforceContext<'_>) -> bool {
        let Some(claim) = self.claims.get(&id) else {
            return false;
        };
        if claim.pending.is_some() {
            return false;
        }
        let Some(live) = &claim.live else {
            return true;
        };
        if claim.group == Group::Presigned || ctx.tip <= claim.bumped_at {
            return false;
        }
        let rested = ctx.tip >= claim.bumped_at.plus(work.urgency.interval);
        claim.refused || rested && (work.has_deadline || live.feerate < work.urgency.target)
    }

    fn attempt(
        &mut self,
        id: ClaimId,
        work: &Work<'_>,
        ctx: &EnforceContext<'_>,
        out: &mut Vec<EnforceOutput>,
    ) {
        let Some(claim) = self.claims.get(&id) else {
            return;
        };
        if claim.group == Group::Presigned {
            return self.presigned_attempt(id, work, ctx);
        }
        let coins = self.coins_of(claim);
        let mut draft = Draft {
            sources: &work.sources,
            coins: &coins,
            lock_time: claim.lock_time,
            script: &self.evidence.sweep_script,
            parent: work.parent,
            least_fee: Amount::ZERO,
        };
        let (last, lease) = (claim.live.clone(), claim.lease);
        let weight = draft.weight();
        let replaced = last.as_ref().map_or(claim.must_replace, |a| a.fee);
        if replaced > Amount::ZERO {
            draft.least_fee = replacement_fee(replaced, weight);
        }
        let goal = match &last {
            None => work.urgency.target.max(claim.feerate),
            Some(last) => raised(last.feerate, work.urgency.target),
        };
        let affordable_for = |stake| {
            let budget = percent_floor(stake, work.urgency.budget_percent) + work.parent.fee;
            feerate_within(budget, weight + work.parent.weight)
        };
        let late = affordable_for(work.late_stake).min(work.late_feerate);
        let affordable = affordable_for(work.stake).max(late);
        let mut goal = goal.min(affordable.max(ctx.feerates.floor));
        if !claim.group.takes_coins() {
            // What is left over must be an output.
            goal = goal.min(draft.feerate_affordable());
        }
        if last.as_ref().is_some_and(|last| goal <= last.feerate) {
            // The budget is spent: what is out stays out.
            return;
        }
        if goal < ctx.feerates.floor {
            return self.tell_all_uneconomic(&work.inputs, out);
        }
        if claim.group.takes_coins() && draft.coins_needed(goal) > Amount::ZERO {
            let Some(lease) = lease else {
                return self.renew_lease(id);
            };
            match self.run.coins_asked.get(&lease) {
                None => {
                    self.run.coins_asked.insert(lease, CoinsAsked::Open);
                    let bare = Draft {
                        coins: &[],
                        ..draft
                    };
                    out.push(EnforceOutput::AskCoins {
                        lease,
                        value: bare.coins_needed(goal),
                        feerate: goal,
                    });
                    return;
                }
                Some(CoinsAsked::Open | CoinsAsked::Away) => return,
                // These are all there are: what they can pay is better than nothing.
                Some(CoinsAsked::Given) => goal = goal.min(draft.feerate_affordable()),
            }
            let least = last.as_ref().map_or(ctx.feerates.floor, |a| {
                raised(a.feerate, FeeratePerKw::new(0))
            });
            if goal < least || draft.coins_needed(goal) > Amount::ZERO {
                let needed = Draft {
                    coins: &[],
                    ..draft
                }
                .coins_needed(least);
                return self.tell_poor(id, needed, &coins, out);
            }
        }
        match draft.build(goal) {
            Ok(built) => {
                self.run
                    .coins_asked
                    .retain(|number, _| Some(*number) != lease);
                self.run.told_poor.remove(&id);
                self.add_attempt(id, built.tx, goal, built.fee, ctx);
            }
            Err(Shortfall { missing }) if lease.is_some() => {
                self.tell_poor(id, missing, &coins, out);
            }
            Err(Shortfall { .. }) => self.tell_all_uneconomic(&work.inputs, out),
        }
    }

    fn tell_all_uneconomic(&mut self, inputs: &[&Tracked], out: &mut Vec<EnforceOutput>) {
        for tracked in inputs {
            self.tell_uneconomic(tracked.outpoint, tracked.output.value, out);
        }
    }

    /// Without anchors an HTLC transaction is what the peer signed, with the fee that is in it.
    fn presigned_attempt(&mut self, id: ClaimId, work: &Work<'_>, ctx: &EnforceContext<'_>) {
        let Some(claim) = self.claims.get(&id) else {
            return;
        };
        let draft = Draft {
            sources: &work.sources,
            coins: &[],
            lock_time: claim.lock_time,
            script: &self.evidence.sweep_script,
            parent: Parent::default(),
            least_fee: Amount::ZERO,
        };
        let tx = draft.assemble(None);
        let paid = build::sum(tx.output.iter().map(|o| o.value));
        let fee = work.stake.checked_sub(paid).unwrap_or(Amount::ZERO);
        let feerate = feerate_within(fee, draft.weight_bare());
        self.add_attempt(id, tx, feerate, fee, ctx);
    }

    fn add_attempt(
        &mut self,
        id: ClaimId,
        tx: bitcoin::Transaction,
        feerate: FeeratePerKw,
        fee: Amount,
        ctx: &EnforceContext<'_>,
    ) {
        let Some(claim) = self.claims.get_mut(&id) else {
            return;
        };
        let number = claim.attempts;
        claim.attempts = number.saturating_add(1);
        claim.bumped_at = ctx.tip;
        claim.refused = false;
        claim.feerate = claim.feerate.max(feerate);
        let has_coins = tx.input.len() > claim.inputs.len();
        let attempt = Attempt {
            number,
            tx,
            feerate,
            fee,
        };
        if has_coins {
            claim.pending = Some(attempt);
        } else {
            claim.live = Some(attempt);
        }
    }

    /// The coins under a claim's lease that are not spent in a block.
    fn coins_of(&self, claim: &Claim) -> Vec<WalletCoin> {
        let lease = claim.lease.and_then(|l| self.state.leases.get(&l));
        let coins = lease.into_iter().flat_map(|l| &l.coins);
        coins
            .filter(|c| self.facts.spender(&c.outpoint).is_none())
            .cloned()
            .collect()
    }

    /// For a claim whose coins are spent, or went to another one while it was out of play.
    fn renew_lease(&mut self, id: ClaimId) {
        let number = self.state.take_number();
        self.state.add_lease(number);
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.lease = Some(number);
        }
    }

    fn tell_poor(
        &mut self,
        id: ClaimId,
        needed: Amount,
        coins: &[WalletCoin],
        out: &mut Vec<EnforceOutput>,
    ) {
        if self.run.told_poor.insert(id) {
            out.push(EnforceOutput::Event(EnforceEvent::CoinsMissing {
                claim: id,
                needed,
                available: build::sum(coins.iter().map(|c| c.output.value)),
            }));
        }
    }

    fn ask_signature(&mut self, id: ClaimId, work: &Work<'_>, out: &mut Vec<EnforceOutput>) {
        let Some(claim) = self.claims.get(&id) else {
            return;
        };
        let Some(pending) = &claim.pending else {
            return;
        };
        if !self.run.signing.insert((id, pending.number)) {
            return;
        }
        let spent = |outpoint: &OutPoint| -> Option<TxOut> {
            let tracked = work.inputs.iter().find(|t| t.outpoint == *outpoint);
            let channel = tracked.map(|t| &t.output);
            channel
                .or_else(|| self.state.coin(outpoint).map(|c| &c.output))
                .cloned()
        };
        let inputs = pending.tx.input.iter();
        let spent: Option<Vec<TxOut>> = inputs.map(|i| spent(&i.previous_output)).collect();
        if let Some(spent) = spent {
            out.push(EnforceOutput::AskWalletSign {
                claim: id,
                attempt: pending.number,
                transaction: pending.tx.clone(),
                spent,
            });
        }
    }

    fn send(&self, id: ClaimId, work: &Work<'_>, again: bool, out: &mut Vec<EnforceOutput>) {
        let Some(claim) = self.claims.get(&id) else {
            return;
        };
        let Some(live) = &claim.live else {
            return;
        };
        let kinds = work.inputs.iter().map(|t| {
            let kind = self.claim_kind(t)?;
            Some((t.outpoint, t.output.clone(), kind))
        });
        let Some(kinds) = kinds.collect::<Option<Vec<_>>>() else {
            return;
        };
        let params = &self.evidence.params;
        let mut package = Vec::new();
        if claim.group == Group::Child {
            let holder = self.evidence.holder.as_ref();
            package.extend(holder.map(|h| crate::kinds::commitment(params, h)));
        }
        package.push(crate::kinds::claim(params, live.tx.clone(), kinds));
        let now = again && claim.group != Group::Child || !claim.group.takes_coins();
        out.push(EnforceOutput::Broadcast {
            id: BroadcastId::Claim {
                claim: id,
                attempt: live.number,
            },
            package,
            class: if now {
                BroadcastClass::Now
            } else {
                BroadcastClass::Primary
            },
        });
    }
}
