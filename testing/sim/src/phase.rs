//! The course of a run: open, pay through faults, heal, close, settle.

use bitcoin::Txid;
use fulmen_devchain::Entry;
use fulmen_gossip::Direction;
use fulmen_node::{ChannelState, Node};

use crate::{
    deadline::CLAIM_WEIGHT,
    plan::{Faults, PaymentPlan, Trick, Visibility},
    user::{Stage, TaskKind},
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
/// Each peer is asked for its gossip in turn, every ten minutes one: all eight of them.
const GOSSIP_PATIENCE: u64 = 90 * 60 * 1_000;

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
        let patience = match self.phase {
            Phase::Open => GOSSIP_PATIENCE,
            _ => PATIENCE,
        };
        if lasted > patience + outage {
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
                self.choose_early_closes(lasted);
                if lasted > last + 5_000 {
                    self.to_close.clear();
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
        let channels = &self.plan.channels;
        let announced = channels
            .iter()
            .filter(|c| c.visibility == Visibility::Announced)
            .count();
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
                graph.channel_count() >= announced
                    && graph.channels().all(|c| {
                        c.policy(Direction::Forward).is_some()
                            && c.policy(Direction::Backward).is_some()
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
                            || (self.closed_early.contains(&c.channel_id)
                                && matches!(c.state, ChannelState::MutualClose(_)))
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
    pub(crate) fn waits_for_the_market(&self, amount_msat: u64) -> bool {
        let asked = u64::from(self.market_feerate());
        let is_poor = !self.forced.is_empty() && amount_msat < asked * CLAIM_WEIGHT;
        self.plan.fee_market && (is_poor || self.may_be_trimmed(amount_msat))
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
        // A claim that is not worth what miners ask for, or that was once: what is, is among the sweeps.
        let not_worth_it = |txid: &Txid| {
            let mut sweeps = nodes.iter().flat_map(|node| node.balance_info().sweeps);
            sweeps.any(|(_, sweep)| {
                sweep.claimed_by == Some(*txid) && worthless(sweep.amount.to_sat())
            })
        };
        let left_behind = |(txid, entry): (&Txid, &Entry)| {
            let asked = u64::from(self.plan.feerates[0]).saturating_mul(entry.weight);
            entry.fee.saturating_mul(1_000) < asked
                && (self.plan.market_rises || not_worth_it(txid))
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
            if self.forced.contains(&channel_id) || self.closed_early.contains(&channel_id) {
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
            for channel in graph.channels() {
                for direction in [Direction::Forward, Direction::Backward] {
                    if channel.policy(direction).is_none() {
                        let id = channel.short_channel_id;
                        lines.push(format!("n{index} lacks the {direction:?} terms of {id}"));
                    }
                }
            }
            for sweep in node.balance_info().sweeps {
                lines.push(format!("n{index} sweep {sweep:?}"));
            }
        }
        for (txid, entry) in self.chain.mempool().iter() {
            let Entry { fee, weight, .. } = entry;
            lines.push(format!(
                "unconfirmed: {txid} pays {fee} sat for a weight of {weight}"
            ));
        }
        lines.join("\n")
    }
}
