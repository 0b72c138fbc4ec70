//! What a run is like: drawn from its seed before anything happens.

use crate::rng::Rng;

/// A channel to open.
#[derive(Clone, Copy, Debug)]
pub struct ChannelPlan {
    /// Who opens it.
    pub from: usize,
    /// With whom.
    pub to: usize,
    /// Its capacity.
    pub amount_sat: u64,
    /// What the other end gets at once.
    pub push_sat: u64,
    /// Whether with anchors.
    pub anchors: bool,
    /// Whether it is closed by force at the end.
    pub force_close: Option<usize>,
}

/// A payment to make.
#[derive(Clone, Copy, Debug)]
pub struct PaymentPlan {
    /// Milliseconds after the payments begin.
    pub at: u64,
    /// Who pays.
    pub from: usize,
    /// Who is paid.
    pub to: usize,
    /// How much.
    pub amount_msat: u64,
    /// Whether the invoice leaves the amount open.
    pub amountless: bool,
}

/// How often what goes wrong, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Crash at a commit, before or after it counts.
    pub crash: u64,
    /// Disconnect after a delivered message.
    pub disconnect: u64,
    /// A block is followed by a reorganisation of up to two blocks.
    pub reorg: u64,
    /// The longest delay of a message, in milliseconds.
    pub delay: u64,
    /// The longest commit, in milliseconds.
    pub commit: u64,
    /// The longest delay of a block, in milliseconds.
    pub block_delay: u64,
    /// The longest outage after a crash, in milliseconds.
    pub outage: u64,
    /// The longest delay of an answer of signer, wallet, router or chain, in milliseconds.
    pub answer: u64,
}

/// The whole plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// Their channels.
    pub channels: Vec<ChannelPlan>,
    /// Their payments.
    pub payments: Vec<PaymentPlan>,
    /// What goes wrong while channels are opened and payments made.
    pub faults: Faults,
    /// Whether faults begin with the opens, or only with the payments.
    pub faults_at_open: bool,
    /// Milliseconds between blocks.
    pub block_interval: u64,
    /// `to_self_delay` that everybody asks for.
    pub to_self_delay: u16,
    /// When channels are closed by force in the middle of the payments: milliseconds after these begin.
    pub close_in_flight: Option<u64>,
    /// Whether faults go on while channels are closed.
    pub faults_at_close: bool,
    /// How often feerates change, in thousandths per block.
    pub feerate_change: u64,
    /// Feerates in sat per 1000 weight units: background, normal, urgent.
    pub feerates: [u32; 3],
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let rng = &mut Rng::new(seed);
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
            faults_at_close: rng.chance(500),
            feerate_change: if rng.chance(500) { 300 } else { 0 },
            feerates: [253, 500, 1_000],
        };
        if rng.chance(300) {
            let scale = u32::try_from(rng.between(2, 10)).unwrap_or(2);
            plan.feerates = plan.feerates.map(|rate| rate * scale);
        }
        plan
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
            }
        })
        .collect()
}

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
            }
        })
        .collect();
    payments.sort_by_key(|payment| payment.at);
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
    }
}
