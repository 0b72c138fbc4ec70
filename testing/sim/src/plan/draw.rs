//! How a plan is drawn.

use super::{
    ChannelPlan, Faults, Limits, PaymentPlan, Plan, Trick, Villain, Visibility, as_estimated,
    most_cycles, usual_reorg,
};
use crate::rng::Rng;

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        Self::draw_from(seed, &mut Rng::new(seed))
    }

    /// The plan that a stream of chance gives, under the name of a seed.
    pub fn draw_from(seed: u64, rng: &mut Rng) -> Self {
        let nodes = match rng.below(10) {
            0..4 => 2,
            4..7 => 3,
            7..9 => 4,
            _ => usize::try_from(rng.between(5, 9)).unwrap_or(5),
        };
        let channels = draw_channels(rng, nodes);
        let mut plan = Self {
            seed,
            nodes,
            payments: draw_payments(rng, nodes),
            channels,
            faults: draw_faults(rng),
            faults_at_open: rng.chance(500),
            block_interval: rng.between(2_000, 20_000),
            to_self_delay: u16::try_from(rng.between(6, 30)).unwrap_or(6),
            close_in_flight: rng.chance(500).then(|| rng.below(30_000)),
            close_together: None,
            faults_at_close: rng.chance(500),
            feerate_change: if rng.chance(500) { 300 } else { 0 },
            feerates: [253, 500, 1_000],
            fee_market: false,
            miners_ask: as_estimated(),
            market_rises: false,
            deepest_reorg: usual_reorg(),
            cltv_expiry_delta: u16::try_from(rng.between(34, 80)).unwrap_or(34),
            limits: Limits::default(),
            compare_always: rng.chance(20),
            villain: None,
        };
        if rng.chance(300) {
            let scale = u32::try_from(rng.between(2, 10)).unwrap_or(2);
            plan.feerates = plan.feerates.map(|rate| rate * scale);
        }
        // Without anchors a commitment's fee can't be raised afterwards.
        plan.fee_market = plan.channels.iter().all(|c| c.anchors) && rng.chance(500);
        if plan.fee_market {
            // Spikes pass; what rises for good leaves mutual closes behind.
            plan.feerate_change = 0;
        }
        plan.villain = draw_villain(rng, &plan);
        if plan.villain.is_some() {
            // Time enough for the budget: an outage, a reorganisation, empty blocks and censorship.
            plan.to_self_delay = plan.to_self_delay.max(18);
        }
        draw_haste(rng, &mut plan);
        draw_rises(rng, &mut plan);
        plan.close_together = rng.chance(300).then(|| rng.below(30_000));
        draw_features(rng, &mut plan);
        draw_depth(rng, &mut plan);
        if rng.chance(400) {
            plan.faults.clock = rng.between(1_000, 600_000);
        }
        if plan.fee_market && rng.chance(400) {
            let times = u32::try_from(rng.between(2, 3)).unwrap_or(2);
            // No more than they ask for elsewhere, or small HTLCs wait on chain for ever.
            if plan.feerates[0] * times <= 2_530 {
                plan.miners_ask = times;
            }
        }
        plan
    }
}

fn draw_villain(rng: &mut Rng, plan: &Plan) -> Option<Villain> {
    let draw = rng.below(1_000);
    let blocks = rng.between(3, 60);
    let blocks = u32::try_from(blocks).unwrap_or(3);
    let trick = match draw {
        0..400 => return None,
        400..550 => Trick::Revoked,
        550..600 => Trick::Cycler {
            permille: rng.between(300, 900),
            blocks: 40 + blocks,
            most: most_cycles(),
        },
        600..700 => Trick::Silent {
            blocks: rng.chance(600).then_some(blocks),
            closes: rng.chance(500).then_some(blocks / 6),
        },
        700..800 => Trick::Mutator {
            permille: rng.between(1, 60),
        },
        800..850 => Trick::Liar,
        850..900 => Trick::Flooder,
        900..940 => Trick::OldBackup,
        940..970 => Trick::LongOutage {
            blocks: 40 + blocks,
        },
        _ => Trick::AbsentSigner {
            blocks: 40 + blocks,
        },
    };
    let last = plan.payments.iter().map(|p| p.at).max().unwrap_or(0);
    Some(Villain {
        host: rng.index(plan.nodes),
        at: rng.between(last / 5, last + 2_000),
        trick,
    })
}

/// Payers who have little time and pay all at once: HTLCs wait for signatures that others wait for, and the time of a
/// payment is over while its node is down.
fn draw_haste(rng: &mut Rng, plan: &mut Plan) {
    if !rng.chance(300) {
        return;
    }
    let burst = rng.index(8) + 1;
    for payments in plan.payments.chunks_mut(burst) {
        let at = payments.iter().map(|p| p.at).min().unwrap_or(0);
        for payment in payments {
            payment.at = at;
            if rng.chance(700) {
                payment.timeout_secs = u32::try_from(rng.between(1, 8)).ok();
            }
        }
    }
}

/// A closing transaction that both have signed stays behind when feerates rise for good; so all are by force.
fn draw_rises(rng: &mut Rng, plan: &mut Plan) {
    if !plan.fee_market || !rng.chance(400) {
        return;
    }
    plan.market_rises = true;
    for channel in &mut plan.channels {
        let closer = if rng.chance(500) {
            channel.from
        } else {
            channel.to
        };
        channel.force_close = channel.force_close.or(Some(closer));
    }
}

/// Reorganisations as deep as they may be before what they take back was told upstream, and time for them.
fn draw_depth(rng: &mut Rng, plan: &mut Plan) {
    if plan.faults.reorg == 0 || !rng.chance(300) {
        return;
    }
    plan.deepest_reorg = u32::try_from(rng.between(3, 5)).unwrap_or(3);
    plan.cltv_expiry_delta += 12;
    plan.to_self_delay = plan.to_self_delay.max(24);
}

/// What is off in most runs, or tight in some.
fn draw_features(rng: &mut Rng, plan: &mut Plan) {
    if rng.chance(200) {
        for channel in &mut plan.channels {
            channel.visibility = if rng.chance(500) {
                if rng.chance(500) {
                    Visibility::AliasOnly
                } else {
                    Visibility::Unannounced
                }
            } else {
                Visibility::Announced
            };
        }
    }
    let limits = &mut plan.limits;
    let small = |number: u64| u16::try_from(number).unwrap_or(1);
    if rng.chance(200) {
        limits.htlcs = small(rng.between(1, 12));
    }
    if rng.chance(100) {
        limits.in_flight_percent = u8::try_from(rng.between(5, 60)).unwrap_or(60);
    }
    if rng.chance(100) {
        limits.dust_sat = rng.between(354, 3_000);
    }
    if rng.chance(100) {
        limits.dust_exposure_sat = rng.between(1_000, 20_000);
    }
    let is_paid_twice = plan.payments.iter().any(|p| p.again.is_some());
    if !is_paid_twice && rng.chance(600) {
        limits.parts = small(rng.between(2, 10));
        // More than one channel can hold.
        for payment in &mut plan.payments {
            if rng.chance(200) {
                payment.amount_msat = rng.between(200_000_000, 1_500_000_000);
            }
        }
    }
}

fn draw_channels(rng: &mut Rng, nodes: usize) -> Vec<ChannelPlan> {
    let line = rng.chance(600);
    let mut pairs: Vec<(usize, usize)> = (1..nodes)
        .map(|to| (if line { to - 1 } else { rng.index(to) }, to))
        .collect();
    let more = rng.below(3);
    for _ in 0..more {
        let from = rng.index(nodes);
        let to = (from + 1 + rng.index(nodes - 1)) % nodes;
        pairs.push((from, to));
    }
    let types = rng.below(3);
    let forces = rng.chance(400);
    pairs
        .into_iter()
        .map(|(a, b)| {
            let (from, to) = if rng.chance(500) { (a, b) } else { (b, a) };
            let amount_sat = rng.between(200_000, 2_000_000);
            let anchors = match types {
                0 => true,
                1 => false,
                _ => rng.chance(500),
            };
            let closer = if rng.chance(500) { from } else { to };
            ChannelPlan {
                from,
                to,
                amount_sat,
                push_sat: amount_sat * rng.between(20, 60) / 100,
                anchors,
                force_close: (forces && rng.chance(500)).then_some(closer),
                visibility: Visibility::Announced,
            }
        })
        .collect()
}

/// Less than this is not worth splitting.
const NEVER_SPLIT_MSAT: u64 = 1_000_000;

fn draw_payments(rng: &mut Rng, nodes: usize) -> Vec<PaymentPlan> {
    let count = rng.between(10, 60);
    let within = rng.between(1_000, 60_000);
    let mut payments: Vec<PaymentPlan> = (0..count)
        .map(|_| {
            let from = rng.index(nodes);
            let amount_msat = match rng.below(10) {
                // Dust on the commitment.
                0..3 => rng.between(1, 353_000),
                3..9 => rng.between(354_000, 20_000_000),
                // Most of these don't fit.
                _ => rng.between(20_000_000, 1_500_000_000),
            };
            PaymentPlan {
                at: rng.below(within),
                from,
                to: (from + 1 + rng.index(nodes - 1)) % nodes,
                amount_msat,
                amountless: rng.chance(100),
                again: None,
                timeout_secs: None,
            }
        })
        .collect();
    payments.sort_by_key(|payment| payment.at);
    if nodes > 2 && rng.chance(300) {
        for payment in &mut payments {
            let other = rng.index(nodes);
            // Parts of two payers may make up one payment, and both are told that it succeeded: only what is
            // never split is paid twice.
            let small = payment.amount_msat < NEVER_SPLIT_MSAT;
            if rng.chance(400) && small && other != payment.from && other != payment.to {
                payment.again = Some(other);
            }
        }
    }
    payments
}

/// Each kind of fault is left out of some runs: what is rare shows where the others don't cover it.
fn draw_faults(rng: &mut Rng) -> Faults {
    let mut some = |permille: u64, most: u64| {
        let on = rng.chance(permille);
        let value = rng.between(1, most);
        if on { value } else { 0 }
    };
    Faults {
        crash: some(800, 30),
        disconnect: some(700, 30),
        reorg: some(600, 400),
        delay: some(800, 400),
        commit: some(700, 100),
        block_delay: some(700, 3_000),
        outage: 1 + some(900, 20_000),
        answer: some(600, 200),
        stall: some(300, 15),
        race: some(300, 20),
        failing_commit: some(300, 5),
        absent: some(300, 20),
        evict: some(300, 500),
        empty_block: some(300, 400),
        censor: some(300, 300),
        spike: some(200, 100),
        clock: 0,
    }
}
