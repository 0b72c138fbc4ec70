//! The course of a run: open, pay through faults, heal, close, settle; and the ledger at each end.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Txid};
use fulmen_devchain::Entry;
use fulmen_node::{ChannelState, Node};
use fulmen_types::{ChannelId, Msat};

use crate::{
    plan::{Faults, PaymentPlan, Trick},
    user::{Again, Stage, TaskKind},
    world::{Happening, World},
};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Channels are opened and announced.
    Open,
    /// Payments go both ways while things go wrong.
    Pay,
    /// Nothing goes wrong any more, and everything must come to its end.
    Heal,
    /// Channels are closed, together or by force.
    Close,
    /// What was closed by force is swept.
    Settle,
    /// The run is over.
    Over,
}

/// How long each phase may last, in milliseconds.
const PATIENCE: u64 = 20 * 60 * 1_000;

impl World {
    pub(crate) fn begin_open(&mut self) {
        if self.plan.faults_at_open {
            self.faults = self.plan.faults;
        }
        for channel in self.plan.channels.clone() {
            let pause = self.rng.below(1_000);
            self.want(pause, TaskKind::Open(channel));
        }
    }

    /// Blocks come fast where only their number counts; while an honest node is down the budget of its outage is in
    /// blocks as they came before.
    pub(crate) fn block_interval(&self) -> u64 {
        let is_down = |host: &crate::host::Host| host.node.is_none();
        match self.phase {
            Phase::Heal
                if self
                    .hosts
                    .iter()
                    .any(|host| is_down(host) && !self.is_suspect(host.index)) =>
            {
                self.plan.block_interval
            }
            Phase::Open | Phase::Pay => self.plan.block_interval,
            Phase::Heal if self.forced.is_empty() => self.plan.block_interval,
            Phase::Heal | Phase::Close | Phase::Settle | Phase::Over => 1_000,
        }
    }

    /// Looks whether the phase is over.
    pub(crate) fn phase(&mut self) {
        self.after(500, Happening::Phase);
        let lasted = self.now - self.phase_since;
        // An outage longer than every deadline may have begun at the end of the payments.
        let outage = match self.plan.villain.map(|v| v.trick) {
            Some(
                Trick::LongOutage { blocks }
                | Trick::AbsentSigner { blocks }
                | Trick::Cycler { blocks, .. },
            ) => u64::from(blocks) * self.plan.block_interval,
            _ => 0,
        };
        if lasted > PATIENCE + outage {
            let why = self.what_is_missing();
            return self.fail(format!("the phase {:?} does not end: {why}", self.phase));
        }
        match self.phase {
            Phase::Open => {
                if self.is_open() {
                    self.enter(Phase::Pay);
                    self.faults = self.plan.faults;
                    for payment in self.plan.payments.clone() {
                        self.want(payment.at, TaskKind::Pay(payment));
                    }
                    if let Some(villain) = self.plan.villain {
                        self.after(villain.at, Happening::Villainy);
                    }
                }
            }
            Phase::Pay => {
                let last = self.plan.payments.iter().map(|p| p.at).max().unwrap_or(0);
                if self.plan.close_in_flight.is_some_and(|at| lasted > at) {
                    self.plan.close_in_flight = None;
                    self.to_force = self
                        .users
                        .channels
                        .iter()
                        .filter_map(|(id, plan)| Some((*id, plan.force_close?)))
                        .collect();
                }
                if lasted > last + 5_000 {
                    self.to_force.clear();
                    self.calm();
                    self.enter(Phase::Heal);
                }
            }
            Phase::Heal => {
                if self.is_quiet() {
                    self.check_lightning_ledger();
                    self.begin_close();
                    self.enter(Phase::Close);
                    if self.plan.faults_at_close {
                        // Blocks come fast now: what counts blocks has little time left.
                        self.faults = Faults {
                            outage: self.plan.faults.outage.min(2_000),
                            block_delay: self.plan.faults.block_delay.min(500),
                            ..self.plan.faults
                        };
                    }
                }
            }
            Phase::Close => {
                if lasted > 120_000 {
                    self.calm();
                }
                if self.tasks_are_over() && self.is_closed() {
                    self.enter(Phase::Settle);
                }
            }
            Phase::Settle => {
                if lasted > 60_000 {
                    self.calm();
                }
                if self.is_settled() {
                    self.check_breaches();
                    self.check_chain_ledger();
                    self.enter(Phase::Over);
                }
            }
            Phase::Over => {}
        }
    }

    /// Nothing goes wrong any more, and what stalls goes on: blocks may come fast from now on, and a stall of
    /// many blocks is beyond the budget.
    fn calm(&mut self) {
        self.parted.clear();
        self.end_stalls();
        self.faults = Faults {
            outage: 1,
            ..Faults::default()
        };
    }

    fn enter(&mut self, phase: Phase) {
        self.say(format!("---- {phase:?}"));
        self.phase = phase;
        self.phase_since = self.now;
    }

    fn nodes(&self) -> Option<Vec<&Node>> {
        self.hosts.iter().map(|host| host.node.as_ref()).collect()
    }

    /// Whether every channel is usable and known to all.
    fn is_open(&mut self) -> bool {
        let wanted = self.plan.channels.len();
        if self.hosts.iter().any(|host| host.node.is_none()) || self.users.channels.len() < wanted {
            return false;
        }
        let channels = self.users.channels.clone();
        let usable = |host: usize, id: &fulmen_types::ChannelId| {
            self.hosts[host]
                .channels()
                .iter()
                .any(|c| c.channel_id == *id && c.state == ChannelState::Normal { usable: true })
        };
        if !channels
            .iter()
            .all(|(id, plan)| usable(plan.from, id) && usable(plan.to, id))
        {
            return false;
        }
        self.hosts
            .iter_mut()
            .filter_map(|host| host.node.as_mut())
            .all(|node| {
                let graph = node.graph();
                graph.channel_count() >= wanted
                    && graph.channels().all(|c| {
                        c.policy(fulmen_gossip::Direction::Forward).is_some()
                            && c.policy(fulmen_gossip::Direction::Backward).is_some()
                    })
            })
    }

    /// Whether no payment is on its way and no HTLC in any channel.
    fn is_quiet(&self) -> bool {
        let Some(nodes) = self.nodes() else {
            return false;
        };
        self.tasks_are_over()
            && self.users.payments.values().all(|p| {
                let told = p.sent.is_some()
                    || self.is_villain(p.ends.0)
                    || self.is_villain(p.ends.1)
                    || self.waits_for_the_market(p.amount_msat);
                let again = p.again.as_ref();
                told && again.is_none_or(|a| {
                    a.sent.is_some()
                        || self.waits_for_the_market(p.amount_msat)
                        || self.is_villain(a.host)
                        || self.is_villain(p.ends.1)
                })
            })
            && self.honest(&nodes).all(|node| {
                node.payments()
                    .all(|p| self.waits_for_the_market(p.request.amount.to_msat()))
                    && node.channels_info().iter().all(|c| {
                        let on_chain = matches!(
                            c.state,
                            ChannelState::ForceClosing(_) | ChannelState::OnChain(_)
                        );
                        let forced = self.forced.contains(&c.channel_id);
                        let usable = c.state == (ChannelState::Normal { usable: true });
                        !self.users.channels.contains_key(&c.channel_id)
                            || on_chain
                            || (c.htlcs == (0, 0) && usable)
                            // What a villain offered is its own concern.
                            || (c.htlcs.0 == 0 && forced && self.villainy.on)
                    })
            })
    }

    /// The nodes that play no tricks.
    fn honest<'a>(&'a self, nodes: &'a [&'a Node]) -> impl Iterator<Item = &'a Node> {
        let honest = |(index, node): (usize, &&'a Node)| (!self.is_villain(index)).then_some(*node);
        nodes.iter().enumerate().filter_map(honest)
    }

    /// Whether users have all that they wanted, as far as it depends on honest nodes.
    fn tasks_are_over(&self) -> bool {
        self.users.tasks.iter().all(|task| {
            let is_sent = task.stage == Stage::Waiting;
            let excused_payment = |from: usize, plan: &PaymentPlan| {
                self.is_villain(from)
                    || self.is_villain(plan.to)
                    || (is_sent && self.waits_for_the_market(plan.amount_msat))
            };
            let excused = match &task.kind {
                TaskKind::Open(_) => false,
                TaskKind::Pay(plan) => excused_payment(plan.from, plan),
                TaskKind::PayAgain { plan, from, .. } => excused_payment(*from, plan),
                TaskKind::Close { by, .. } => self.is_villain(*by),
            };
            task.is_over() || excused
        })
    }

    /// Whether an HTLC of so much may lie on chain until fees fall: it is worth less than what the miners of this
    /// run ask for its claim, and while nobody claims it its payer can't know how it ends.
    fn waits_for_the_market(&self, amount_msat: u64) -> bool {
        self.plan.fee_market && self.may_be_trimmed(amount_msat)
    }

    fn is_closed(&self) -> bool {
        let Some(nodes) = self.nodes() else {
            return false;
        };
        self.honest(&nodes).all(|node| {
            node.channels_info().iter().all(|c| {
                matches!(c.state, ChannelState::OnChain(_))
                    || !self.users.channels.contains_key(&c.channel_id)
            })
        })
    }

    fn is_settled(&self) -> bool {
        let Some(nodes) = self.nodes() else {
            return false;
        };
        // What is not worth its fee stays where it is for very long.
        let worthless = |sat: u64| self.may_be_trimmed(sat.saturating_mul(1_000));
        let swept = |node: &&Node| {
            let sweeps = node.balance_info().sweeps;
            sweeps
                .iter()
                .all(|(_, sweep)| worthless(sweep.amount.to_sat()))
        };
        // A claim whose fee was enough once, and that is not worth a higher one: what is, is among the sweeps.
        let left_behind = |(_, entry): (&Txid, &Entry)| {
            let asked = u64::from(self.plan.feerates[0]).saturating_mul(entry.weight);
            self.plan.market_rises && entry.fee.saturating_mul(1_000) < asked
        };
        // Deep enough that nothing is on its way any more.
        // Who had bad luck, and no old state, gets everything back as well.
        let unlucky = self.plan.villain.filter(|v| {
            matches!(
                v.trick,
                Trick::LongOutage { .. } | Trick::AbsentSigner { .. }
            )
        });
        let has_all = unlucky.is_none_or(|v| {
            let node = nodes[v.host];
            let closed = node
                .channels_info()
                .iter()
                .all(|c| matches!(c.state, ChannelState::OnChain(_)));
            closed && swept(&node)
        });
        // Who has not heard yet that the last blocks were replaced takes for swept what is not any more.
        let best = self.chain.tip();
        let knows_all = |node: &&Node| node.chain_tip().first().is_some_and(|tip| tip.hash == best);
        has_all
            && self
                .honest(&nodes)
                .all(|node| knows_all(&node) && swept(&node))
            && (self.villainy.on || self.chain.mempool().iter().all(left_behind))
            && self.now - self.phase_since > 30_000
    }

    /// A channel that is to be closed by force holds HTLCs: now, most of the time, and often without a word
    /// between its ends for some blocks, so that the chain must tell who gets what.
    pub(crate) fn close_with_htlcs(&mut self, host: usize, channel_id: ChannelId) {
        if !self.rng.chance(300) {
            return;
        }
        let (Some(by), Some(plan)) = (
            self.to_force.remove(&channel_id),
            self.users.channels.get(&channel_id).copied(),
        ) else {
            return;
        };
        self.say(format!(
            "n{host} has HTLCs in {channel_id}: n{by} closes it by force"
        ));
        self.forced.insert(channel_id);
        self.want(
            0,
            TaskKind::Close {
                channel_id,
                by,
                force: true,
            },
        );
        if self.rng.chance(600) {
            let silence = self.rng.between(1, 8) * self.block_interval();
            for pair in [(plan.from, plan.to), (plan.to, plan.from)] {
                self.parted.insert(pair, self.now + silence);
            }
            self.cut_between(plan.from, plan.to);
        }
    }

    fn begin_close(&mut self) {
        for (channel_id, plan) in self.users.channels.clone() {
            if self.is_villain(plan.from) || self.is_villain(plan.to) {
                let by = if self.is_villain(plan.from) {
                    plan.to
                } else {
                    plan.from
                };
                self.want(
                    0,
                    TaskKind::Close {
                        channel_id,
                        by,
                        force: true,
                    },
                );
                continue;
            }
            if self.forced.contains(&channel_id) {
                continue;
            }
            let either = if self.rng.chance(500) {
                plan.from
            } else {
                plan.to
            };
            let force = plan.force_close.is_some();
            if force {
                self.forced.insert(channel_id);
            }
            let by = plan.force_close.unwrap_or(either);
            let pause = self.rng.below(2_000);
            self.want(
                pause,
                TaskKind::Close {
                    channel_id,
                    by,
                    force,
                },
            );
        }
    }

    fn what_is_missing(&mut self) -> String {
        let mut lines = Vec::new();
        for (index, task) in self.users.tasks.iter().enumerate() {
            if !task.is_over() {
                lines.push(format!("task {index} {task:?}"));
            }
        }
        for host in &mut self.hosts {
            let index = host.index;
            let Some(node) = host.node.as_mut() else {
                lines.push(format!("n{index} is down"));
                continue;
            };
            for c in node.channels_info() {
                lines.push(format!(
                    "n{index} {} {:?} htlcs {:?}",
                    c.channel_id, c.state, c.htlcs
                ));
            }
            for p in node.payments() {
                lines.push(format!(
                    "n{index} payment {} {:?}",
                    p.request.payment_hash, p.status
                ));
            }
            let graph = node.graph();
            lines.push(format!("n{index} knows {} channels", graph.channel_count()));
            for sweep in node.balance_info().sweeps {
                lines.push(format!("n{index} sweep {sweep:?}"));
            }
        }
        lines.push(format!(
            "{} transactions in the mempool",
            self.chain.mempool().len()
        ));
        lines.join("\n")
    }

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
    fn check_lightning_ledger(&mut self) {
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
        if !self.forced.is_empty() {
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
    fn may_be_trimmed(&self, amount_msat: u64) -> bool {
        !self.forced.is_empty() && self.is_near_dust(amount_msat)
    }

    /// Whether an HTLC of so much has no output on a commitment at the highest feerate of the run.
    pub(crate) fn is_near_dust(&self, amount_msat: u64) -> bool {
        let second_stage = u64::from(self.highest_feerate) * 703;
        amount_msat < 354_000 + second_stage
    }

    /// Everything is back on chain: wallets have what they began with, what lightning made of it, and what
    /// fees took.
    fn check_chain_ledger(&mut self) {
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
        let bound = bound + i128::from(self.left_behind_sat());
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

    /// The fees of everything that was mined since the start.
    fn fees(&self) -> Vec<Fee> {
        let fundings: BTreeMap<OutPoint, usize> = self
            .users
            .channels
            .iter()
            .filter_map(|(id, plan)| Some((*self.users.fundings.get(id)?, plan.from)))
            .collect();
        let mut fees = Vec::new();
        for height in self.first_height + 1..=self.chain.height() {
            let Some(hash) = self.chain.block_hash(height) else {
                continue;
            };
            let Some(block) = self.chain.block(&hash) else {
                continue;
            };
            let spent: BTreeMap<OutPoint, u64> = self
                .chain
                .spent_by_block(&hash)
                .into_iter()
                .map(|(outpoint, coin)| (outpoint, coin.out.value.to_sat()))
                .collect();
            for tx in block.txdata.iter().skip(1) {
                let value = |outpoint: &OutPoint| {
                    spent.get(outpoint).copied().or_else(|| {
                        let parent = block
                            .txdata
                            .iter()
                            .find(|t| t.compute_txid() == outpoint.txid)?;
                        let vout = usize::try_from(outpoint.vout).ok()?;
                        parent.output.get(vout).map(|out| out.value.to_sat())
                    })
                };
                let inputs: u64 = tx
                    .input
                    .iter()
                    .filter_map(|i| value(&i.previous_output))
                    .sum();
                let outputs: u64 = tx.output.iter().map(|out| out.value.to_sat()).sum();
                let of_funding = self.fundings.get(&tx.compute_txid()).copied();
                let of_close = tx
                    .input
                    .iter()
                    .find_map(|i| fundings.get(&i.previous_output));
                let claim = || self.broadcasters.get(&tx.compute_txid()).copied();
                let payer = of_funding.or(of_close.copied()).or_else(claim);
                fees.push(Fee {
                    payer,
                    sat: inputs.saturating_sub(outputs),
                });
            }
        }
        fees
    }
}

struct Fee {
    /// Who paid it, if it was one alone.
    payer: Option<usize>,
    sat: u64,
}
